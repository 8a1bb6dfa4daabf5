//! Volumes that are being counted: changes of them wait, everything else goes
//! on. Also knows which changes are under way, so that a count can begin when
//! there are none.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard};

use crate::model::Slot;
use crate::volume::Volume;

const SHARDS: usize = 64;

/// Which volumes are being counted, or are about to be.
pub struct Counting {
    state: Mutex<State>,
    changed: Condvar,
    /// As many as are held, for the common answer that there are none.
    len: AtomicUsize,
    /// Shared by every change of a volume of the shard while it is under way.
    /// Exclusive for a moment, to wait for their end: a volume of the same
    /// shard is kept waiting no longer than that.
    under_way: Box<[RwLock<()>]>,
}

#[derive(Default)]
struct State {
    held: HashSet<Slot>,
    /// Held volumes that wait for the thread that counts.
    queue: VecDeque<Arc<Volume>>,
    /// Volumes that cannot be counted; not tried again in this mount.
    given_up: HashSet<Slot>,
    closed: bool,
}

impl Default for Counting {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            len: AtomicUsize::new(0),
            under_way: (0..SHARDS).map(|_| RwLock::new(())).collect(),
        }
    }
}

/// A change of a volume that is under way.
pub struct UnderWay<'a>(#[allow(dead_code)] RwLockReadGuard<'a, ()>); // held, never read

/// A volume whose changes wait until this is dropped.
pub struct Held<'a> {
    counting: &'a Counting,
    slot: Slot,
}

impl Counting {
    fn shard(&self, slot: Slot) -> &RwLock<()> {
        &self.under_way[slot.get() as usize % SHARDS]
    }

    /// A change of the volume at `slot` begins; `None` when it must wait.
    pub fn enter(&self, slot: Slot) -> Option<UnderWay<'_>> {
        let under_way = UnderWay(self.shard(slot).read());
        (!self.contains(slot)).then_some(under_way)
    }

    /// A change of the volume at `slot` begins as soon as it has been counted.
    pub fn enter_in_turn(&self, slot: Slot) -> UnderWay<'_> {
        loop {
            if let Some(under_way) = self.enter(slot) {
                return under_way;
            }
            let mut state = self.state.lock();
            while state.held.contains(&slot) {
                self.changed.wait(&mut state);
            }
        }
    }

    /// A change that never waits for a count begins: a close.
    pub fn pass(&self, slot: Slot) -> UnderWay<'_> {
        UnderWay(self.shard(slot).read())
    }

    /// Holds back changes of a volume that is to be counted, and queues it for
    /// the thread that counts. Does not wait.
    pub fn request(&self, volume: &Arc<Volume>) {
        let mut state = self.state.lock();
        if !state.given_up.contains(&volume.slot) && self.insert(&mut state, volume.slot) {
            state.queue.push_back(Arc::clone(volume));
            self.changed.notify_all();
        }
    }

    /// The next volume of the queue, waited for; `None` when there will be no
    /// more. Dropping the guard lets its changes go on.
    pub fn next(&self) -> Option<(Arc<Volume>, Held<'_>)> {
        let mut state = self.state.lock();
        loop {
            if let Some(volume) = state.queue.pop_front() {
                let slot = volume.slot;
                let counting = self;
                return Some((volume, Held { counting, slot }));
            }
            if state.closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// The volume at `slot` cannot be counted: it is not asked for again.
    pub fn give_up(&self, slot: Slot) {
        self.state.lock().given_up.insert(slot);
    }

    /// Nothing will be counted any more.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Holds back changes of the volume at `slot`; waits first while somebody
    /// else counts it.
    pub fn hold(&self, slot: Slot) -> Held<'_> {
        let mut state = self.state.lock();
        while !self.insert(&mut state, slot) {
            self.changed.wait(&mut state);
        }
        Held {
            counting: self,
            slot,
        }
    }

    /// Waits until all changes have ended that are under way, but not for ever.
    pub fn settle(&self, slot: Slot) {
        drop(self.shard(slot).try_write_for(Duration::from_secs(10)));
    }

    fn insert(&self, state: &mut State, slot: Slot) -> bool {
        let new = state.held.insert(slot);
        self.len.store(state.held.len(), Ordering::SeqCst);
        new
    }

    /// Whether the volume at `slot` is to be counted.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        self.len.load(Ordering::SeqCst) > 0 && self.state.lock().held.contains(&slot)
    }
}

impl Held<'_> {
    /// Runs `look` while no change of the volume is under way, not even a
    /// close; they wait for it, so it must be short.
    pub fn still<T>(&self, look: impl FnOnce() -> T) -> T {
        let _none = self.counting.shard(self.slot).write();
        look()
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.counting.state.lock();
        state.held.remove(&self.slot);
        self.counting.len.store(state.held.len(), Ordering::SeqCst);
        self.counting.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_begins_when_changes_have_ended_and_keeps_others_out() {
        let counting = Counting::default();
        let slot = Slot::new(5).unwrap();
        let change = counting.enter(slot).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let (counting, tell) = (&counting, &tell);
            scope.spawn(move || {
                let held = counting.hold(slot);
                held.still(|| tell.send("still").unwrap());
            });
            while !counting.contains(slot) {
                std::thread::yield_now();
            }
            // Refused at once, or when its turn has come to look.
            assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
            drop(change);
            assert_eq!(told.recv().unwrap(), "still");
            drop(counting.enter_in_turn(slot));
        });
        assert!(!counting.contains(slot));
        assert!(counting.enter(slot).is_some());
    }
}
