//! Extended attributes: getxattr, setxattr, listxattr, removexattr.
//!
//! `volfs.*` of a volume's root are its properties; all others are the host's.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use crate::failpoint;
use crate::fuse::charge::check_writable;
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::FileSystem;
use crate::fuse::live::journal;
use crate::fuse::node::NodeId;
use crate::fuse::property;
use crate::fuse::root;
use crate::fuse::types::Caller;
use crate::meta::ATTRIBUTES_MOST;
use crate::sys::creds::Acting;
use crate::sys::xattr;

/// `XATTR_LIST_MAX`, `linux/limits.h`.
const LIST_MAX: usize = 64 << 10;

/// File capabilities (capabilities(7)). The kernel asks for them once per inode
/// before it writes (`cap_inode_need_killpriv`, security/commoncap.c).
const CAPABILITY: &str = "security.capability";

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
        if name == CAPABILITY
            && self
                .handles
                .inode(node)
                .is_some_and(|it| it.lacks_capability())
        {
            return Err(Errno::ENODATA.into());
        }
        if root::is_missing(node) || self.rests_without_attributes(node) {
            return Err(Errno::ENODATA.into());
        }
        if let Some((_, view)) = self.view_of(node)? {
            return fit(&Self::view_attribute(&view, node, name)?, buffer);
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
        if name == CAPABILITY
            && let Some(inode) = self.handles.inode(node)
        {
            inode.set_lacks_capability(false);
        }
        let (at, fd) = self.open_node(node)?;
        check_writable(&at.volume)?;
        if at.volume.is_limited_in_bytes() {
            check_size(&fd, name, value)?;
        }
        // An access ACL can change the mode: set-group-id goes, as with
        // chmod, for a caller who is not in the group.
        if flags & libc::XATTR_CREATE != 0 {
            let is_there = xattr::get(&fd, name, &mut []).is_ok();
            if is_there && self.found_attribute() == Some(false) {
                // By this request, before the process that served it died.
                return Ok(());
            }
            journal::intend_one(node, name, u64::from(is_there));
        }
        let _as = if name == "system.posix_acl_access" {
            self.as_owner(caller, &fd)?
        } else {
            Acting::daemon()
        };
        failpoint::hit("live.setxattr.intent");
        xattr::set(fd, name, value, flags)?;
        failpoint::hit("live.setxattr.host");
        Ok(())
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
        if self.rests_without_attributes(node) {
            return Ok(0);
        }
        if let Some((_, view)) = self.view_of(node)? {
            return fit(&Self::view_attribute_names(&view, node)?, buffer);
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
        let (at, fd) = self.open_node(node)?;
        check_writable(&at.volume)?;
        let _as = Acting::daemon();
        let is_there = xattr::get(&fd, name, &mut []).is_ok();
        if !is_there && self.found_attribute() == Some(true) {
            // By this request, before the process that served it died.
            return Ok(());
        }
        journal::intend_one(node, name, u64::from(is_there));
        failpoint::hit("live.removexattr.intent");
        xattr::remove(fd, name)?;
        failpoint::hit("live.removexattr.host");
        Ok(())
    }
}

/// Whether an inode may have this attribute besides those that it has. Exact:
/// the kernel locks the inode for changes of its attributes.
fn check_size(fd: impl AsFd, name: &OsStr, value: &[u8]) -> OpResult<()> {
    let mut list = vec![0; LIST_MAX];
    let len = xattr::list(fd.as_fd(), &mut list)?;
    let mut others = 0;
    let mut own = 0;
    for other in list[..len]
        .split(|&byte| byte == 0)
        .filter(|it| !it.is_empty())
    {
        let other = OsStr::from_bytes(other);
        let size = other.len() + xattr::get(fd.as_fd(), other, &mut [])?;
        if other == name {
            own = size;
        } else {
            others += size;
        }
    }
    let new = name.len() + value.len();
    // What was there before there was a quota may stay, and may shrink.
    if others + new > ATTRIBUTES_MOST && new > own {
        return Err(OpError::Attributes {
            most: ATTRIBUTES_MOST,
        });
    }
    Ok(())
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
