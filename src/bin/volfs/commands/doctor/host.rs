//! Checks of the machine: kernel, `/dev/fuse`, mounting images.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use volfs::diskimg::Ways;

use super::Check;

/// openat2(2) with RESOLVE_BENEATH, by which nothing leads out of a volume.
const OLDEST_KERNEL: (u32, u32) = (5, 6);
/// FUSE_PASSTHROUGH.
const PASSTHROUGH_KERNEL: (u32, u32) = (6, 9);
/// FUSE_NOTIFY_RESEND.
const RESEND_KERNEL: (u32, u32) = (6, 9);

/// All of them.
pub fn checks() -> Vec<Check> {
    vec![kernel(), fuse_device(), disk_volumes()]
}

fn kernel() -> Check {
    const NAME: &str = "kernel";
    let release = match nix::sys::utsname::uname() {
        Ok(uname) => uname.release().to_string_lossy().into_owned(),
        Err(error) => return Check::ok(NAME, format!("version unknown: {error}")),
    };
    let found = format!("Linux {release}");
    match version(&release) {
        Some(version) if version < OLDEST_KERNEL => Check::missing(
            NAME,
            found,
            "volumes cannot be confined: openat2 with RESOLVE_BENEATH is not there",
            "use Linux 5.6 or later",
        ),
        Some(version) if version < PASSTHROUGH_KERNEL => Check::degraded(
            NAME,
            found,
            "reads and writes go through the daemon, which is slower: the kernel cannot pass them through",
            "use Linux 6.9 or later",
        ),
        _ => Check::ok(NAME, found),
    }
}

/// Whether the mount of the store outlives the process that serves it.
pub fn outlives(store: &Path) -> Check {
    const NAME: &str = "outlives its daemon";
    const MEANS: &str = "when the process that serves the mount dies, whoever uses the mount gets errors until it is mounted again";
    let release = nix::sys::utsname::uname()
        .map(|uname| uname.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    if version(&release).is_some_and(|version| version < RESEND_KERNEL) {
        return Check::degraded(
            NAME,
            "no: this kernel does not send requests again",
            MEANS,
            "use Linux 6.9 or later",
        );
    }
    match found_again(store) {
        Some(Ok(())) => Check::ok(NAME, "yes: another process goes on"),
        Some(Err(why)) => Check::degraded(NAME, format!("no: {why}"), MEANS, FIND_AGAIN),
        None => Check::ok(NAME, "the store is not there"),
    }
}

/// Whether file handles of the mount (`name_to_handle_at(2)`) last.
pub fn file_handles(store: &Path) -> Check {
    const NAME: &str = "handles of the mount";
    match found_again(store) {
        Some(Ok(())) => Check::ok(NAME, "last: files are found again by them"),
        Some(Err(why)) => Check::degraded(
            NAME,
            format!("do not last: {why}"),
            "NFS servers, and others that open files by handle, get ESTALE when the kernel has forgotten a file",
            FIND_AGAIN,
        ),
        None => Check::ok(NAME, "the store is not there"),
    }
}

const FIND_AGAIN: &str = "mount as root, with the store on ext4, XFS, btrfs or tmpfs";

/// Whether files of the store are found again without their names; `None` where
/// nothing can be looked at.
fn found_again(store: &Path) -> Option<Result<(), String>> {
    // A store that is made later is on the file system of what is there now.
    let there = store.ancestors().find(|dir| dir.exists())?;
    Some(volfs::fuse::why_not_outlives(there))
}

/// Major and minor number of a kernel release like `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn fuse_device() -> Check {
    const NAME: &str = "/dev/fuse";
    let error = match OpenOptions::new().read(true).write(true).open(NAME) {
        Ok(_) => return Check::ok(NAME, "can be opened"),
        Err(error) => error,
    };
    let means = "nothing can be mounted";
    match error.kind() {
        io::ErrorKind::NotFound if Path::new("/sys/fs/fuse").exists() => Check::missing(
            NAME,
            "is not there, but the kernel has FUSE",
            means,
            "pass the device into the container (--device /dev/fuse), or as root: mknod -m 666 /dev/fuse c 10 229",
        ),
        io::ErrorKind::NotFound => Check::missing(
            NAME,
            "is not there",
            means,
            "load the kernel's module as root: modprobe fuse",
        ),
        io::ErrorKind::PermissionDenied if error.raw_os_error() == Some(libc::EPERM) => {
            Check::missing(
                NAME,
                error.to_string(),
                means,
                "the container's device policy forbids it; start the container with --device /dev/fuse",
            )
        }
        io::ErrorKind::PermissionDenied => Check::missing(
            NAME,
            error.to_string(),
            means,
            "as root: chmod 666 /dev/fuse (Debian's udev rule does so at boot)",
        ),
        _ => Check::missing(
            NAME,
            error.to_string(),
            means,
            "load the kernel's module as root: modprobe fuse",
        ),
    }
}

fn disk_volumes() -> Check {
    const NAME: &str = "disk volumes";
    let ways = Ways::probe();
    let Some(why) = ways.why_not_kernel() else {
        return Check::ok(NAME, "the kernel mounts their images");
    };
    match ways.why_not_fuse2fs() {
        None => Check::degraded(
            NAME,
            format!("fuse2fs serves their files: {why}"),
            "files of disk volumes are slower, and are checked with e2fsck after a crash",
            "mount as root, with loop devices (modprobe loop, or pass /dev/loop-control and /dev/loop* into the container)",
        ),
        Some(no_fuse2fs) => Check::degraded(
            NAME,
            format!("read-only: {why}; and {no_fuse2fs}"),
            "files of disk volumes can only be read; their images can be given to virtual machines",
            "install fuse2fs (apt install fuse2fs), or mount as root, with loop devices",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions() {
        assert_eq!(version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version("6.18.44"), Some((6, 18)));
        assert_eq!(version("5.10-rc1+"), Some((5, 10)));
        assert_eq!(version("unknown"), None);
        assert!(version("5.10").unwrap() > OLDEST_KERNEL);
        assert!(version("6.10").unwrap() > PASSTHROUGH_KERNEL);
    }
}
