//! The space of what callers have removed and this process still holds: files that
//! the kernel has not forgotten yet, and closes that are under way. The kernel does
//! not wait for either (FUSE_FORGET, FUSE_RELEASE), so that a caller can be back for
//! the space before it is free. On a host's own file system it is there at once;
//! here whoever finds no room waits for what is on its way, for a bounded time.
//!
//! Knows no nodes and no handles, only how many of each volume there are.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::statvfs::fstatvfs;

use super::error::{OpError, OpResult};
use super::fs::FileSystem;
use super::node::NodeId;
use crate::model::{Kind, Slot};
use crate::volume::Volume;

/// Volumes share counters by slot: who shares them may wait for the other.
const ROOMS: usize = 64;

/// No request waits longer: the host's file system may take so long to free what is
/// still being written.
const LONGEST: Duration = Duration::from_secs(30);
/// The kernel forgets a removed inode before the removal returns to its caller:
/// what is held for longer is referred to by somebody.
const FORGOTTEN_WITHIN: Duration = Duration::from_millis(200);
/// How long a close may have been read from the device and not have begun, on a
/// machine that is busy.
const BEGUN_WITHIN: Duration = Duration::from_millis(200);
/// The same where that has been waited for already, and none was removed since or it was
/// a moment ago: somebody keeps the files open, or the volume is at its limit and
/// in constant use. Each refusal must not cost its caller the whole wait.
const BEGUN_SINCE: Duration = Duration::from_millis(10);
/// How long a wait in vain is remembered.
const MOMENT: Duration = Duration::from_secs(5);
/// How long the supervisor may take to close what it has kept.
const CLOSED_WITHIN: Duration = Duration::from_millis(20);
/// With less than this a program that writes may be at the end before what is on
/// its way has arrived.
const NEXT_TO_NOTHING: u64 = 64 << 20;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(1);

/// Where room is short.
#[derive(Clone, Copy, Debug)]
pub(super) enum Short {
    /// In one volume: its limit, or its image.
    Volume(Slot),
    /// On the file system of the store.
    Store,
}

#[derive(Debug, Default)]
struct Room {
    /// Inodes without a name that are held and not open.
    held: AtomicUsize,
    /// Of these, those that are just being closed.
    freeing: AtomicUsize,
    /// Open files that have no name.
    nameless: AtomicUsize,
    /// How often an open file has lost its last name.
    unlinked: AtomicU64,
    /// What `unlinked` was when a close was last waited for in vain.
    in_vain: AtomicU64,
    /// When that was, in milliseconds since `start`.
    in_vain_at: AtomicU64,
    /// Closes that were begun, and that have ended.
    begun: AtomicU64,
    ended: AtomicU64,
    /// When an inode was last held, in milliseconds since `start`.
    last_held: AtomicU64,
    /// When the supervisor was last asked to close one.
    last_passed_on: AtomicU64,
}

impl Room {
    /// Whether it is a moment ago that somebody waited in vain, as who has `waited` so
    /// long at `now` may just have.
    fn was_in_vain(&self, waited: Duration, now: Duration) -> bool {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        if waited >= BEGUN_WITHIN {
            let unlinked = self.unlinked.load(Ordering::SeqCst);
            self.in_vain.store(unlinked, Ordering::SeqCst);
            self.in_vain_at.store(now.max(1), Ordering::SeqCst);
        }
        let at = self.in_vain_at.load(Ordering::SeqCst);
        at > 0 && u128::from(now.saturating_sub(at)) < MOMENT.as_millis()
    }

    /// Whether a close of a file without a name may have been read and not begun.
    fn may_begin(&self, waited: Duration, now: Duration) -> bool {
        let in_vain = self.was_in_vain(waited, now)
            || self.in_vain.load(Ordering::SeqCst) == self.unlinked.load(Ordering::SeqCst);
        waited < if in_vain { BEGUN_SINCE } else { BEGUN_WITHIN }
    }

    /// Whether what is held may be forgotten soon.
    fn may_be_forgotten(&self, waited: Duration, now: Duration) -> bool {
        let in_vain = self.was_in_vain(waited, now);
        self.held.load(Ordering::SeqCst) > 0
            && waited
                < if in_vain {
                    BEGUN_SINCE
                } else {
                    FORGOTTEN_WITHIN
                }
    }
}

/// What is on its way to being free.
#[derive(Debug)]
pub(super) struct Reclaim {
    rooms: Box<[Room]>,
    start: Instant,
    /// Requests that wait.
    waiting: AtomicUsize,
}

impl Default for Reclaim {
    fn default() -> Self {
        Self {
            rooms: (0..ROOMS).map(|_| Room::default()).collect(),
            start: Instant::now(),
            waiting: AtomicUsize::new(0),
        }
    }
}

/// A close that is under way. Dropped when what it closes is closed.
pub(super) struct Closing<'a> {
    room: Option<&'a Room>,
    /// It was the last of an inode that has no name.
    frees: bool,
}

impl Closing<'_> {
    /// It is the last of an inode that has no name.
    pub(super) fn frees(&mut self) {
        self.frees = true;
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let Some(room) = self.room else { return };
        if self.frees {
            decrease(&room.nameless);
        }
        room.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// Not below 0: what a process before has counted is not known here.
fn decrease(counter: &AtomicUsize) {
    let less = |now: usize| now.checked_sub(1);
    let _ = counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
}

impl Reclaim {
    fn room(&self, slot: Slot) -> &Room {
        &self.rooms[slot.get() as usize % ROOMS]
    }

    fn short(&self, short: Short) -> &[Room] {
        match short {
            Short::Volume(slot) => std::slice::from_ref(self.room(slot)),
            Short::Store => &self.rooms,
        }
    }

    /// An inode that has no name is held from now on.
    pub(super) fn held(&self, slot: Option<Slot>) {
        let Some(slot) = slot else { return };
        let room = self.room(slot);
        room.last_held.fetch_max(self.now() + 1, Ordering::SeqCst);
        room.held.fetch_add(1, Ordering::SeqCst);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The supervisor has been asked to close an inode that has no name.
    pub(super) fn passed_on(&self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            let last = &self.room(slot).last_passed_on;
            last.fetch_max(self.now() + 1, Ordering::SeqCst);
        }
    }

    /// It is about to be closed.
    pub(super) fn freeing(&self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            self.room(slot).freeing.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// It is held no more: its descriptor is closed.
    pub(super) fn let_go(&self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            let room = self.room(slot);
            decrease(&room.held);
            decrease(&room.freeing);
        }
    }

    /// An inode that is open has lost its last name.
    pub(super) fn nameless(&self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            let room = self.room(slot);
            room.nameless.fetch_add(1, Ordering::SeqCst);
            room.unlinked.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A close begins.
    pub(super) fn closing(&self, slot: Option<Slot>) -> Closing<'_> {
        let room = slot.map(|slot| self.room(slot));
        if let Some(room) = room {
            room.begun.fetch_add(1, Ordering::SeqCst);
        }
        Closing { room, frees: false }
    }

    /// Whether anything may be on its way.
    fn is_any(&self, short: Short) -> bool {
        self.short(short).iter().any(|room| {
            room.held.load(Ordering::SeqCst) > 0 || room.nameless.load(Ordering::SeqCst) > 0
        })
    }

    /// A request has found no room: how it waits for what is on its way. No more than
    /// `most` requests do so at a time, so that others are served.
    pub(super) fn wait(&self, short: Short, most: usize) -> Wait<'_> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let rooms = self.short(short);
        Wait {
            reclaim: self,
            rooms,
            begun: rooms.iter().map(|it| it.begun.load(Ordering::SeqCst)).sum(),
            since: Instant::now(),
            pending: before < most.max(1),
        }
    }
}

/// A request that waits for room.
pub(super) struct Wait<'a> {
    reclaim: &'a Reclaim,
    rooms: &'a [Room],
    /// Closes that had begun when there was no room.
    begun: u64,
    since: Instant,
    /// Something was on its way when it was last tried.
    pending: bool,
}

impl Wait<'_> {
    /// Waits a moment; `false` when there is nothing to wait for any more: what was
    /// on its way had arrived before the last try.
    pub(super) fn again(&mut self) -> bool {
        let waited = self.since.elapsed();
        if !self.pending || waited > LONGEST {
            return false;
        }
        self.pending = self.is_pending(waited);
        if self.pending {
            std::thread::sleep(PAUSE);
        }
        // Once more after the last has arrived.
        true
    }

    fn is_pending(&self, waited: Duration) -> bool {
        let ended: u64 = self
            .rooms
            .iter()
            .map(|it| it.ended.load(Ordering::SeqCst))
            .sum();
        let now = self.reclaim.start.elapsed();
        let nameless = |room: &&Room| room.nameless.load(Ordering::SeqCst) > 0;
        let mut closes = self.rooms.iter().filter(nameless).peekable();
        if closes.peek().is_some() && ended < self.begun
            || closes.any(|room| room.may_begin(waited, now))
        {
            return true;
        }
        let within = |last: &AtomicU64, time: Duration| {
            let last = Duration::from_millis(last.load(Ordering::SeqCst));
            !last.is_zero() && now.saturating_sub(last) < time
        };
        self.rooms.iter().any(|room| {
            within(&room.last_passed_on, CLOSED_WITHIN)
                || room.freeing.load(Ordering::SeqCst) > 0
                || within(&room.last_held, FORGOTTEN_WITHIN) && room.may_be_forgotten(waited, now)
        })
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.reclaim.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where room is short for the files of a volume.
fn short_of(volume: &Volume) -> Short {
    match volume.kind {
        Kind::Disk => Short::Volume(volume.slot),
        Kind::Directory => Short::Store,
    }
}

fn is_out_of_room(error: &OpError) -> bool {
    matches!(error.errno(), Errno::ENOSPC | Errno::EDQUOT)
        && !matches!(error, OpError::Attributes { .. } | OpError::PastImage(_))
}

impl FileSystem {
    /// Runs an operation on `node`, and again where there was no room for it, as
    /// long as something is on its way that may make room.
    pub(super) fn with_room<T>(
        &self,
        node: NodeId,
        mut run: impl FnMut() -> OpResult<T>,
    ) -> OpResult<T> {
        let mut result = run();
        let Err(error) = &result else { return result };
        let Some(mut wait) = self.wait_for_room(node, error) else {
            return result;
        };
        while matches!(&result, Err(error) if is_out_of_room(error)) && wait.again() {
            result = run();
        }
        result
    }

    /// How a request about `node` waits for room when it has failed with `error`;
    /// `None` where that is about something else.
    fn wait_for_room(&self, node: NodeId, error: &OpError) -> Option<Wait<'_>> {
        if !is_out_of_room(error) {
            return None;
        }
        let volume = node.slot().and_then(|slot| self.store.volume_in(slot));
        let short = match volume {
            Some(volume) if matches!(error, OpError::OverQuota(_)) => Short::Volume(volume.slot),
            Some(volume) => short_of(&volume),
            None => Short::Store,
        };
        Some(self.reclaim.wait(short, self.most_waiting()))
    }

    /// Of all threads, the fewer part.
    fn most_waiting(&self) -> usize {
        self.readers.threads() / 4
    }

    /// Waits for what is on its way where the file system that `dir` is on, and
    /// `volume`, has next to nothing left.
    pub(super) fn wait_if_nearly_full(&self, volume: &Volume, dir: impl AsFd) {
        let short = short_of(volume);
        let nearly_full = || {
            fstatvfs(dir).is_ok_and(|all| {
                all.blocks_available().saturating_mul(all.fragment_size()) < NEXT_TO_NOTHING
            })
        };
        if self.reclaim.is_any(short) && nearly_full() {
            let mut wait = self.reclaim.wait(short, self.most_waiting());
            while wait.again() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(number: u32) -> Slot {
        Slot::new(number).unwrap()
    }

    /// How often a request that finds no room is tried again, and for how long.
    fn tries(reclaim: &Reclaim, short: Short) -> (usize, Duration) {
        let (mut wait, start) = (reclaim.wait(short, 1), Instant::now());
        let mut tries = 0;
        while wait.again() {
            tries += 1;
        }
        (tries, start.elapsed())
    }

    #[test]
    fn who_waits_for_nothing_is_tried_once_more_at_once() {
        let reclaim = Reclaim::default();
        let (tried, time) = tries(&reclaim, Short::Store);
        assert_eq!(tried, 1);
        assert!(time < FORGOTTEN_WITHIN, "{time:?}");
    }

    #[test]
    fn what_is_on_its_way_is_waited_for_and_nothing_else() {
        let reclaim = Reclaim::default();
        reclaim.held(Some(slot(3)));
        assert_eq!(tries(&reclaim, Short::Volume(slot(4))).0, 1, "of another");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                reclaim.let_go(Some(slot(3)));
            });
            let (tried, time) = tries(&reclaim, Short::Volume(slot(3)));
            assert!(tried > 1 && time >= Duration::from_millis(90), "{time:?}");
        });
        // A close of a file without a name.
        reclaim.nameless(Some(slot(3)));
        let mut closing = reclaim.closing(Some(slot(3)));
        std::thread::scope(|scope| {
            let (send, receive) = std::sync::mpsc::channel();
            scope.spawn(move || {
                send.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(100));
                closing.frees();
                drop(closing);
            });
            receive.recv().unwrap();
            let (_, time) = tries(&reclaim, Short::Volume(slot(3)));
            assert!(time >= Duration::from_millis(50), "{time:?}");
        });
        assert_eq!(tries(&reclaim, Short::Store).0, 1);
    }

    #[test]
    fn what_somebody_keeps_is_not_waited_for() {
        let reclaim = Reclaim::default();
        reclaim.held(Some(slot(1)));
        reclaim.nameless(Some(slot(1)));
        let (_, time) = tries(&reclaim, Short::Store);
        assert!(time >= FORGOTTEN_WITHIN / 2, "{time:?}");
        // Nor so long the next time.
        let (_, time) = tries(&reclaim, Short::Store);
        assert!(time < FORGOTTEN_WITHIN / 2, "{time:?}");
        // Nor when as many wait as may.
        reclaim.held(Some(slot(1)));
        let _other = reclaim.wait(Short::Store, 1);
        assert_eq!(tries(&reclaim, Short::Store).0, 0);
    }
}
