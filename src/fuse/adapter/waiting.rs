//! Requests that wait for something: they do so on threads of their own, so that
//! those that serve go on.
//!
//! Such are changes of a volume that is being counted, and requests about a disk
//! volume that does not answer at once, when several wait already: an image that
//! is being attached and may have to be mended, one that a guest has written to
//! send its reader in circles, a fuse2fs that hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fuse::explain;
use crate::fuse::fs::FileSystem;
use crate::fuse::node::NodeId;
use crate::fuse::readers::{Readers, Serving};

/// Runs `$body`, which asks about the volume of `$node`, and replies: at once, or
/// on a thread of its own, with copies of what was borrowed from the request.
macro_rules! ask {
    ($adapter:ident, $node:ident, [$($borrowed:ident),*], $body:block) => {{
        let (_serving, seat) = $adapter.seats.take(&$adapter.fs, node($node));
        match seat {
            Some(_seat) => $body,
            None => {
                $(let $borrowed = $borrowed.to_owned();)*
                let waiting = $adapter.clone();
                elsewhere(move || {
                    let $adapter = &waiting;
                    $(let $borrowed = &*$borrowed;)*
                    $body
                });
            }
        }
    }};
}

/// As [`ask`], for what changes the volume, which waits until it is counted.
macro_rules! change {
    ($adapter:ident, $node:ident, [$($borrowed:ident),*], $body:block) => {{
        let slot = node($node).slot();
        let (_serving, seat) = $adapter.seats.take(&$adapter.fs, node($node));
        let entered = match (&seat, slot) {
            (Some(_), Some(slot)) => $adapter.fs.counting.enter(slot).map(Some),
            (Some(_), None) => Some(None),
            (None, _) => None,
        };
        match entered {
            Some(_under_way) => $body,
            None => {
                drop(seat);
                $(let $borrowed = $borrowed.to_owned();)*
                let waiting = $adapter.clone();
                elsewhere(move || {
                    let _under_way = slot.map(|slot| waiting.fs.counting.enter_in_turn(slot));
                    let $adapter = &waiting;
                    $(let $borrowed = &*$borrowed;)*
                    $body
                });
            }
        }
    }};
}

/// The threads that serve, and how many of them may wait for disk volumes.
pub(super) struct Seats {
    readers: Arc<Readers>,
    most: usize,
    taken: AtomicUsize,
}

/// The right to serve a request on this thread.
pub(super) struct Seat<'a>(Option<&'a AtomicUsize>);

impl Seats {
    /// Half of the threads may wait.
    pub(super) fn new(readers: Arc<Readers>) -> Self {
        Self {
            most: readers.threads() / 2,
            readers,
            taken: AtomicUsize::new(0),
        }
    }

    /// For a request about `node`; no seat when it may have to wait, and as many
    /// do as may. The first is to be dropped last: when the request is replied to, or
    /// is another thread's.
    pub(super) fn take(&self, fs: &FileSystem, node: NodeId) -> (Serving<'_>, Option<Seat<'_>>) {
        let serving = self.readers.begin();
        if fs.answers_at_once(node) {
            return (serving, Some(Seat(None)));
        }
        let seat = Seat(Some(&self.taken));
        let may_wait = self.taken.fetch_add(1, Ordering::Relaxed) < self.most;
        (serving, may_wait.then_some(seat))
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(taken) = self.0 {
            taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Stack of a thread that waits: an operation needs little, and it is memory only
/// where it is used.
const STACK_BYTES: usize = 512 << 10;

/// Runs `run`, which serves the request that this thread has begun, on a thread
/// of its own.
pub(super) fn elsewhere(run: impl FnOnce() + Send + 'static) {
    let asked_by = explain::who_asks();
    let thread = std::thread::Builder::new()
        .name("volfs-waits".into())
        .stack_size(STACK_BYTES);
    let spawned = thread.spawn(move || {
        if let Some(uid) = asked_by {
            explain::asked_by(uid);
        }
        run();
    });
    if let Err(error) = spawned {
        // The reply is dropped with the closure: the caller gets EIO.
        log::error!("no thread for a request that waits: {error}");
    }
    explain::served();
}

pub(super) use {ask, change};
