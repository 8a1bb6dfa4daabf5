//! Nodes that the kernel asks for by nothing but their ids: those of file handles
//! (`open_by_handle_at(2)`, NFS servers) whose inodes it has forgotten. With
//! FUSE_EXPORT_SUPPORT it looks up `.` in such a node, and `..` in a directory to
//! find the way down to it from the root (`fuse_get_dentry` and `fuse_get_parent`,
//! fs/fuse/inode.c). It compares the generation itself, after the answer.
//!
//! Whoever may open by handle writes the id: it is any number. What it says is
//! believed only of a node that the kernel had been told of before; any other is
//! looked for in the volume that it names, and answered when it is found there.

mod inside;
mod search;

pub(super) use search::Places;

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::error::{OpError, OpResult};
use super::fs::{FileSystem, Located};
use super::node::{Generation, NodeId};
use super::resting::root_node;
use super::types::{Entry, Found};
use super::{control_tree, root};
use crate::model::Kind;
use crate::sys::creds::Acting;
use crate::sys::node;
use crate::volume::Volume;

const STALE: OpError = OpError::Host(Errno::ESTALE);

impl FileSystem {
    /// Whether the kernel may ask for nodes by their ids: all that directory
    /// volumes have are found again by them.
    pub(super) fn finds_by_id(&self) -> bool {
        self.host().makes_handles()
    }

    /// Whether the answer to a lookup may take a search.
    pub(super) fn may_search(&self, node: NodeId, name: &OsStr) -> bool {
        name == "." && node.slot().is_some() && self.nodes.way(node).is_none()
    }

    /// What `.` in `node` leads to.
    ///
    /// # Errors
    /// ESTALE when there is no such node.
    pub(super) fn node_itself(&self, node: NodeId) -> OpResult<Found> {
        let entry = self.entry_by_id(node)?;
        if entry.attr.node == node {
            return Ok(Found::Entry(entry));
        }
        self.nodes.not_told(entry.attr.node);
        Err(STALE)
    }

    fn entry_by_id(&self, node: NodeId) -> OpResult<Entry> {
        if node == NodeId::ROOT {
            return Ok(self.root_entry());
        }
        if node.slot().is_none() {
            return control_tree::entry_of(self, node);
        }
        let _as = Acting::daemon();
        let volume = self.volume_of(node)?;
        if self.is_root_of(node, &volume)? {
            return self.volume_entry(&volume);
        }
        if let Some((volume, view)) = self.view_of(node)? {
            return self.view_entry_of(&volume, &view, node);
        }
        // The kernel knows it, unless it has just dropped it.
        if self.nodes.gone(node).is_some() {
            return Err(STALE);
        }
        let at = self.locate(node)?;
        let fd = self.open_by_id(&at)?;
        // The place is not needed where there are handles.
        self.entry(&at.volume, &at.ground, node, OsStr::new("."), fd)
    }

    /// What `..` in the directory `node` leads to: never above the mount's root.
    ///
    /// # Errors
    /// ESTALE when there is no such directory.
    pub(super) fn parent_of(&self, node: NodeId) -> OpResult<Found> {
        if node == NodeId::ROOT {
            return Ok(Found::Entry(self.root_entry()));
        }
        let Some(slot) = node.slot() else {
            return match control_tree::parent_of(node) {
                Some(NodeId::ROOT) => Ok(Found::Entry(self.root_entry())),
                Some(parent) => control_tree::entry_of(self, parent).map(Found::Entry),
                None => Err(STALE),
            };
        };
        let _as = Acting::daemon();
        let volume = self.volume_of(node)?;
        if self.is_root_of(node, &volume)? {
            return Ok(Found::Entry(self.root_entry()));
        }
        if let Some((volume, view)) = self.view_of(node)? {
            let parent = view.parent(node)?;
            let entry = if parent == root_node(slot)? {
                self.volume_entry(&volume)
            } else {
                self.view_entry_of(&volume, &view, parent)
            };
            return entry.map(Found::Entry);
        }
        let at = self.locate(node)?;
        let dir = self.open_by_id(&at)?;
        let top = node::stat(at.ground.root_of(&at.volume)?)?;
        let above = inside::parent(&dir)?;
        if inside::same(&node::stat(&above)?, &top) {
            return self.volume_entry(&volume).map(Found::Entry);
        }
        if !inside::is_below(&above, &top)? {
            return Err(STALE);
        }
        let entry = self.entry(&at.volume, &at.ground, node, OsStr::new(".."), above)?;
        Ok(Found::Entry(entry))
    }

    /// Opens (`O_PATH`) the inode of a node that is not a volume's root.
    fn open_by_id(&self, at: &Located) -> OpResult<OwnedFd> {
        if !at.ground.host().makes_handles() {
            return Err(STALE);
        }
        let fd = match (self.nodes.way(at.node), at.volume.kind) {
            (Some(_), _) => self.open_located(at, OFlag::O_PATH)?,
            // All that is in an image is the volume's.
            (None, Kind::Disk) => at.ground.host().open(at.node.ino(), None, OFlag::O_PATH)?,
            (None, Kind::Directory) => self.look_for(at)?,
        };
        if node::stat(&fd)?.st_nlink == 0 {
            return Err(STALE);
        }
        Ok(fd)
    }

    /// Finds an inode that nothing but its number is known of, in its volume.
    fn look_for(&self, at: &Located) -> OpResult<OwnedFd> {
        let (host, ino) = (at.ground.host(), at.node.ino());
        let root = at.ground.root_of(&at.volume)?;
        if host.opens_by_number() {
            let fd = host.open(ino, None, OFlag::O_PATH)?;
            let stat = node::stat(&fd)?;
            if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
                let top = node::stat(&root)?;
                return inside::is_below(&fd, &top)?.then_some(fd).ok_or(STALE);
            }
            if stat.st_nlink == 0 {
                return Err(STALE);
            }
            if let Some(found) = inside::by_known_path(&fd, &root, at.volume.id, &stat) {
                return Ok(found);
            }
        }
        self.places.find(&at.volume, &root, host, ino.0)
    }

    /// Whether `node` is the root directory of `volume`.
    fn is_root_of(&self, node: NodeId, volume: &Volume) -> OpResult<bool> {
        match self.volume_root_without_attaching(volume) {
            Ok(Some(root)) => Ok(node::stat(root)?.st_ino == node.ino().0),
            Ok(None) => Ok(node == root_node(volume.slot)?),
            // Its files are missing.
            Err(OpError::Host(Errno::ENOENT)) => Ok(root::is_missing(node)),
            Err(error) => Err(error),
        }
    }

    fn volume_entry(&self, volume: &Volume) -> OpResult<Entry> {
        root::volume_entry(self, volume, OsStr::new(volume.name().as_str()))
    }

    fn root_entry(&self) -> Entry {
        Entry {
            attr: root::attr(self),
            generation: Generation::FIXED,
            keep_attr: false,
        }
    }
}
