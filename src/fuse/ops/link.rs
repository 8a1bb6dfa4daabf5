//! Another name for a node: link.

use std::ffi::OsStr;

use crate::failpoint;
use crate::fuse::disks::lost_found;
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::{FileSystem, component};
use crate::fuse::live::journal;
use crate::fuse::naming::Grows;
use crate::fuse::node::NodeId;
use crate::fuse::types::Entry;
use crate::model::Usage;
use crate::sys::node;

impl FileSystem {
    /// Gives `node` the name `name` in `parent`.
    ///
    /// # Errors
    /// EXDEV when they are in different volumes; what the host says.
    pub fn link(&self, node: NodeId, parent: NodeId, name: &OsStr) -> OpResult<Entry> {
        let dir = self.dir_to_change(parent)?;
        if node.slot() != parent.slot() {
            return Err(OpError::CrossVolume);
        }
        lost_found::check_new(&dir.at, name)?;
        if self.nodes.gone(node).is_some() {
            return Err(nix::errno::Errno::ENOENT.into());
        }
        let (_, fd) = self.open_node(node)?;
        if !self.is_linked_already(&dir, name, node)? {
            let mut naming = self.naming(&dir, None, None)?;
            let added = Grows::Added(component(name)?);
            let room = naming.reserve(Usage::default(), added, Grows::Never)?;
            journal::intend((parent, name), (node, OsStr::new("")), 0);
            failpoint::hit("live.link.intent");
            node::link(&fd, &dir.fd, name)?;
            self.places.name_moved();
            drop((naming, room));
        }
        failpoint::hit("live.link.host");
        self.entry(&dir.at.volume, &dir.at.ground, parent, name, fd)
    }
}
