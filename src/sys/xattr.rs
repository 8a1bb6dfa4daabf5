//! Extended attributes of an inode that is held by an `O_PATH` descriptor.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use super::node::proc_path;
use super::{Result, check};

/// The longest value (`XATTR_SIZE_MAX`, linux/limits.h).
pub const MOST: usize = 65536;

fn paths(fd: BorrowedFd<'_>, name: &OsStr) -> Result<(CString, CString)> {
    let path = CString::new(proc_path(fd).as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
    Ok((path, name))
}

/// The value of attribute `name`, into `buffer`; returns its length. With an
/// empty buffer, the length that it would take.
///
/// # Errors
/// As `getxattr(2)`: `ENODATA`, `ERANGE`.
pub fn get(fd: impl AsFd, name: &OsStr, buffer: &mut [u8]) -> Result<usize> {
    let (path, name) = paths(fd.as_fd(), name)?;
    // SAFETY: two C strings, and a live buffer of the given length.
    let len = check(unsafe {
        libc::getxattr(
            path.as_ptr(),
            name.as_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    })?;
    Ok(len.unsigned_abs())
}

/// Sets attribute `name`; `flags` is `XATTR_CREATE`, `XATTR_REPLACE` or 0.
///
/// # Errors
/// As `setxattr(2)`.
pub fn set(fd: impl AsFd, name: &OsStr, value: &[u8], flags: i32) -> Result<()> {
    let (path, name) = paths(fd.as_fd(), name)?;
    // SAFETY: two C strings, and a live value of the given length.
    check(unsafe {
        libc::setxattr(
            path.as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            flags,
        )
    })?;
    Ok(())
}

/// The names of all attributes, each ended by a zero byte, into `buffer`;
/// returns how many bytes. With an empty buffer, how many it would take.
///
/// # Errors
/// As `listxattr(2)`: `ERANGE`.
pub fn list(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    let (path, _) = paths(fd.as_fd(), OsStr::new(""))?;
    // SAFETY: a C string, and a live buffer of the given length.
    let len =
        check(unsafe { libc::listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) })?;
    Ok(len.unsigned_abs())
}

/// Removes attribute `name`.
///
/// # Errors
/// As `removexattr(2)`: `ENODATA`.
pub fn remove(fd: impl AsFd, name: &OsStr) -> Result<()> {
    let (path, name) = paths(fd.as_fd(), name)?;
    // SAFETY: two C strings.
    check(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) })?;
    Ok(())
}
