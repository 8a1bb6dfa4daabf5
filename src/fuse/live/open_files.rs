//! Open files and open inodes in shared memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release};

use nix::fcntl::OFlag;

use super::layout::{State, Which};
use crate::fuse::node::NodeId;
use crate::fuse::types::Fh;

/// The record of an open inode; free again when it is dropped.
#[derive(Debug)]
pub(in crate::fuse) struct InodeRecord {
    state: Arc<State>,
    index: u32,
}

/// The record of an open file; free again when it is dropped.
#[derive(Debug)]
pub(in crate::fuse) struct HandleRecord {
    state: Arc<State>,
    index: u32,
}

mod inode_at {
    pub(super) const NODE: usize = 0;
    /// Flags, and the backing id in the upper half.
    pub(super) const FLAGS: usize = 1;
    /// The size that the account knows, and 1; or 0.
    pub(super) const CHARGED: usize = 2;
    pub(super) const GENERATION: usize = 3;
}

const CACHED: u64 = 1;
const UNLINKED: u64 = 2;
/// Its generation is known.
const HAS_GENERATION: u64 = 4;

mod handle_at {
    pub(super) const FH: usize = 0;
    pub(super) const NODE: usize = 1;
    /// The flags it was opened with; the way to its contents above.
    pub(super) const FLAGS: usize = 2;
    /// The process that opened it, as far as that matters.
    pub(super) const PROCESS: usize = 3;
}

/// The way to an open file's contents, without what belongs to its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(in crate::fuse) enum WayIn {
    /// Through the page cache.
    Cached = 0,
    /// Through this process each time.
    Direct = 1,
    /// Straight to the host's file.
    Passthrough = 2,
}

/// An open inode as another process left it.
#[derive(Clone, Copy, Debug)]
pub(in crate::fuse) struct PastInode {
    pub(in crate::fuse) node: NodeId,
    pub(in crate::fuse) cached: bool,
    pub(in crate::fuse) unlinked: bool,
    pub(in crate::fuse) backing: Option<u32>,
    pub(in crate::fuse) charged: Option<u64>,
    pub(in crate::fuse) generation: Option<u32>,
}

/// An open file as another process left it.
#[derive(Clone, Copy, Debug)]
pub(in crate::fuse) struct PastHandle {
    pub(in crate::fuse) fh: Fh,
    pub(in crate::fuse) node: NodeId,
    pub(in crate::fuse) flags: OFlag,
    pub(in crate::fuse) way: WayIn,
    pub(in crate::fuse) process: Option<u32>,
}

impl InodeRecord {
    pub(super) fn new(state: &Arc<State>, inode: &PastInode) -> io::Result<Self> {
        let new = Self {
            index: state.take(Which::Inodes)?,
            state: Arc::clone(state),
        };
        let record = new.record();
        record[inode_at::FLAGS].store(0, Relaxed);
        record[inode_at::CHARGED].store(0, Relaxed);
        if let Some(generation) = inode.generation {
            record[inode_at::GENERATION].store(u64::from(generation), Relaxed);
            record[inode_at::FLAGS].store(HAS_GENERATION, Relaxed);
        }
        if inode.cached {
            new.set_cached();
        }
        if inode.unlinked {
            new.set_unlinked();
        }
        if let Some(backing) = inode.backing {
            new.set_backing(backing);
        }
        new.set_charged(inode.charged);
        record[inode_at::NODE].store(inode.node.raw(), Release);
        Ok(new)
    }

    fn record(&self) -> &[AtomicU64] {
        self.state.record(Which::Inodes, self.index)
    }

    pub(in crate::fuse) fn set_cached(&self) {
        self.record()[inode_at::FLAGS].fetch_or(CACHED, Release);
    }

    pub(in crate::fuse) fn set_unlinked(&self) {
        self.record()[inode_at::FLAGS].fetch_or(UNLINKED, Release);
    }

    /// Its one backing id. It stays while the inode is open.
    pub(in crate::fuse) fn set_backing(&self, id: u32) {
        self.record()[inode_at::FLAGS].fetch_or(u64::from(id) << 32, Release);
    }

    pub(in crate::fuse) fn set_charged(&self, size: Option<u64>) {
        let word = size.map_or(0, |size| size.saturating_add(1));
        self.record()[inode_at::CHARGED].store(word, Release);
    }
}

impl Drop for InodeRecord {
    fn drop(&mut self) {
        self.state.table(Which::Inodes).give_back(self.index);
    }
}

impl HandleRecord {
    pub(super) fn new(state: &Arc<State>, handle: &PastHandle) -> io::Result<Self> {
        let new = Self {
            index: state.take(Which::Handles)?,
            state: Arc::clone(state),
        };
        let record = new.record();
        record[handle_at::NODE].store(handle.node.raw(), Relaxed);
        let flags = u64::from(handle.flags.bits().cast_unsigned());
        record[handle_at::FLAGS].store(flags | (handle.way as u64) << 32, Relaxed);
        let process = handle.process.map_or(0, u64::from);
        record[handle_at::PROCESS].store(process, Relaxed);
        record[handle_at::FH].store(handle.fh.0, Release);
        Ok(new)
    }

    fn record(&self) -> &[AtomicU64] {
        self.state.record(Which::Handles, self.index)
    }
}

impl Drop for HandleRecord {
    fn drop(&mut self) {
        self.state.table(Which::Handles).give_back(self.index);
    }
}

/// All open inodes of a state that nobody changes.
pub(super) fn inodes(state: &State) -> Vec<PastInode> {
    let of = |record: &[AtomicU64]| {
        let word = |at: usize| record[at].load(Relaxed);
        let flags = word(inode_at::FLAGS);
        PastInode {
            node: NodeId::from_raw(word(inode_at::NODE)),
            cached: flags & CACHED != 0,
            unlinked: flags & UNLINKED != 0,
            backing: Some((flags >> 32) as u32).filter(|&id| id != 0),
            charged: word(inode_at::CHARGED).checked_sub(1),
            generation: (flags & HAS_GENERATION != 0).then(|| word(inode_at::GENERATION) as u32),
        }
    };
    state.table(Which::Inodes).used().map(of).collect()
}

/// All open files of a state that nobody changes.
pub(super) fn handles(state: &State) -> Vec<PastHandle> {
    let of = |record: &[AtomicU64]| {
        let word = |at: usize| record[at].load(Relaxed);
        let flags = word(handle_at::FLAGS);
        PastHandle {
            fh: Fh(word(handle_at::FH)),
            node: NodeId::from_raw(word(handle_at::NODE)),
            flags: OFlag::from_bits_retain((flags as u32).cast_signed()),
            way: match flags >> 32 {
                0 => WayIn::Cached,
                1 => WayIn::Direct,
                _ => WayIn::Passthrough,
            },
            process: Some(word(handle_at::PROCESS) as u32).filter(|&pid| pid != 0),
        }
    };
    state.table(Which::Handles).used().map(of).collect()
}
