//! Sharing the contents of files (`ioctl_ficlonerange(2)`).

use std::os::fd::{AsFd, AsRawFd};

use super::{Result, check};

/// `FICLONE`, `linux/fs.h`: `_IOW(0x94, 9, int)`.
const FICLONE: libc::c_ulong = 0x4004_9409;

/// Lets `to` have the whole contents of `from`, sharing its space until one of
/// them is changed.
///
/// # Errors
/// `EOPNOTSUPP`, `EINVAL`, `ENOTTY` or `EXDEV` where the file system cannot;
/// as `ioctl_ficlonerange(2)`.
pub fn reflink(to: impl AsFd, from: impl AsFd) -> Result<()> {
    // SAFETY: two live descriptors; the request takes its argument by value.
    check(unsafe {
        libc::ioctl(
            to.as_fd().as_raw_fd(),
            FICLONE as _,
            from.as_fd().as_raw_fd(),
        )
    })?;
    Ok(())
}
