//! Keeping processors awake while many requests come (`--low-latency`).
//!
//! A request is two wake-ups: the process that serves, and the one that waits for
//! the reply. Where each takes another processor out of its sleep, and most of all
//! in a virtual machine, that is most of what a request costs: measured on two
//! virtual processors, a statfs takes 17 to 29 us, and 11 to 13 while they may not
//! sleep, and 1.5 to 1.8 times as many renames, creates and removals are done.
//! An idle processor then polls, and does so for all that runs on the machine:
//! hence only on demand, and only while there is traffic.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};

use crate::sys::cpu_latency::CpuLatency;

/// So many requests within a [`WINDOW`] are traffic: one client that waits for
/// each reply sends about 130 of them.
const BURST: u64 = 32;
const WINDOW: Duration = Duration::from_millis(4);

/// Without a request for so long, there is no traffic any more. Each change wakes
/// all processors (`cpu_latency_qos_apply`, kernel/power/qos.c), so that it must
/// be rare beside requests.
const QUIET: Duration = Duration::from_millis(2);

/// The processors of this machine, as far as requests need them.
pub(super) struct Awake {
    latency: CpuLatency,
    start: Instant,
    /// The number of the window, and in the lowest 16 bits how many requests came
    /// in it. Threads that count at the same time may lose some.
    window: AtomicU64,
    awake: AtomicBool,
    /// Whether a request has come since the last look.
    traffic: AtomicBool,
    bursts: AtomicU64,
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Awake {
    /// # Errors
    /// This process may not keep processors awake.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            latency: CpuLatency::open()?,
            start: Instant::now(),
            window: AtomicU64::new(0),
            awake: AtomicBool::new(false),
            traffic: AtomicBool::new(false),
            bursts: AtomicU64::new(0),
            closed: Mutex::new(false),
            changed: Condvar::new(),
        })
    }

    /// A request has come, at `now`.
    pub(super) fn request(&self, now: Instant) {
        if self.awake.load(Relaxed) {
            // Written only where it changes, so that threads share its line.
            if !self.traffic.load(Relaxed) {
                self.traffic.store(true, Relaxed);
            }
            return;
        }
        let number = now.duration_since(self.start).as_millis() / WINDOW.as_millis();
        let number = number as u64;
        let window = self.window.load(Relaxed);
        let before = if window >> 16 == number {
            window & 0xffff
        } else {
            0
        };
        if before < BURST {
            self.window.store(number << 16 | (before + 1), Relaxed);
        } else {
            self.wake();
        }
    }

    fn wake(&self) {
        let closed = self.closed.lock();
        if *closed || self.awake.load(Relaxed) {
            return;
        }
        match self.latency.stay_awake() {
            Ok(()) => {
                self.bursts.fetch_add(1, Relaxed);
                self.traffic.store(true, Relaxed);
                self.awake.store(true, Relaxed);
                self.changed.notify_all();
            }
            Err(error) => log::error!("cannot keep processors awake: {error}"),
        }
    }

    /// Lets processors sleep again whenever it is quiet, until it is closed.
    pub(super) fn watch(&self) {
        let mut closed = self.closed.lock();
        while !*closed {
            if !self.awake.load(Relaxed) {
                self.changed.wait(&mut closed);
                continue;
            }
            self.changed.wait_for(&mut closed, QUIET);
            if !self.traffic.swap(false, Relaxed) || *closed {
                self.awake.store(false, Relaxed);
                if let Err(error) = self.latency.may_sleep() {
                    log::error!("cannot let processors sleep: {error}");
                }
            }
        }
    }

    /// No more requests come.
    pub(super) fn close(&self) {
        *self.closed.lock() = true;
        self.changed.notify_all();
    }

    /// As in `.volfs/stats.json`.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "awake": self.awake.load(Relaxed),
            "bursts": self.bursts.load(Relaxed),
        })
    }
}
