# Shared by the scripts here: installing Debian packages, and saying what goes on.
# Sourced, not run.

# Runs a command as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo > /dev/null; then
        sudo "$@"
    else
        echo "this needs root: $*" >&2
        return 1
    fi
}

# Installs the Debian packages that are missing.
# Arguments: pairs of a command (or an absolute path) and the package that has it.
need() {
    local missing=()
    while [ $# -gt 0 ]; do
        case $1 in
            /*) [ -e "$1" ] || missing+=("$2") ;;
            *) command -v "$1" > /dev/null || [ -x "/usr/sbin/$1" ] || missing+=("$2") ;;
        esac
        shift 2
    done
    [ ${#missing[@]} = 0 ] && return
    echo "installing: ${missing[*]}"
    if ! command -v apt-get > /dev/null; then
        echo "there is no apt-get here; install these by hand: ${missing[*]}" >&2
        return 1
    fi
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "${missing[@]}" > /dev/null
}

# Fails early when there is no Rust toolchain.
need_cargo() {
    if ! command -v cargo > /dev/null; then
        echo "cargo is not in PATH; install the Rust toolchain first (see rust-version in Cargo.toml)" >&2
        return 1
    fi
}

# Prints the directory of an unpacked Debian cloud kernel (boot/, lib/modules/),
# downloaded into target/vm the first time.
vm_kernel() {
    local package dir=target/vm/kernel
    if [ ! -e "$dir/done" ]; then
        mkdir -p "$dir"
        package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1)
        (cd "$dir" && apt-get download -qq "$package" && dpkg -x ./*.deb . && rm -f ./*.deb) >&2
        touch "$dir/done"
    fi
    realpath "$dir"
}
