//! Open files: the handles that the kernel holds, and what is known of an
//! inode while it has any.
//!
//! A file that the kernel reads and writes by itself needs no descriptor here;
//! calls that need one open it by its node.

mod descriptor;
mod inode;
mod opening;
mod share;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use nix::fcntl::OFlag;
use parking_lot::{Mutex, RwLock};

pub(super) use self::descriptor::Descriptor;
pub use self::descriptor::HandleFile;
use self::inode::Last;
pub use self::inode::{Mode, OpenInode};
pub(super) use self::opening::NewHandle;
pub use self::opening::Opening;
pub(super) use self::share::Share;
use self::share::Shares;
use super::ground::Ground;
use super::live::{HandleRecord, Live};
use super::node::NodeId;
use super::reclaim::Reclaim;
use super::types::{DataPath, Fh};
use crate::failpoint;
use crate::keeper::Place;
use crate::model::Slot;
use crate::volume::Volume;

const SHARDS: usize = 16;

/// An open file.
pub struct Handle {
    /// Its node.
    pub node: NodeId,
    /// The volume that it is in.
    pub volume: Arc<Volume>,
    /// What the volume stands on, which stays for as long as the file is open.
    pub(super) ground: Arc<Ground>,
    /// The flags that the caller opened it with.
    pub flags: OFlag,
    /// The host's file; `None` while the kernel uses that by itself.
    pub file: Option<HandleFile>,
    /// What all handles of the inode share.
    pub inode: Arc<OpenInode>,
    /// Tells a successor. Gone before the inode's own.
    record: Mutex<Option<HandleRecord>>,
}

impl Handle {
    /// The way to its contents; `keep` says whether cached pages are good.
    pub(super) fn path(&self, keep: bool) -> DataPath {
        self.inode.path(self.file.is_some(), keep)
    }

    /// Whether it can be written to.
    #[must_use]
    pub fn writes(&self) -> bool {
        can_write(self.flags)
    }
}

/// Whether a file opened with `flags` can be written to.
#[must_use]
pub fn can_write(flags: OFlag) -> bool {
    flags & OFlag::O_ACCMODE != OFlag::O_RDONLY
}

/// Whether a file opened with `flags` can be mapped shared and written to; the
/// kernel wants both rights for that (mmap(2), EACCES).
#[must_use]
pub fn can_map(flags: OFlag) -> bool {
    flags & OFlag::O_ACCMODE == OFlag::O_RDWR
}

type ByFh = HashMap<Fh, Arc<Handle>>;
type ByNode = HashMap<NodeId, Arc<OpenInode>>;

/// All open files.
pub struct Handles {
    by_fh: Box<[RwLock<ByFh>]>,
    /// Locked before an [`OpenInode`]'s state.
    by_node: Box<[Mutex<ByNode>]>,
    next: AtomicU64,
    len: AtomicUsize,
    passthrough: AtomicUsize,
    shares: Arc<Shares>,
    live: Arc<Live>,
    /// Tells who finds no room what is open without a name.
    reclaim: Arc<Reclaim>,
}

impl Handles {
    /// No open files; a successor finds those that come through `live`.
    pub(super) fn new(live: Arc<Live>, reclaim: Arc<Reclaim>) -> Self {
        Self {
            by_fh: (0..SHARDS).map(|_| RwLock::default()).collect(),
            by_node: (0..SHARDS).map(|_| Mutex::default()).collect(),
            next: AtomicU64::new(live.first_handle()),
            len: AtomicUsize::new(0),
            passthrough: AtomicUsize::new(0),
            shares: Arc::new(Shares::new()),
            live,
            reclaim,
        }
    }
}

/// What a close left behind.
pub struct Closed {
    /// It was the last of an inode that has no name any more.
    pub last_of_unlinked: bool,
    /// It was the last that could write through a mapping.
    pub last_mapper: bool,
    /// What kept the inode for a successor.
    pub(super) kept: Option<Place>,
}

impl Handles {
    fn shard(&self, fh: Fh) -> &RwLock<ByFh> {
        &self.by_fh[(fh.0 % SHARDS as u64) as usize]
    }

    fn node_shard(&self, node: NodeId) -> &Mutex<ByNode> {
        &self.by_node[(node.raw() % SHARDS as u64) as usize]
    }

    /// The descriptors of open files.
    pub(super) fn shares(&self) -> &Arc<Shares> {
        &self.shares
    }

    /// Starts an open of `node`.
    pub fn opening(&self, node: NodeId) -> Opening<'_> {
        Opening {
            handles: self,
            node,
            shard: self.node_shard(node).lock(),
        }
    }

    /// Waits until every open that is being decided now has been: what comes
    /// later sees what was set before this call.
    pub fn settle_openings(&self) {
        for shard in &self.by_node {
            drop(shard.lock());
        }
    }

    /// The open file `fh`; `None` for one of an earlier process.
    #[must_use]
    pub fn get(&self, fh: Fh) -> Option<Arc<Handle>> {
        self.shard(fh).read().get(&fh).cloned()
    }

    /// The inode `node`, if it is open.
    #[must_use]
    pub fn inode(&self, node: NodeId) -> Option<Arc<OpenInode>> {
        self.node_shard(node).lock().get(&node).cloned()
    }

    /// The last name of `node` is gone; says whether it is open, and so lives
    /// on until its last close.
    pub fn unlinked(&self, node: NodeId) -> bool {
        match self.node_shard(node).lock().get(&node) {
            Some(inode) => {
                if inode.unlink() {
                    self.reclaim.nameless(node.slot());
                }
                true
            }
            None => false,
        }
    }

    /// Any open file of `node`, for calls on a file that has no name.
    #[must_use]
    pub fn any_of(&self, node: NodeId) -> Option<Arc<Handle>> {
        self.inode(node)?;
        self.by_fh.iter().find_map(|shard| {
            let shard = shard.read();
            shard.values().find(|handle| handle.node == node).cloned()
        })
    }

    /// Closes `fh`. The inode's size lock is held, here and by whoever may give the
    /// kernel a file of the host for it: a successor must not find what the last
    /// close gives up beside what the next open has noted.
    pub fn close(&self, fh: Fh) -> Option<Closed> {
        let handle = self.shard(fh).write().remove(&fh)?;
        self.len.fetch_sub(1, Ordering::Relaxed);
        drop(handle.record.lock().take());
        let mut shard = self.node_shard(handle.node).lock();
        let closed = handle.inode.close(handle.flags);
        if closed.last.is_some() {
            shard.remove(&handle.node);
        }
        drop(shard);
        if handle.file.is_none() && closed.passthrough {
            self.passthrough.fetch_sub(1, Ordering::Relaxed);
        }
        if closed.last.is_some() {
            failpoint::pause("live.close.last");
        }
        Some(Closed {
            last_of_unlinked: closed.last.as_ref().is_some_and(|last| last.unlinked),
            last_mapper: closed.last_mapper,
            kept: closed.last.and_then(Last::give_up),
        })
    }

    /// The inode `node` is about to lose its last name: what must be kept of it
    /// for a successor is `place` from now on. Gives it back where nothing needs
    /// to be kept: not open, or the kernel has the host's file itself.
    pub(super) fn keep(&self, node: NodeId, place: Place) -> Option<Place> {
        let shard = self.node_shard(node).lock();
        match shard.get(&node) {
            Some(inode) => inode.keep(place),
            None => Some(place),
        }
    }

    /// Whether a successor could not open the inode again when it has no name:
    /// it is open here alone.
    pub(super) fn is_open_here(&self, node: NodeId) -> bool {
        self.inode(node).is_some_and(|inode| inode.is_open_here())
    }

    /// How many files are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// How many of them the kernel reads and writes by itself.
    #[must_use]
    pub fn passthrough(&self) -> usize {
        self.passthrough.load(Ordering::Relaxed)
    }

    /// All open files.
    #[must_use]
    pub fn all(&self) -> Vec<Fh> {
        self.by_fh
            .iter()
            .flat_map(|shard| shard.read().keys().copied().collect::<Vec<_>>())
            .collect()
    }

    /// How many files are open in each volume that has any.
    #[must_use]
    pub fn by_volume(&self) -> HashMap<Slot, usize> {
        let mut open = HashMap::new();
        for shard in &self.by_fh {
            for handle in shard.read().values() {
                if let Some(slot) = handle.node.slot() {
                    *open.entry(slot).or_default() += 1;
                }
            }
        }
        open
    }

    /// The files that are open in the volume at `slot`.
    #[must_use]
    pub fn in_volume(&self, slot: Slot) -> Vec<Arc<Handle>> {
        let mut found = Vec::new();
        for shard in &self.by_fh {
            let shard = shard.read();
            found.extend(
                shard
                    .values()
                    .filter(|h| h.node.slot() == Some(slot))
                    .cloned(),
            );
        }
        found
    }
}
