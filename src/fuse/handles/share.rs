//! The descriptors of this process that open files take: a part of all, and no
//! volume takes more of that than it leaves to the others.
//!
//! Who has a volume decides how many files of it are open, and the limit
//! (`RLIMIT_NOFILE`, getrlimit(2)) is one for all: without a share one volume
//! has them all, and nobody can look up a name or give a command any more.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::fuse::error::OpError;
use crate::model::Slot;
use crate::sys::process;
use crate::volume::Volume;

/// Slots in a block.
const BLOCK: usize = 2048;
/// Blocks for all slots that there can be.
const BLOCKS: usize = Slot::MAX as usize / BLOCK + 1;

/// The least that is left for everything else, where the limit has that twice:
/// look-ups, directories, nodes without a name, images, connections.
const RESERVE: usize = 512;

/// A refusal is in the log once in so long: callers decide how many there are.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// How many descriptors of `limit` open files may take.
fn for_files(limit: usize) -> usize {
    limit - (limit / 4).max(RESERVE.min(limit / 2))
}

/// The descriptors of open files, counted.
pub(in crate::fuse) struct Shares {
    /// The limit of this process.
    limit: usize,
    /// What files may take of it.
    most: usize,
    taken: AtomicUsize,
    /// By slot: also of a volume that is gone and whose files are still open.
    by_volume: Box<[OnceLock<Box<[AtomicUsize]>>]>,
    /// When a refusal was last in the log. A leaf lock.
    said: Mutex<Option<Instant>>,
}

/// The place of one descriptor; free again when this is dropped.
pub(in crate::fuse) struct Share {
    shares: Arc<Shares>,
    slot: Slot,
}

impl Shares {
    /// Nothing is open; the limit of this process is final.
    pub(super) fn new() -> Self {
        Self::of(usize::try_from(process::descriptor_limit()).unwrap_or(usize::MAX))
    }

    fn of(limit: usize) -> Self {
        Self {
            limit,
            most: for_files(limit),
            taken: AtomicUsize::new(0),
            by_volume: (0..BLOCKS).map(|_| OnceLock::new()).collect(),
            said: Mutex::default(),
        }
    }

    fn of_volume(&self, slot: Slot) -> &AtomicUsize {
        let slot = slot.get() as usize;
        let block = self.by_volume[slot / BLOCK]
            .get_or_init(|| (0..BLOCK).map(|_| AtomicUsize::new(0)).collect());
        &block[slot % BLOCK]
    }

    /// A place for a file of the volume at `slot`; otherwise how many the volume
    /// has. It may have as many as are free for all others (a dynamic threshold,
    /// as in switches with shared buffers): half where it is alone, and however
    /// many volumes take theirs, something is left for the next.
    fn try_take(&self, slot: Slot) -> Result<(), usize> {
        let own = self.of_volume(slot);
        let mine = own.fetch_add(1, Ordering::Relaxed);
        let all = self.taken.fetch_add(1, Ordering::Relaxed);
        if mine < self.most.saturating_sub(all) {
            return Ok(());
        }
        own.fetch_sub(1, Ordering::Relaxed);
        self.taken.fetch_sub(1, Ordering::Relaxed);
        Err(mine)
    }

    fn place(self: &Arc<Self>, slot: Slot) -> Share {
        Share {
            shares: Arc::clone(self),
            slot,
        }
    }

    /// A place for a file of `volume`.
    ///
    /// # Errors
    /// [`OpError::OpenFiles`]: it has its share.
    pub(in crate::fuse) fn take(self: &Arc<Self>, volume: &Volume) -> Result<Share, OpError> {
        let Err(open) = self.try_take(volume.slot) else {
            return Ok(self.place(volume.slot));
        };
        let error = OpError::OpenFiles {
            name: volume.name(),
            open,
            limit: self.limit,
        };
        let mut said = self.said.lock();
        if said.is_none_or(|when| when.elapsed() > SAID_EVERY) {
            *said = Some(Instant::now());
            log::warn!("an open is refused: {error}");
        }
        drop(said);
        Err(error)
    }

    /// A place for a file that is open already: in an earlier process, or made
    /// for an open that was to take none.
    pub(in crate::fuse) fn take_anyway(self: &Arc<Self>, volume: &Volume) -> Share {
        self.of_volume(volume.slot).fetch_add(1, Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.place(volume.slot)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let own = self.shares.of_volume(self.slot);
        own.fetch_sub(1, Ordering::Relaxed);
        self.shares.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_left_of_any_limit() {
        for (limit, files) in [(64, 32), (256, 128), (1024, 512), (20_000, 15_000)] {
            assert_eq!(for_files(limit), files);
        }
    }

    #[test]
    fn each_volume_leaves_as_much_as_it_has() {
        let shares = Arc::new(Shares::of(2048));
        let most = shares.most;
        let take_all = |slot: Slot| {
            let places =
                std::iter::from_fn(|| shares.try_take(slot).ok().map(|()| shares.place(slot)));
            places.collect::<Vec<_>>()
        };
        let slot = |n| Slot::new(n).unwrap();
        let first = take_all(slot(1));
        assert_eq!(first.len(), most / 2);
        let second = take_all(slot(Slot::MAX));
        assert_eq!(second.len(), most / 4);
        assert_eq!(take_all(slot(2)).len(), most / 8);
        // What is closed is there again, for whomever.
        drop(first);
        assert_eq!(take_all(slot(3)).len(), (most - second.len()).div_ceil(2));
        drop(second);
        assert_eq!(shares.taken.load(Ordering::Relaxed), 0);
    }
}
