//! Taking names away: unlink, rmdir.

use std::ffi::OsStr;

use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::fuse::error::OpResult;
use crate::fuse::fs::{FileSystem, component};
use crate::fuse::node::NodeId;
use crate::fuse::root;
use crate::fuse::types::Caller;
use crate::sys::creds::Acting;

impl FileSystem {
    /// Removes a name of a file. The file lives on while it is open.
    ///
    /// # Errors
    /// What the host says; EPERM at the root of the mount.
    pub fn unlink(&self, parent: NodeId, name: &OsStr) -> OpResult<()> {
        let dir = self.dir_to_change(parent)?;
        let _as = Acting::daemon();
        unlinkat(&dir.fd, component(name)?, UnlinkatFlags::NoRemoveDir)?;
        Ok(())
    }

    /// Removes an empty directory; at the root of the mount, a volume.
    ///
    /// # Errors
    /// What the host or the store says.
    pub fn rmdir(&self, caller: Caller, parent: NodeId, name: &OsStr) -> OpResult<()> {
        if parent == NodeId::ROOT {
            return root::rmdir(self, caller, name);
        }
        let dir = self.dir_to_change(parent)?;
        let _as = Acting::daemon();
        unlinkat(&dir.fd, component(name)?, UnlinkatFlags::RemoveDir)?;
        Ok(())
    }
}
