//! An open, from the question how the inode is open already to the handle.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::fcntl::OFlag;
use parking_lot::Mutex;

use super::{ByNode, Descriptor, Handle, HandleFile, Handles, Mode};
use crate::fuse::ground::Ground;
use crate::fuse::live::{PastHandle, WayIn, journal};
use crate::fuse::node::NodeId;
use crate::fuse::types::{DataPath, Fh};
use crate::volume::Volume;

/// A file that is being opened.
pub(in crate::fuse) struct NewHandle {
    /// The volume that it is in.
    pub(in crate::fuse) volume: Arc<Volume>,
    /// What the volume stands on.
    pub(in crate::fuse) ground: Arc<Ground>,
    /// The flags that the caller opened it with.
    pub(in crate::fuse) flags: OFlag,
    /// The host's file, unless the kernel uses that by itself.
    pub(in crate::fuse) file: Option<Arc<Descriptor>>,
    /// Its size now, with its size lock held.
    pub(in crate::fuse) size: u64,
    /// Its generation on the host, where a successor needs that to find it.
    pub(in crate::fuse) generation: Option<u32>,
    /// The process that opens it, where that matters.
    pub(in crate::fuse) process: Option<u32>,
}

/// An open that has not been decided yet. While it lives no other open or
/// close of the inode goes on; dropped without [`commit`](Opening::commit),
/// nothing was opened.
pub struct Opening<'a> {
    pub(super) handles: &'a Handles,
    pub(super) node: NodeId,
    pub(super) shard: parking_lot::MutexGuard<'a, ByNode>,
}

impl Opening<'_> {
    /// How the inode is open now.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self.shard.get(&self.node) {
            Some(inode) => inode.mode(),
            None => Mode::Closed,
        }
    }

    /// The descriptor with these flags of the host that handles of the inode share.
    pub(in crate::fuse) fn descriptor(&self, flags: OFlag) -> Option<Arc<Descriptor>> {
        self.shard.get(&self.node)?.descriptor(flags)
    }

    /// The inode is open once more, with this data path.
    pub(in crate::fuse) fn commit(self, new: NewHandle, path: &DataPath) -> Fh {
        let fh = Fh(self.handles.next.fetch_add(1, Ordering::Relaxed));
        self.commit_as(fh, new, path);
        fh
    }

    /// As [`commit`](Self::commit), with the handle that an earlier process has
    /// given out.
    pub(in crate::fuse) fn commit_as(mut self, fh: Fh, new: NewHandle, path: &DataPath) {
        let (handles, node, flags) = (self.handles, self.node, new.flags);
        let inode = Arc::clone(self.shard.entry(node).or_default());
        inode.open(&handles.live, node, &new, path);
        if let DataPath::Passthrough(_) = path {
            handles.passthrough.fetch_add(1, Ordering::Relaxed);
        }
        journal::opened(fh);
        let record = handles.live.handle_record(&PastHandle {
            fh,
            node,
            flags,
            way: match path {
                DataPath::Cached { .. } => WayIn::Cached,
                DataPath::Direct(_) => WayIn::Direct,
                DataPath::Passthrough(_) => WayIn::Passthrough,
            },
            process: new.process,
        });
        let handle = Arc::new(Handle {
            node,
            volume: new.volume,
            ground: new.ground,
            flags,
            file: new.file.map(HandleFile::new),
            inode,
            record: Mutex::new(record),
        });
        handles.shard(fh).write().insert(fh, handle);
        handles.len.fetch_add(1, Ordering::Relaxed);
    }
}
