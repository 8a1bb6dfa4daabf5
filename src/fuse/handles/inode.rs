//! An inode while it is open: what its open files share, and in which of the
//! two ways the kernel has its contents.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::fcntl::OFlag;
use parking_lot::Mutex;

use super::descriptor::{Descriptor, Descriptors};
use super::{NewHandle, can_map, can_write};
use crate::fuse::live::{InodeRecord, Live, PastInode};
use crate::fuse::node::NodeId;
use crate::fuse::passthrough::Backing;
use crate::fuse::types::DataPath;
use crate::keeper::Place;

/// An inode that is open.
#[derive(Default)]
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
    descriptors: Descriptors,
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

    /// How it is open now.
    pub(super) fn mode(&self) -> Mode {
        let state = self.state.lock();
        match &state.backing {
            Some(backing) => Mode::Passthrough(backing.clone()),
            None if state.cached => Mode::Cached,
            None => Mode::Closed,
        }
    }

    /// The way to its contents, with or without a file of the daemon's own;
    /// `keep` says whether cached pages are good.
    pub(super) fn path(&self, has_file: bool, keep: bool) -> DataPath {
        let state = self.state.lock();
        match (has_file, &state.backing) {
            (false, Some(backing)) => DataPath::Passthrough(backing.clone()),
            (_, None) if state.cached => DataPath::Cached { keep },
            (_, backing) => DataPath::Direct(backing.clone()),
        }
    }

    /// The descriptor with these flags of the host that its handles share.
    pub(in crate::fuse) fn descriptor(&self, flags: OFlag) -> Option<Arc<Descriptor>> {
        self.state.lock().descriptors.get(flags)
    }

    /// It is open once more.
    pub(super) fn open(&self, live: &Live, node: NodeId, new: &NewHandle, path: &DataPath) {
        let mut state = self.state.lock();
        state.opens += 1;
        if let Some(file) = &new.file {
            state.descriptors.add(file);
        }
        match path {
            DataPath::Cached { .. } => state.cached = true,
            DataPath::Direct(None) => {}
            // Open with the host's file either way; what a successor finds may
            // have outlived the open that was the first.
            DataPath::Direct(Some(backing)) | DataPath::Passthrough(backing) => {
                state.backing.get_or_insert_with(|| backing.clone());
                state.charged.get_or_insert(new.size);
            }
        }
        state.tell(live, node, new.generation);
        if can_write(new.flags) {
            self.writers.fetch_add(1, Ordering::Relaxed);
        }
        if can_map(new.flags) {
            self.mappers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One that was opened with `flags` is closed.
    pub(super) fn close(&self, flags: OFlag) -> ClosedInode {
        let mut state = self.state.lock();
        state.opens -= 1;
        if can_write(flags) {
            self.writers.fetch_sub(1, Ordering::Relaxed);
        }
        let last_mapper = can_map(flags) && self.mappers.fetch_sub(1, Ordering::Relaxed) == 1;
        let passthrough = state.backing.is_some();
        if state.opens > 0 {
            return ClosedInode {
                passthrough,
                last_mapper,
                last: None,
            };
        }
        ClosedInode {
            passthrough,
            last_mapper,
            last: Some(Last {
                unlinked: state.unlinked,
                backing: state.backing.take(),
                record: state.record.take(),
                kept: state.kept.take(),
            }),
        }
    }

    /// Its last name is gone; says whether that is news.
    pub(super) fn unlink(&self) -> bool {
        let mut state = self.state.lock();
        if let Some(record) = &state.record {
            record.set_unlinked();
        }
        !std::mem::replace(&mut state.unlinked, true)
    }

    /// It is kept for a successor by `place` from now on, and no longer by what
    /// is returned.
    pub(super) fn keep(&self, place: Place) -> Option<Place> {
        self.state.lock().kept.replace(place)
    }

    /// Whether nobody but this process has it: neither the kernel, for
    /// passthrough, nor who keeps files for a successor.
    pub(super) fn is_open_here(&self) -> bool {
        let state = self.state.lock();
        state.backing.is_none() && state.kept.is_none()
    }
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

/// What one close has left of an inode.
pub(super) struct ClosedInode {
    /// The kernel used the host's file by itself.
    pub(super) passthrough: bool,
    /// It was the last that could write through a mapping.
    pub(super) last_mapper: bool,
    /// What is to be given up after the last close.
    pub(super) last: Option<Last>,
}

/// What an inode had that is open no more. Dropped without a lock: the kernel is
/// called.
pub(super) struct Last {
    /// It has no name.
    pub(super) unlinked: bool,
    // In this order: the number is given up before it is forgotten. A successor
    // may give it up once more, but must not miss it.
    backing: Option<Backing>,
    record: Option<InodeRecord>,
    /// What kept it for a successor.
    kept: Option<Place>,
}

impl Last {
    /// Gives up what the kernel and a successor have of the inode, and returns
    /// what kept it.
    pub(super) fn give_up(self) -> Option<Place> {
        drop(self.backing);
        drop(self.record);
        self.kept
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
