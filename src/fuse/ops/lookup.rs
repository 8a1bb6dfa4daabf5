//! From a name to a node, and back to nothing: lookup, forget, readlink.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use crate::fuse::disks::lost_found;
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::{FileSystem, component};
use crate::fuse::node::NodeId;
use crate::fuse::types::{Entry, Found};
use crate::fuse::{control_tree, root};
use crate::sys::node;

impl FileSystem {
    /// What `name` in the directory `parent` leads to; `.` and `..` too.
    ///
    /// # Errors
    /// What the host says to `openat2(2)`; ENAMETOOLONG.
    pub fn lookup(&self, parent: NodeId, name: &OsStr) -> OpResult<Found> {
        match name.as_bytes() {
            b"." => return self.node_itself(parent),
            b".." => return self.parent_of(parent),
            _ => {}
        }
        if parent == NodeId::ROOT {
            return root::lookup(self, name);
        }
        if parent.slot().is_none() {
            return control_tree::lookup(self, parent, name);
        }
        if let Some((volume, view)) = self.view_of(parent)? {
            return self.view_lookup(&volume, &view, parent, component(name)?);
        }
        let dir = self.open_dir(parent)?;
        let name = component(name)?;
        if lost_found::is_hidden(&dir.at, &dir.fd, name) {
            // Not for the kernel to keep: a check of the image may put files there.
            return Err(Errno::ENOENT.into());
        }
        loop {
            let removals = self.nodes.removals();
            let fd = match node::open_path(&dir.fd, name) {
                Ok(fd) => fd,
                Err(Errno::ENOENT) => return Ok(Found::Nothing),
                Err(errno) => return Err(OpError::Host(errno)),
            };
            let entry = self.entry(&dir.at.volume, &dir.at.ground, parent, name, &fd)?;
            // The kernel asks for a name that it has without a lock on its directory
            // (`fuse_dentry_revalidate`, fs/fuse/dir.c). Whoever has taken the last
            // name of the inode away before the node was known holds it for nobody.
            let named = || {
                node::shape(&fd).is_ok_and(|shape| shape.links > 0)
                    && node::open_path(&dir.fd, name)
                        .and_then(node::stat)
                        .is_ok_and(|stat| stat.st_ino == entry.attr.node.ino().0)
            };
            if self.nodes.removals() == removals || named() {
                return Ok(Found::Entry(entry));
            }
            self.nodes.not_told(entry.attr.node);
        }
    }

    /// The kernel has dropped `count` lookups of `node`.
    pub fn forget(&self, node: NodeId, count: u64) {
        self.nodes.forget(node, count);
    }

    /// The target of the symbolic link `node`, into `buffer`; returns its
    /// length.
    ///
    /// # Errors
    /// What the host says to `readlinkat(2)`.
    pub fn readlink(&self, node: NodeId, buffer: &mut [u8]) -> OpResult<usize> {
        if let Some((_, view)) = self.view_of(node)? {
            let target = view.read_link(node)?;
            let len = target.len().min(buffer.len());
            buffer[..len].copy_from_slice(&target[..len]);
            return Ok(len);
        }
        let (_, fd) = self.open_node(node)?;
        Ok(node::read_link(fd, buffer)?)
    }
}

/// The reply that says that a name does not exist, for the kernel to keep.
pub(in crate::fuse) fn no_entry() -> Entry {
    let mut entry = super::list::dots_entry(NodeId::NONE);
    entry.keep_attr = true;
    entry
}
