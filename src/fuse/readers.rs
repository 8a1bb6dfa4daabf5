//! How many of the threads that serve wait for the next request.
//!
//! All wait on the one device, and the kernel wakes the one that has waited
//! longest. Operations a second by one client on two virtual processors, medians of
//! 9 to 13 rounds in turn, while 1, 2, 4 and 16 threads waited:
//!
//! | beside it | | 1 | 2 | 4 | 16 |
//! |---|---|---|---|---|---|
//! | nothing | rename | 5,800 | 7,000 | 8,300 | 10,300 |
//! | | unlink | 9,000 | 11,000 | 12,000 | 12,700 |
//! | one busy loop | rename | 17,600 | 16,900 | 14,700 | 14,300 |
//! | | unlink | 26,700 | 23,500 | 24,200 | 19,300 |
//! | two busy loops | rename | 17,200 | 15,600 | 16,000 | 12,700 |
//! | | unlink | 24,700 | 23,500 | 21,800 | 11,100 |
//! | four half busy | rename | 16,900 | 15,600 | 11,900 | 6,000 |
//! | | open, read | 31,000 | 29,300 | 24,900 | 19,700 |
//! | another client | rename | | 12,800 | 12,100 | 9,100 |
//!
//! Where a processor is idle, what costs is the interrupt that wakes it, and with
//! several threads the one that has just replied often reads the next request
//! without one. Where none is, the thread that has waited longest is queued behind
//! other work on the processor that it ran on last, while one that has just replied
//! is where the client is. Hence all wait while there is an idle processor, and
//! [`FEW`] while there is none. The others rest, until none of the few waits and all of
//! them are asleep at their requests: one that waits for the disk must not keep anybody
//! waiting, and one that waits for a processor would not be helped.
//!
//! One thread that asks the device again for 50 us before it sleeps answers a request
//! in 16 us instead of 19 with 16 threads (one that sleeps: 48; on the client's own
//! processor: 12), burns a processor for that, and is no faster at what is more than
//! one request at a time, such as a rename and its GETATTR. A descriptor per thread
//! (FUSE_DEV_IOC_CLONE) would change nothing: the queue of waiting threads is the
//! connection's.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};

use crate::sys::idle::{idle_time, is_asleep};

/// Threads that serve where nothing else is asked for: many more than there are
/// processors. 64 are as good as 16.
const THREADS: usize = 16;

/// So many wait while no processor is idle. One would do as well for one client; two
/// have always somebody to take the next request of another.
const FEW: usize = 2;

/// How often it is looked whether a processor is idle, while there are requests.
/// The kernel counts in steps of 10 ms.
const LOOK: Duration = Duration::from_millis(100);

/// How often it is looked whether the few are asleep, while there are requests: twice
/// as long one may wait that comes when they are. One look is not enough: a thread
/// that waits for another, or for the journal of the host, sleeps for a moment.
const WATCH: Duration = Duration::from_millis(2);

/// After one that rested was called nobody rests for so many of these looks: what
/// makes threads sleep comes again.
const HOLD: u32 = 50;

/// A thread that rests waits again for a request after so long: the end of the mount
/// is not heard of when all that end have never served.
const REST: Duration = Duration::from_secs(5);

/// Without a request for so many of these looks there is nothing to look at.
const QUIET: u32 = 5;

/// Hundredths of one processor's time. Of two processors, 60 to 110 were idle while
/// nothing ran but one client and this daemon, at most 36 with one busy loop more.
const IDLE: u128 = 55;
const BUSY: u128 = 40;

/// The threads that serve.
#[derive(Debug)]
pub(super) struct Readers {
    threads: Vec<Thread>,
    /// How many of them are known: those that have served.
    known: AtomicUsize,
    /// How many wait for a request, or are about to.
    waiting: AtomicUsize,
    /// Whether only a few are to wait.
    few: AtomicBool,
    /// Whether nobody is to rest for a while.
    hold: AtomicBool,
    /// Whether a request has come since the last look.
    came: AtomicBool,
    /// Whether it is looked, or `watch` has to be called.
    watched: AtomicBool,
    rest: Mutex<Rest>,
    /// Those that rest.
    called: Condvar,
    /// `watch`.
    traffic: Condvar,
}

/// A thread, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Thread {
    /// Its number while it is at a request, otherwise 0.
    serves: AtomicI32,
}

/// What is waited for; a leaf lock.
#[derive(Debug, Default)]
struct Rest {
    /// How many threads rest.
    resting: usize,
    /// How many of them are called and have not heard it yet.
    called: usize,
    /// The connection to the kernel has ended: nobody rests any more.
    ended: bool,
    /// It is not looked any more.
    closed: bool,
}

/// What was seen of the processors.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    /// Since when does not matter: two are compared.
    idle: Duration,
}

impl Readers {
    /// So many threads, or as many as are good.
    pub(super) fn new(threads: Option<usize>) -> Arc<Self> {
        let threads = threads.unwrap_or(THREADS).max(1);
        Arc::new(Self {
            threads: std::iter::repeat_with(Thread::default)
                .take(threads)
                .collect(),
            known: AtomicUsize::new(0),
            waiting: AtomicUsize::new(threads),
            few: AtomicBool::new(false),
            hold: AtomicBool::new(false),
            came: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            rest: Mutex::default(),
            called: Condvar::new(),
            traffic: Condvar::new(),
        })
    }

    /// How many there are.
    pub(super) fn threads(&self) -> usize {
        self.threads.len()
    }

    /// This thread has got a request, and serves it until what is returned is
    /// dropped: after the reply.
    pub(super) fn begin(self: &Arc<Self>) -> Serving<'_> {
        let (index, tid) = ME.with(|me| {
            let me = me.get_or_init(|| Me {
                readers: Arc::clone(self),
                index: self.known.fetch_add(1, Relaxed) % self.threads.len(),
                tid: nix::unistd::gettid().as_raw(),
            });
            (me.index, me.tid)
        });
        let thread = &self.threads[index];
        thread.serves.store(tid, Relaxed);
        self.waiting.fetch_sub(1, SeqCst);
        // Written only where it changes, so that threads share its line.
        if !self.came.load(SeqCst) {
            self.came.store(true, SeqCst);
        }
        if !self.watched.load(SeqCst) && self.threads.len() > FEW {
            self.watched.store(true, SeqCst);
            let _rest = self.rest.lock();
            self.traffic.notify_one();
        }
        Serving {
            readers: self,
            thread,
        }
    }

    fn end(&self) {
        let rests = || self.few.load(Relaxed) && self.waiting.load(SeqCst) >= FEW;
        if rests() && !self.hold.load(Relaxed) {
            let mut rest = self.rest.lock();
            // The few may have got requests meanwhile. Whoever looks for somebody to
            // call after this finds this thread resting.
            if rests() && !rest.ended {
                rest.resting += 1;
                let awake = Instant::now() + REST;
                while rest.called == 0 && !rest.ended {
                    if self.called.wait_until(&mut rest, awake).timed_out() {
                        break;
                    }
                }
                rest.called = rest.called.saturating_sub(1);
                rest.resting -= 1;
            }
        }
        self.waiting.fetch_add(1, SeqCst);
    }

    /// Calls so many of those that rest.
    fn call(&self, most: usize) {
        let mut rest = self.rest.lock();
        rest.called = (rest.called + most).min(rest.resting);
        self.called.notify_all();
    }

    /// Decides who waits and who rests, until it is closed.
    pub(super) fn watch(&self) {
        let mut hold = 0;
        let mut last = Look::now();
        while self.wait_for_requests() {
            let mut quiet = 0;
            // What was before says nothing of now.
            last = Look::now().or(last);
            while quiet < QUIET && self.sleep() {
                let came = self.came.swap(false, SeqCst);
                let nobody_waits = self.waiting.load(SeqCst) == 0;
                quiet = if came || nobody_waits { 0 } else { quiet + 1 };
                self.look(&mut last);
                hold = self.call_if_asleep(nobody_waits && !came, hold);
            }
        }
    }

    /// Waits until requests come; `false` when it is closed.
    fn wait_for_requests(&self) -> bool {
        let mut rest = self.rest.lock();
        self.watched.store(false, SeqCst);
        // One that comes now finds nobody who looks, or is found.
        while !self.watched.load(SeqCst) && !self.came.load(SeqCst) && !rest.closed {
            self.traffic.wait(&mut rest);
        }
        self.watched.store(true, SeqCst);
        !rest.closed
    }

    /// Until the next look; `false` when it is closed.
    fn sleep(&self) -> bool {
        let time = if self.few.load(Relaxed) { WATCH } else { LOOK };
        let mut rest = self.rest.lock();
        let deadline = Instant::now() + time;
        while !rest.closed && !self.traffic.wait_until(&mut rest, deadline).timed_out() {}
        !rest.closed
    }

    /// Looks at the processors, if it is time to.
    fn look(&self, last: &mut Option<Look>) {
        let Some(before) = *last else { return };
        if before.at.elapsed() < LOOK {
            return;
        }
        *last = Look::now();
        let Some(now) = *last else { return };
        let few = self.few.load(Relaxed);
        if few != now.is_busy(before, few) {
            self.few.store(!few, Relaxed);
            if few {
                self.call(usize::MAX);
            }
        }
    }

    /// Calls one that rests if the few are `stuck`: none waits, none has begun a
    /// request since the last look, and all of them sleep. `hold` is for how many
    /// looks nobody is to rest, and so is what is returned.
    fn call_if_asleep(&self, stuck: bool, hold: u32) -> u32 {
        if !stuck || self.any_runs() || self.rest.lock().resting == 0 {
            let hold = hold.saturating_sub(1);
            self.hold.store(hold > 0, Relaxed);
            return hold;
        }
        self.hold.store(true, Relaxed);
        self.call(1);
        HOLD
    }

    /// Whether a thread that is at a request runs, or would if it had a processor.
    fn any_runs(&self) -> bool {
        let at_requests = self.threads.iter().map(|it| it.serves.load(Relaxed));
        at_requests
            .filter(|&tid| tid != 0)
            .any(|tid| !is_asleep(tid))
    }

    /// It is not looked any more.
    pub(super) fn close(&self) {
        self.rest.lock().closed = true;
        self.traffic.notify_all();
    }

    /// Nobody rests any more.
    fn end_all(&self) {
        self.rest.lock().ended = true;
        self.called.notify_all();
    }

    /// As in `.volfs/stats.json`.
    pub(super) fn to_json(&self) -> Value {
        json!({ "all": self.threads.len(), "resting": self.rest.lock().resting })
    }
}

impl Look {
    /// `None` where it cannot be seen.
    fn now() -> Option<Self> {
        Some(Self {
            at: Instant::now(),
            idle: idle_time().ok()?,
        })
    }

    /// Whether no processor was idle since `before`; as it `was` where that is not
    /// clear.
    fn is_busy(self, before: Self, was: bool) -> bool {
        let over = self.at.saturating_duration_since(before.at).as_micros();
        if over == 0 {
            return was;
        }
        let idle = self.idle.saturating_sub(before.idle).as_micros() * 100 / over;
        idle < if was { IDLE } else { BUSY }
    }
}

/// A thread at a request.
pub(super) struct Serving<'a> {
    readers: &'a Readers,
    thread: &'a Thread,
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.thread.serves.store(0, Relaxed);
        self.readers.end();
    }
}

/// A thread of `fuser`. It ends with the connection to the kernel, and nothing else
/// is heard of that.
struct Me {
    readers: Arc<Readers>,
    index: usize,
    tid: i32,
}

thread_local! {
    static ME: OnceCell<Me> = const { OnceCell::new() };
}

impl Drop for Me {
    fn drop(&mut self) {
        self.readers.end_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_processor_is_told_from_a_busy_one() {
        let start = Instant::now();
        let look = |at, idle| Look {
            at: start + Duration::from_millis(at),
            idle: Duration::from_millis(idle),
        };
        let before = look(1000, 5000);
        let cases = [
            (look(1100, 5100), false, false),
            (look(1100, 5000), true, true),
            (look(1100, 5030), true, true),
            // In between it stays.
            (look(1100, 5050), false, true),
            // Of many processors.
            (look(1100, 11_000), false, false),
            (look(1000, 5000), false, true),
            // A clock that went back, as that of a container that was moved.
            (look(1100, 4000), true, true),
        ];
        for (now, was_idle, was_busy) in cases {
            assert_eq!(now.is_busy(before, false), was_idle, "{now:?}");
            assert_eq!(now.is_busy(before, true), was_busy, "{now:?}");
        }
    }

    type Requests = Arc<Mutex<Vec<Duration>>>;

    /// As many threads as there are serve in turn, as those of `fuser` do, each with
    /// its own request, until `ended`.
    fn serve(readers: &Arc<Readers>, requests: &Requests) -> Vec<std::thread::JoinHandle<()>> {
        let one = || {
            let (readers, requests) = (Arc::clone(readers), Arc::clone(requests));
            std::thread::spawn(move || {
                loop {
                    let request = requests.lock().pop();
                    match request {
                        Some(takes) => {
                            let _serving = readers.begin();
                            std::thread::sleep(takes);
                        }
                        None if readers.rest.lock().ended => return,
                        None => std::thread::sleep(Duration::from_micros(50)),
                    }
                }
            })
        };
        std::iter::repeat_with(one)
            .take(readers.threads())
            .collect()
    }

    fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
        let start = Instant::now();
        while !condition() {
            assert!(start.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn all_but_a_few_rest_and_are_called_when_these_sleep() {
        const ALL: usize = 8;
        let readers = Readers::new(Some(ALL));
        let requests = Requests::default();
        let threads = serve(&readers, &requests);
        let none_left = || requests.lock().is_empty();
        let resting = || readers.rest.lock().resting;
        let short = || *requests.lock() = vec![Duration::from_micros(100); 1000];

        readers.few.store(true, Relaxed);
        short();
        wait_until("they are served", none_left);
        wait_until("the others rest", || resting() == ALL - FEW);

        // More that sleep than there are threads that wait: each look calls one more.
        *requests.lock() = vec![Duration::from_secs(1); ALL - 1];
        let mut hold = 0;
        wait_until("others are called", || {
            hold = readers.call_if_asleep(readers.waiting.load(SeqCst) == 0, hold);
            none_left()
        });
        assert!(readers.hold.load(Relaxed), "they would rest at once");
        wait_until("they stay for a while, and rest again", || {
            hold = readers.call_if_asleep(readers.waiting.load(SeqCst) == 0, hold);
            if hold == 0 && none_left() {
                short();
            }
            resting() == ALL - FEW
        });

        // An idle processor: all wait.
        readers.few.store(false, Relaxed);
        readers.call(usize::MAX);
        wait_until("none rests", || resting() == 0);

        // The end of one is the end of all.
        readers.few.store(true, Relaxed);
        short();
        wait_until("they rest", || resting() == ALL - FEW);
        readers.end_all();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(resting(), 0);
        assert_eq!(readers.waiting.load(SeqCst), ALL);
    }

    #[test]
    fn it_is_looked_while_there_are_requests() {
        let readers = Readers::new(Some(4));
        let watcher = {
            let readers = Arc::clone(&readers);
            std::thread::spawn(move || readers.watch())
        };
        drop(readers.begin());
        assert!(readers.watched.load(Relaxed));
        wait_until("it is quiet", || !readers.watched.load(Relaxed));
        readers.close();
        watcher.join().unwrap();
    }
}
