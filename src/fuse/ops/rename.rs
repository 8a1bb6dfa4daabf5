//! Moving names: rename, with NOREPLACE, EXCHANGE and WHITEOUT.

use std::ffi::OsStr;

use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::{FileSystem, OpenDir, component};
use crate::fuse::node::NodeId;
use crate::fuse::root;
use crate::fuse::types::Caller;
use crate::sys::creds::Acting;
use crate::sys::node;

impl FileSystem {
    /// Renames `name` in `parent` to `new_name` in `new_parent`; `flags` are
    /// those of `renameat2(2)`.
    ///
    /// # Errors
    /// EXDEV between volumes; what the host or the store says.
    pub fn rename(
        &self,
        caller: Caller,
        (parent, name): (NodeId, &OsStr),
        (new_parent, new_name): (NodeId, &OsStr),
        flags: u32,
    ) -> OpResult<()> {
        if parent == NodeId::ROOT && new_parent == NodeId::ROOT {
            return root::rename(self, caller, name, new_name, flags);
        }
        if parent.slot() != new_parent.slot() {
            return Err(OpError::CrossVolume);
        }
        let from = self.dir_to_change(parent)?;
        let to = self.dir_to_change(new_parent)?;
        // RENAME_WHITEOUT makes a device node, which is its maker's.
        let _as = Acting::maker(caller.uid, caller.gid, 0);
        node::rename(
            &from.fd,
            component(name)?,
            &to.fd,
            component(new_name)?,
            flags,
        )?;
        if !self.host().has_handles() {
            self.note_place(&to, new_name);
            if flags & libc::RENAME_EXCHANGE != 0 {
                self.note_place(&from, name);
            }
        }
        Ok(())
    }

    /// What `name` in `dir` leads to is found there from now on.
    fn note_place(&self, dir: &OpenDir, name: &OsStr) {
        let moved = node::open_path(&dir.fd, name)
            .and_then(node::stat)
            .map_err(OpError::Host)
            .and_then(|stat| self.node_id(&dir.at.volume, &stat));
        if let Ok(moved) = moved {
            self.nodes.moved(moved, dir.at.node, name);
        }
    }
}
