//! POSIX ACLs as extended attributes of an inode (`linux/xattr.h`).

use std::ffi::OsStr;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::{Result, xattr};

/// The attribute of a file's own ACL.
pub const ACCESS: &str = "system.posix_acl_access";
/// The attribute of the ACL that new files in a directory get.
pub const DEFAULT: &str = "system.posix_acl_default";

/// What a file's ACL says of who may read and write it; nobody may execute it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simple {
    /// Permission bits without an ACL; with one, what the owner, the owning
    /// group and others may.
    pub mode: u32,
    /// A user who may read and write.
    pub user: Option<u32>,
}

impl Simple {
    /// The attribute's value: a version and entries of tag, permissions and id,
    /// in this order (`linux/posix_acl_xattr.h`, `posix_acl_valid`).
    fn to_bytes(self) -> Vec<u8> {
        const VERSION: u32 = 2;
        const NO_ID: u32 = u32::MAX;
        const READ_WRITE: u32 = 6;
        // ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_MASK, ACL_OTHER
        let user = self.user.map(|id| (0x02, READ_WRITE, id));
        let mask = self.user.map(|_| (0x10, READ_WRITE, NO_ID));
        let entries = [
            Some((0x01, self.mode >> 6, NO_ID)),
            user,
            Some((0x04, self.mode >> 3, NO_ID)),
            mask,
            Some((0x20, self.mode, NO_ID)),
        ];
        let mut value = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries.into_iter().flatten() {
            value.extend(u16::to_le_bytes(tag));
            value.extend(((permissions & 7) as u16).to_le_bytes());
            value.extend(u32::to_le_bytes(id));
        }
        value
    }
}

/// The value of an inode's own ACL; `None` when it has none.
///
/// # Errors
/// As `getxattr(2)`: `EOPNOTSUPP` where there are no ACLs.
pub fn get(fd: impl AsFd) -> Result<Option<Vec<u8>>> {
    let name = OsStr::new(ACCESS);
    let mut value = vec![0; xattr::MOST];
    match xattr::get(fd, name, &mut value) {
        Ok(len) => {
            value.truncate(len);
            Ok(Some(value))
        }
        Err(Errno::ENODATA) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Sets an inode's own ACL to a value that [`get`] has returned. The mode
/// follows in the same step.
///
/// # Errors
/// As `setxattr(2)`.
pub fn set(fd: impl AsFd, value: &[u8]) -> Result<()> {
    xattr::set(fd, OsStr::new(ACCESS), value, 0)
}

/// Sets an inode's own ACL. One that says no more than a mode is set as the
/// mode, and the ACL is gone in the same step: at no time is there what neither
/// of the two says.
///
/// # Errors
/// As `setxattr(2)`.
pub fn set_simple(fd: impl AsFd, acl: Simple) -> Result<()> {
    set(fd, &acl.to_bytes())
}

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
