//! Open files: the handles that the kernel holds, and what is known of an
//! inode while it has any.
//!
//! A file that the kernel reads and writes by itself needs no descriptor here;
//! calls that need one open it by its node.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use nix::fcntl::OFlag;
use parking_lot::{Mutex, RwLock};

use super::ground::Ground;
use super::live::{HandleRecord, InodeRecord, Live, PastHandle, PastInode, WayIn, journal};
use super::node::NodeId;
use super::passthrough::Backing;
use super::types::{DataPath, Fh};
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
    pub file: Option<OwnedFd>,
    /// What all handles of the inode share.
    pub inode: Arc<OpenInode>,
    /// Tells a successor. Gone before the inode's own.
    record: Mutex<Option<HandleRecord>>,
}

impl Handle {
    /// The way to its contents; `keep` says whether cached pages are good.
    pub(super) fn path(&self, keep: bool) -> DataPath {
        let state = self.inode.state.lock();
        match (&self.file, &state.backing) {
            (None, Some(backing)) => DataPath::Passthrough(backing.clone()),
            (_, None) if state.cached => DataPath::Cached { keep },
            (_, backing) => DataPath::Direct(backing.clone()),
        }
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

/// An inode that is open.
pub struct OpenInode {
    state: Mutex<OpenState>,
    writers: AtomicUsize,
    mappers: AtomicUsize,
    lacks_capability: AtomicBool,
}

/// How the contents of an open inode are had. It stays while any handle is
/// open: the kernel answers EIO to an inode in two modes.
#[derive(Default)]
struct OpenState {
    opens: usize,
    backing: Option<Backing>,
    cached: bool,
    /// The size that the volume's account knows, while the kernel writes to
    /// the host's file by itself.
    charged: Option<u64>,
    /// Its last name is gone; its charge is given back with the last close.
    unlinked: bool,
    /// Tells a successor.
    record: Option<InodeRecord>,
    /// Keeps the inode for a successor when it has no name.
    kept: Option<Place>,
}

impl OpenInode {
    /// Whether the kernel may be writing to the host's file by itself.
    #[must_use]
    pub fn is_written_by_kernel(&self) -> bool {
        self.writers.load(Ordering::Relaxed) > 0 && self.is_passthrough()
    }

    /// Whether it may be written to through a mapping of the host's file, which
    /// the kernel does not take for a change of ours.
    #[must_use]
    pub fn is_mapped_by_kernel(&self) -> bool {
        self.mappers.load(Ordering::Relaxed) > 0 && self.is_passthrough()
    }

    /// Whether the kernel uses the host's file by itself.
    #[must_use]
    pub fn is_passthrough(&self) -> bool {
        self.state.lock().backing.is_some()
    }

    /// Whether it is known to have no `security.capability`, which the kernel
    /// asks for before the first write.
    #[must_use]
    pub fn lacks_capability(&self) -> bool {
        self.lacks_capability.load(Ordering::Relaxed)
    }

    /// It has just been made and has no `security.capability`; or is about to
    /// get one.
    pub fn set_lacks_capability(&self, lacks: bool) {
        self.lacks_capability.store(lacks, Ordering::Relaxed);
    }

    /// Whether its last name is gone.
    #[must_use]
    pub fn is_unlinked(&self) -> bool {
        self.state.lock().unlinked
    }

    /// The size that the volume's account knows, where that can differ from
    /// the host's: while the kernel writes by itself.
    #[must_use]
    pub fn charged_size(&self) -> Option<u64> {
        self.state.lock().charged
    }

    /// The account knows the size `size` from now on.
    pub fn set_charged_size(&self, size: u64) {
        let mut state = self.state.lock();
        if state.backing.is_some() {
            state.charged = Some(size);
            if let Some(record) = &state.record {
                record.set_charged(Some(size));
            }
        }
    }
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
    live: Arc<Live>,
}

/// A file that is being opened.
pub(super) struct NewHandle {
    /// The volume that it is in.
    pub(super) volume: Arc<Volume>,
    /// What the volume stands on.
    pub(super) ground: Arc<Ground>,
    /// The flags that the caller opened it with.
    pub(super) flags: OFlag,
    /// The host's file, unless the kernel uses that by itself.
    pub(super) file: Option<OwnedFd>,
    /// Its size now, with its size lock held.
    pub(super) size: u64,
    /// Its generation on the host, where a successor needs that to find it.
    pub(super) generation: Option<u32>,
    /// The process that opens it, where that matters.
    pub(super) process: Option<u32>,
}

impl Handles {
    /// No open files; a successor finds those that come through `live`.
    pub(super) fn new(live: Arc<Live>) -> Self {
        Self {
            by_fh: (0..SHARDS).map(|_| RwLock::default()).collect(),
            by_node: (0..SHARDS).map(|_| Mutex::default()).collect(),
            next: AtomicU64::new(live.first_handle()),
            len: AtomicUsize::new(0),
            passthrough: AtomicUsize::new(0),
            live,
        }
    }
}

/// An open that has not been decided yet. While it lives no other open or
/// close of the inode goes on; dropped without [`commit`](Opening::commit),
/// nothing was opened.
pub struct Opening<'a> {
    handles: &'a Handles,
    node: NodeId,
    shard: parking_lot::MutexGuard<'a, ByNode>,
}

/// What an open inode already is.
pub enum Mode {
    /// Not open.
    Closed,
    /// Open through the page cache.
    Cached,
    /// Open for passthrough; others must use this.
    Passthrough(Backing),
}

impl Opening<'_> {
    /// How the inode is open now.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let Some(inode) = self.shard.get(&self.node) else {
            return Mode::Closed;
        };
        let state = inode.state.lock();
        match &state.backing {
            Some(backing) => Mode::Passthrough(backing.clone()),
            None if state.cached => Mode::Cached,
            None => Mode::Closed,
        }
    }

    /// The inode is open once more, with this data path.
    pub(super) fn commit(self, new: NewHandle, path: &DataPath) -> Fh {
        let fh = Fh(self.handles.next.fetch_add(1, Ordering::Relaxed));
        self.commit_as(fh, new, path);
        fh
    }

    /// As [`commit`](Self::commit), with the handle that an earlier process has
    /// given out.
    pub(super) fn commit_as(mut self, fh: Fh, new: NewHandle, path: &DataPath) {
        let (handles, node, flags) = (self.handles, self.node, new.flags);
        let inode = Arc::clone(self.shard.entry(self.node).or_insert_with(|| {
            Arc::new(OpenInode {
                state: Mutex::default(),
                writers: AtomicUsize::new(0),
                mappers: AtomicUsize::new(0),
                lacks_capability: AtomicBool::new(false),
            })
        }));
        {
            let mut state = inode.state.lock();
            state.opens += 1;
            match path {
                DataPath::Cached { .. } => state.cached = true,
                DataPath::Direct(_) => {}
                DataPath::Passthrough(backing) => {
                    state.backing.get_or_insert_with(|| backing.clone());
                    state.charged.get_or_insert(new.size);
                    handles.passthrough.fetch_add(1, Ordering::Relaxed);
                }
            }
            state.tell(&handles.live, node, new.generation);
            if can_write(flags) {
                inode.writers.fetch_add(1, Ordering::Relaxed);
            }
            if can_map(flags) {
                inode.mappers.fetch_add(1, Ordering::Relaxed);
            }
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
            file: new.file,
            inode,
            record: Mutex::new(record),
        });
        handles.shard(fh).write().insert(fh, handle);
        handles.len.fetch_add(1, Ordering::Relaxed);
    }
}

impl OpenState {
    /// Tells a successor how the inode is open.
    fn tell(&mut self, live: &Live, node: NodeId, generation: Option<u32>) {
        let backing = self.backing.as_ref().map(Backing::id);
        match &self.record {
            None => {
                self.record = live.inode_record(&PastInode {
                    node,
                    cached: self.cached,
                    unlinked: self.unlinked,
                    backing,
                    charged: self.charged,
                    generation,
                });
            }
            Some(record) => {
                record.set_charged(self.charged);
                if let Some(id) = backing {
                    record.set_backing(id);
                }
                if self.cached {
                    record.set_cached();
                }
            }
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
                let mut state = inode.state.lock();
                state.unlinked = true;
                if let Some(record) = &state.record {
                    record.set_unlinked();
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

    /// Closes `fh`.
    pub fn close(&self, fh: Fh) -> Option<Closed> {
        let handle = self.shard(fh).write().remove(&fh)?;
        self.len.fetch_sub(1, Ordering::Relaxed);
        drop(handle.record.lock().take());
        let mut shard = self.node_shard(handle.node).lock();
        let mut state = handle.inode.state.lock();
        state.opens -= 1;
        if handle.file.is_none() && state.backing.is_some() {
            self.passthrough.fetch_sub(1, Ordering::Relaxed);
        }
        if handle.writes() {
            handle.inode.writers.fetch_sub(1, Ordering::Relaxed);
        }
        let last_mapper =
            can_map(handle.flags) && handle.inode.mappers.fetch_sub(1, Ordering::Relaxed) == 1;
        let last = state.opens == 0;
        let last_of_unlinked = last && state.unlinked;
        // Dropped only after the locks: it is closed by a call to the kernel.
        let backing = if last { state.backing.take() } else { None };
        let kept = if last { state.kept.take() } else { None };
        let record = if last { state.record.take() } else { None };
        drop(state);
        if last {
            shard.remove(&handle.node);
        }
        drop(shard);
        // The number is given up before it is forgotten: a successor may give
        // it up once more, but must not miss it.
        drop(backing);
        drop(record);
        Some(Closed {
            last_of_unlinked,
            last_mapper,
            kept,
        })
    }

    /// The inode `node` is about to lose its last name: what must be kept of it
    /// for a successor is `place` from now on. Gives it back where nothing needs
    /// to be kept: not open, or the kernel has the host's file itself.
    pub(super) fn keep(&self, node: NodeId, place: Place) -> Option<Place> {
        let shard = self.node_shard(node).lock();
        match shard.get(&node) {
            Some(inode) => inode.state.lock().kept.replace(place),
            None => Some(place),
        }
    }

    /// Whether a successor could not open the inode again when it has no name:
    /// it is open here alone.
    pub(super) fn is_open_here(&self, node: NodeId) -> bool {
        self.inode(node).is_some_and(|inode| {
            let state = inode.state.lock();
            state.backing.is_none() && state.kept.is_none()
        })
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
