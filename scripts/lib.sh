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

# Makes the root directory of a virtual machine at $1 for the kernel at $2:
# busybox, the modules that a disk with ext4 needs, and further programs.
vm_root() {
    local root=$1 kernel=$2 module program path
    shift 2
    mkdir -p "$root"/{bin,dev,proc,sys,mnt,modules}
    cp "$(command -v busybox)" "$root/bin/busybox"
    for program in "$@"; do
        path=$(command -v "$program")
        cp "$path" "$root/bin/"
        ldd "$path" | grep -o '/[^ ]*' | while read -r path; do
            mkdir -p "$root$(dirname "$path")"
            cp -L "$path" "$root$path"
        done
    done
    for module in $VM_MODULES; do
        find "$kernel/lib/modules" -name "$module.ko" -exec cp {} "$root/modules/" \;
    done
}

# In the order in which they need each other.
VM_MODULES="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk
    crc32c_generic libcrc32c crc16 mbcache jbd2 ext4 quota_tree quota_v2 fuse loop"

# Prints how the init of a virtual machine begins.
vm_init() {
    cat << INIT
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(echo $VM_MODULES); do
    test -e /modules/\$module.ko && insmod /modules/\$module.ko
done
INIT
}

# Packs the root directory $1 as the initramfs $2.
vm_pack() {
    chmod +x "$1/init"
    (cd "$1" && find . | cpio --quiet -o -H newc) > "$2"
}

# Boots kernel $1 with initramfs $2 and disk $3; what it says goes to file $4, and
# QEMU's process id to $4.pid. It ends with the script that started it.
vm_boot() {
    setpriv --pdeathsig KILL timeout 300 setpriv --pdeathsig KILL \
        qemu-system-x86_64 -accel tcg -m 512 -nographic -no-reboot -pidfile "$4.pid" \
        -kernel "$1"/boot/vmlinuz-* -initrd "$2" -append "console=ttyS0 quiet panic=-1" \
        -drive "file=$3,if=virtio,format=raw,cache=none" > "$4" 2>&1 < /dev/null
}
