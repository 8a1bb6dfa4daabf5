//! Extended attributes: getxattr, setxattr, listxattr, removexattr.
//!
//! `volfs.*` of a volume's root are its properties; all others are the host's.

use std::ffi::OsStr;

use nix::errno::Errno;

use crate::fuse::error::OpResult;
use crate::fuse::fs::FileSystem;
use crate::fuse::node::NodeId;
use crate::fuse::property;
use crate::fuse::types::Caller;
use crate::sys::creds::Acting;
use crate::sys::xattr;

/// `XATTR_LIST_MAX`, `linux/limits.h`.
const LIST_MAX: usize = 64 << 10;

impl FileSystem {
    /// The value of attribute `name`, into `buffer`; returns its length. With
    /// an empty buffer, the length that it would take.
    ///
    /// # Errors
    /// ENODATA, ERANGE.
    pub fn getxattr(&self, node: NodeId, name: &OsStr, buffer: &mut [u8]) -> OpResult<usize> {
        if node.slot().is_none() {
            return Err(Errno::ENODATA.into());
        }
        if property::is_property(name) {
            return fit(property::get(self, node, name)?.as_bytes(), buffer);
        }
        if self.rests_without_attributes(node) || self.view_of(node)?.is_some() {
            return Err(Errno::ENODATA.into());
        }
        let (_, fd) = self.open_node(node)?;
        Ok(xattr::get(fd, name, buffer)?)
    }

    /// Sets attribute `name`; `flags` are those of `setxattr(2)`.
    ///
    /// # Errors
    /// What the host says; EPERM for properties, unless the caller is root or
    /// the daemon's user.
    pub fn setxattr(
        &self,
        caller: Caller,
        node: NodeId,
        name: &OsStr,
        value: &[u8],
        flags: i32,
    ) -> OpResult<()> {
        if node.slot().is_none() {
            return Err(Errno::EPERM.into());
        }
        if property::is_property(name) {
            return property::set(self, caller, node, name, Some(value));
        }
        let (_, fd) = self.open_node(node)?;
        // An access ACL can change the mode: set-group-id goes, as with
        // chmod, for a caller who is not in the group.
        let _as = if name == "system.posix_acl_access" {
            self.as_owner(caller, &fd)?
        } else {
            Acting::daemon()
        };
        Ok(xattr::set(fd, name, value, flags)?)
    }

    /// The names of all attributes, each ended by a zero byte, into `buffer`;
    /// returns how many bytes. With an empty buffer, how many it would take.
    ///
    /// # Errors
    /// ERANGE.
    pub fn listxattr(&self, caller: Caller, node: NodeId, buffer: &mut [u8]) -> OpResult<usize> {
        if node.slot().is_none() {
            return Ok(0);
        }
        if self.rests_without_attributes(node) || self.view_of(node)?.is_some() {
            return Ok(0);
        }
        let (_, fd) = self.open_node(node)?;
        let mut list = vec![0; LIST_MAX];
        let len = xattr::list(fd, &mut list)?;
        list.truncate(len);
        // The host shows trusted.* to CAP_SYS_ADMIN only, which we have.
        if !caller.is_root() {
            list = list
                .split_inclusive(|&byte| byte == 0)
                .filter(|name| !name.starts_with(b"trusted."))
                .flatten()
                .copied()
                .collect();
        }
        fit(&list, buffer)
    }

    /// Removes attribute `name`; of a property, what was set.
    ///
    /// # Errors
    /// ENODATA; as [`setxattr`](Self::setxattr).
    pub fn removexattr(&self, caller: Caller, node: NodeId, name: &OsStr) -> OpResult<()> {
        if node.slot().is_none() {
            return Err(Errno::EPERM.into());
        }
        if property::is_property(name) {
            return property::set(self, caller, node, name, None);
        }
        let (_, fd) = self.open_node(node)?;
        let _as = Acting::daemon();
        Ok(xattr::remove(fd, name)?)
    }
}

/// Copies `value` into `buffer`, or says how long it is.
fn fit(value: &[u8], buffer: &mut [u8]) -> OpResult<usize> {
    if !buffer.is_empty() {
        buffer
            .get_mut(..value.len())
            .ok_or(Errno::ERANGE)?
            .copy_from_slice(value);
    }
    Ok(value.len())
}
