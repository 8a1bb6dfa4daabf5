//! POSIX ACLs as extended attributes of an inode (`linux/xattr.h`).

use std::ffi::OsStr;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::{Result, xattr};

/// The attribute of a file's own ACL.
pub const ACCESS: &str = "system.posix_acl_access";
/// The attribute of the ACL that new files in a directory get.
pub const DEFAULT: &str = "system.posix_acl_default";

/// Takes an ACL from the inode, [`ACCESS`] or [`DEFAULT`]; there may be none.
///
/// # Errors
/// As `removexattr(2)`.
pub fn remove(fd: impl AsFd, acl: &str) -> Result<()> {
    let (fd, name) = (fd.as_fd(), OsStr::new(acl));
    // To look is cheaper than to remove what is not there.
    match xattr::get(fd, name, &mut []) {
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno),
        Ok(_) => {}
    }
    match xattr::remove(fd, name) {
        Err(Errno::ENODATA) => Ok(()),
        other => other,
    }
}
