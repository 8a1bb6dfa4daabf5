//! Who reads the next request.
//!
//! The kernel wakes the threads that wait on its device in turn. With one
//! client at a time that is the thread whose stack and buffers are the coldest:
//! measured on 2 processors, `rename` ran at 16,500 a second with one thread
//! waiting, at 12,900 with two and 9,600 with eight. One thread alone would
//! keep everybody waiting while it waits for the disk. So as few threads wait as
//! the load needs, mostly one; the others are parked until the one that reads
//! begins something slow, or has not come back for a millisecond.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long requests may wait because the only thread that reads is busy.
const PATIENCE: Duration = Duration::from_millis(1);
/// The watcher sleeps after so many ticks without a request,
const IDLE_TICKS: u32 = 100;
/// and then looks so often whether the device is still there. Threads that read
/// notice it themselves; those that are parked do not.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The threads of a session, and which of them read.
pub struct Serving {
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
}

struct Shared {
    /// Held for a few instructions; parking happens outside.
    state: Mutex<State>,
    /// Requests begun: whether anything moves.
    begun: AtomicU64,
    watcher_sleeps: AtomicBool,
    wake_watcher: Condvar,
}

struct State {
    /// Threads that wait on the device, or are on their way there.
    reading: usize,
    /// The last to park is woken first: its memory is the warmest.
    parked: Vec<Arc<Parked>>,
    /// The device is gone.
    closed: bool,
}

#[derive(Default)]
struct Parked {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Parked {
    fn wait(&self) {
        let mut woken = self.woken.lock();
        while !*woken {
            self.changed.wait(&mut woken);
        }
    }

    fn wake(&self) {
        *self.woken.lock() = true;
        self.changed.notify_one();
    }
}

/// A request that this thread handles, until this is dropped: after the reply.
#[must_use]
pub struct Turn<'a>(&'a Arc<Shared>);

impl Serving {
    /// For a session of `threads` threads, all of which read at first.
    /// `is_gone` says whether the device is gone.
    #[must_use]
    pub fn new(threads: usize, is_gone: impl Fn() -> bool + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                reading: threads,
                parked: Vec::with_capacity(threads),
                closed: false,
            }),
            begun: AtomicU64::new(0),
            watcher_sleeps: AtomicBool::new(false),
            wake_watcher: Condvar::new(),
        });
        let watched = Arc::clone(&shared);
        let watcher = std::thread::Builder::new()
            .name("volfs-watch".into())
            .spawn(move || watched.watch(&is_gone))
            // Without it a slow request of the only reader delays others.
            .inspect_err(|error| log::warn!("no thread to watch the others: {error}"))
            .ok();
        Self { shared, watcher }
    }

    /// The device is going: nobody parks any more.
    pub fn close(&self) {
        self.shared.close();
    }

    /// This thread has read a request. If it is a `slow` one another thread
    /// reads meanwhile.
    pub fn begin(&self, slow: bool) -> Turn<'_> {
        let shared = &self.shared;
        shared.begun.fetch_add(1, Ordering::Relaxed);
        let mut state = shared.state.lock();
        state.reading = state.reading.saturating_sub(1);
        if slow && state.reading == 0 {
            state.wake_one();
        }
        drop(state);
        if shared.watcher_sleeps.load(Ordering::Relaxed) {
            shared.wake_watcher.notify_one();
        }
        Turn(shared)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(watcher) = self.watcher.take() {
            // A panic has been logged.
            let _ = watcher.join();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        if state.reading == 0 || state.closed {
            state.reading += 1;
            return;
        }
        let parked = Arc::new(Parked::default());
        state.parked.push(Arc::clone(&parked));
        drop(state);
        parked.wait();
    }
}

impl State {
    fn close(&mut self) {
        self.closed = true;
        for parked in std::mem::take(&mut self.parked) {
            parked.wake();
        }
    }

    fn wake_one(&mut self) {
        if let Some(parked) = self.parked.pop() {
            self.reading += 1;
            parked.wake();
        }
    }
}

impl Shared {
    fn close(&self) {
        self.state.lock().close();
        self.wake_watcher.notify_one();
    }

    /// Lets another thread read when the only one that does has been busy for
    /// a whole tick.
    fn watch(&self, is_gone: &dyn Fn() -> bool) {
        let mut seen = 0;
        let mut still = 0;
        let mut state = self.state.lock();
        while !state.closed {
            let begun = self.begun.load(Ordering::Relaxed);
            still = if begun == seen { still + 1 } else { 0 };
            seen = begun;
            if still > 0 && state.reading == 0 {
                state.wake_one();
            }
            if still > IDLE_TICKS && state.reading > 0 {
                self.watcher_sleeps.store(true, Ordering::Relaxed);
                let slept = self.wake_watcher.wait_for(&mut state, LOOK_EVERY);
                self.watcher_sleeps.store(false, Ordering::Relaxed);
                if !slept.timed_out() {
                    still = 0;
                } else if is_gone() {
                    state.close();
                }
            } else {
                self.wake_watcher.wait_for(&mut state, PATIENCE);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Threads that take requests from a queue as if it were the device.
    fn serve(
        threads: usize,
        run: impl Fn(&Serving, u32) + Send + Sync + 'static,
    ) -> mpsc::Sender<u32> {
        let (sender, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let serving = Arc::new(Serving::new(threads, || false));
        let run = Arc::new(run);
        for _ in 0..threads {
            let (receiver, serving, run) = (
                Arc::clone(&receiver),
                Arc::clone(&serving),
                Arc::clone(&run),
            );
            std::thread::spawn(move || {
                loop {
                    let request = receiver.lock().recv();
                    let Ok(request) = request else {
                        return;
                    };
                    run(&serving, request);
                }
            });
        }
        sender
    }

    #[test]
    fn a_request_that_does_not_come_back_holds_up_nobody() {
        let (done, finished) = mpsc::channel();
        let blocked = Arc::new(Parked::default());
        let gate = Arc::clone(&blocked);
        let queue = serve(4, move |serving, request| {
            let turn = serving.begin(request == 1);
            if request < 3 {
                gate.wait();
            }
            done.send(request).unwrap();
            drop(turn);
        });
        // Three in a row that block: one known to be slow, two not.
        for request in [9, 1, 2, 0, 7, 8] {
            queue.send(request).unwrap();
        }
        let wait = Duration::from_secs(20);
        let mut came: Vec<u32> = (0..3)
            .map(|_| finished.recv_timeout(wait).unwrap())
            .collect();
        came.sort_unstable();
        assert_eq!(came, [7, 8, 9]);
        *blocked.woken.lock() = true;
        blocked.changed.notify_all();
        for _ in 0..3 {
            finished.recv_timeout(wait).unwrap();
        }
    }
}
