//! Counters per volume: as cheap as those per operation, so no lock and no
//! lookup; a volume's slot is its place in a table that grows by blocks.
//!
//! What the kernel does by itself (passthrough, its caches) is not seen here.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::model::{Serial, Slot};

/// Slots in a block: 128 KiB of counters.
const BLOCK: usize = 2048;

/// Blocks for all slots that there can be.
const BLOCKS: usize = Slot::MAX as usize / BLOCK + 1;

/// The counters of one volume; alone in its cache line.
#[derive(Default)]
#[repr(align(64))]
struct Counters {
    /// Whose they are: a slot is used again by later volumes.
    serial: AtomicI64,
    requests: AtomicU64,
    errors: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

/// The counters of all volumes since the start of the mount.
pub(super) struct VolumeStats {
    blocks: Box<[OnceLock<Box<[Counters]>>]>,
}

impl Default for VolumeStats {
    fn default() -> Self {
        Self {
            blocks: (0..BLOCKS).map(|_| OnceLock::new()).collect(),
        }
    }
}

impl VolumeStats {
    fn of(&self, slot: Slot) -> &Counters {
        let slot = slot.get() as usize;
        let block = self.blocks[slot / BLOCK]
            .get_or_init(|| (0..BLOCK).map(|_| Counters::default()).collect());
        &block[slot % BLOCK]
    }

    /// One request in the volume at `slot`.
    pub(super) fn record(&self, slot: Slot, failed: bool) {
        let counters = self.of(slot);
        counters.requests.fetch_add(1, Ordering::Relaxed);
        if failed {
            counters.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// `bytes` were read through the daemon.
    pub(super) fn read(&self, slot: Slot, bytes: usize) {
        let read = &self.of(slot).read_bytes;
        read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// `bytes` were written through the daemon.
    pub(super) fn wrote(&self, slot: Slot, bytes: usize) {
        let written = &self.of(slot).written_bytes;
        written.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A volume has got this slot: what an earlier one did there is not its own.
    pub(super) fn appeared(&self, slot: Slot, serial: Serial) {
        let counters = self.of(slot);
        if counters.serial.swap(serial.0, Ordering::Relaxed) != serial.0 {
            for counter in [
                &counters.requests,
                &counters.errors,
                &counters.read_bytes,
                &counters.written_bytes,
            ] {
                counter.store(0, Ordering::Relaxed);
            }
        }
    }

    /// The counters of a volume as JSON; `None` before its first request.
    pub(super) fn to_json(&self, slot: Slot) -> Option<Value> {
        let index = slot.get() as usize;
        let counters = &self.blocks[index / BLOCK].get()?[index % BLOCK];
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let requests = load(&counters.requests);
        (requests > 0).then(|| {
            json!({
                "requests": requests,
                "errors": load(&counters.errors),
                "daemon_read_bytes": load(&counters.read_bytes),
                "daemon_written_bytes": load(&counters.written_bytes),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_that_is_used_again_starts_anew() {
        let stats = VolumeStats::default();
        let slot = |n| Slot::new(n).unwrap();
        for n in [1, 2047, 2048, Slot::MAX] {
            assert_eq!(stats.to_json(slot(n)), None);
            stats.appeared(slot(n), Serial(7));
            stats.record(slot(n), n == 1);
            stats.read(slot(n), 10);
            stats.wrote(slot(n), 20);
            let json = stats.to_json(slot(n)).unwrap();
            assert_eq!(json["errors"], u64::from(n == 1));
            assert_eq!(json["daemon_read_bytes"], 10);
            assert_eq!(json["daemon_written_bytes"], 20);
        }
        // The same volume under another name.
        stats.appeared(slot(1), Serial(7));
        assert_eq!(stats.to_json(slot(1)).unwrap()["requests"], 1);
        stats.appeared(slot(1), Serial(8));
        assert_eq!(stats.to_json(slot(1)), None);
    }
}
