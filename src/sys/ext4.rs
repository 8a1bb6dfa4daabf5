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
