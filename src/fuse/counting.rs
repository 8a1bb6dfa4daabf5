//! Volumes that are being counted after an unclean stop: changes of them wait,
//! everything else goes on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::model::Slot;

/// Which volumes are being counted.
#[derive(Default)]
pub struct Counting {
    slots: Mutex<HashSet<Slot>>,
    changed: Condvar,
    /// As many as `slots`, for the common answer that there are none.
    len: AtomicUsize,
}

impl Counting {
    /// The volume at `slot` is to be counted before it changes.
    pub fn begin(&self, slot: Slot) {
        let mut slots = self.slots.lock();
        slots.insert(slot);
        self.len.store(slots.len(), Ordering::Release);
    }

    /// The volume at `slot` has been counted, or given up on.
    pub fn end(&self, slot: Slot) {
        let mut slots = self.slots.lock();
        slots.remove(&slot);
        self.len.store(slots.len(), Ordering::Release);
        self.changed.notify_all();
    }

    /// Whether the volume at `slot` is to be counted.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        self.len.load(Ordering::Acquire) > 0 && self.slots.lock().contains(&slot)
    }

    /// Waits until the volume at `slot` has been counted.
    pub fn wait_for(&self, slot: Slot) {
        let mut slots = self.slots.lock();
        while slots.contains(&slot) {
            self.changed.wait(&mut slots);
        }
    }
}
