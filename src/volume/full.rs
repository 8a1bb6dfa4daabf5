//! A store whose disk is full: seen, told once, and told apart from a limit that
//! is reached.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::statvfs::{Statvfs, statvfs};

use super::events::{Event, EventKind};
use super::in_memory::Volume;
use super::store::Store;
use crate::model::{Bytes, Timestamp};

/// With less than this share of the disk left it goes on being full, in parts.
const STILL_FULL: u64 = 200;

/// What is known of the disk of a store.
#[derive(Debug, Default)]
pub(super) struct DiskState {
    full: AtomicBool,
    refusals: AtomicU64,
}

/// The space of the file system that a store lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// All of it.
    pub size: Bytes,
    /// What those who are not root can still have.
    pub available: Bytes,
    /// Whether it can hold no further file.
    pub out_of_inodes: bool,
}

impl Store {
    /// The space of the store's file system; `None` when it cannot be asked.
    #[must_use]
    pub fn disk_space(&self) -> Option<DiskSpace> {
        statvfs(self.dir()).ok().as_ref().map(space_of)
    }

    /// How often something was refused because the store's disk is full, since
    /// the store was opened.
    #[must_use]
    pub fn full_refusals(&self) -> u64 {
        self.disk.refusals.load(Ordering::Relaxed)
    }

    /// The host has refused a change of `volume` for lack of space. The first
    /// time, and again after there was space, it is an event.
    pub fn note_full(&self, volume: &Volume) {
        self.disk.refusals.fetch_add(1, Ordering::Relaxed);
        if self.disk.full.swap(true, Ordering::AcqRel) || self.is_read_only() {
            return;
        }
        let (used, limits) = volume.account().snapshot();
        let limit = limits.bytes.map_or(0, |limit| limit.0);
        let share = (u128::from(used.bytes.0) * 100).checked_div(u128::from(limit));
        let event = Event {
            time: Timestamp::now(),
            event: EventKind::StoreFull,
            volume: volume.name(),
            id: volume.id,
            percent: share.map_or(0, |share| u8::try_from(share).unwrap_or(u8::MAX)),
            used: used.bytes.0,
            limit,
        };
        self.keep_events(vec![event]);
    }

    /// Looks whether there is space again. For now and then.
    pub(super) fn watch_disk(&self) {
        if !self.disk.full.load(Ordering::Acquire) {
            return;
        }
        let Some(space) = self.disk_space() else {
            return;
        };
        if !space.out_of_inodes && space.available.0 > space.size.0 / STILL_FULL {
            self.disk.full.store(false, Ordering::Release);
            log::info!(
                "the store's disk has space again: {} of {}",
                space.available,
                space.size
            );
        }
    }
}

// The types differ from platform to platform.
#[allow(clippy::useless_conversion)]
fn space_of(found: &Statvfs) -> DiskSpace {
    let unit = u64::from(found.fragment_size());
    let bytes = |blocks: u64| Bytes(blocks.saturating_mul(unit));
    DiskSpace {
        size: bytes(u64::from(found.blocks())),
        available: bytes(u64::from(found.blocks_available())),
        // btrfs has no inode table, and says 0 of 0.
        out_of_inodes: found.files() > 0 && found.files_free() == 0,
    }
}
