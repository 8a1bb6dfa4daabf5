//! What ext4 offers of a mounted file system beside the usual: ext4(5), and
//! `Documentation/ABI/testing/sysfs-fs-ext4`.

use std::os::fd::{AsFd, AsRawFd};

use super::{Result, check};

/// `EXT4_IOC_RESIZE_FS`: `_IOW('f', 16, __u64)`, fs/ext4/ext4.h.
const RESIZE: libc::Ioctl = 0x4008_6610_u32 as libc::Ioctl;

/// Grows the file system that `dir` is on to `blocks` blocks while it is in
/// use.
///
/// # Errors
/// `EPERM` without CAP_SYS_RESOURCE; as `ioctl(2)`.
pub fn resize(dir: impl AsFd, blocks: u64) -> Result<()> {
    // SAFETY: the kernel reads one u64 from a live variable.
    check(unsafe { libc::ioctl(dir.as_fd().as_raw_fd(), RESIZE, &raw const blocks) }).map(drop)
}

/// `FS_IOC_GETFLAGS` and `FS_IOC_SETFLAGS`, linux/fs.h. The kernel reads and writes
/// an int, whatever the number says.
const GET_FLAGS: libc::Ioctl = libc::FS_IOC_GETFLAGS as libc::Ioctl;
const SET_FLAGS: libc::Ioctl = libc::FS_IOC_SETFLAGS as libc::Ioctl;
/// `FS_TOPDIR_FL`, linux/fs.h: `chattr +T`.
const TOPDIR: libc::c_int = 0x0002_0000;

/// Directories that are made in `dir` from now on have nothing to do with each
/// other: ext4 gives each a block group of its own (Orlov), as it does in the root.
///
/// # Errors
/// `EOPNOTSUPP` and `ENOTTY` on other file systems; `EPERM`, `EROFS`.
pub fn spread_subdirectories(dir: impl AsFd) -> Result<()> {
    let mut flags: libc::c_int = 0;
    let fd = dir.as_fd().as_raw_fd();
    // SAFETY: the kernel writes one int to a live variable.
    check(unsafe { libc::ioctl(fd, GET_FLAGS, &raw mut flags) })?;
    if flags & TOPDIR != 0 {
        return Ok(());
    }
    flags |= TOPDIR;
    // SAFETY: the kernel reads one int from a live variable.
    check(unsafe { libc::ioctl(fd, SET_FLAGS, &raw const flags) }).map(drop)
}

/// Errors that ext4 has found in the file system on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// How many, as the file system itself has counted.
    pub count: u64,
    /// The function of the kernel that found the last one; empty when the
    /// kernel does not tell.
    pub last_in: String,
}

/// The errors of the mounted file system on block device `name` (`loop3`);
/// `None` where sysfs does not tell.
#[must_use]
pub fn errors(name: &str) -> Option<Errors> {
    let read = |what: &str| std::fs::read_to_string(format!("/sys/fs/ext4/{name}/{what}")).ok();
    let count = read("errors_count")?.trim().parse().ok()?;
    Some(Errors {
        count,
        last_in: read("last_error_func")
            .unwrap_or_default()
            .trim()
            .to_owned(),
    })
}
