//! Waiting for something by asking again, never by sleeping for a guessed
//! while.

use std::time::{Duration, Instant};

/// Asks `ready` until it gives a value, or until `limit` has passed.
pub fn poll<T>(limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if start.elapsed() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits up to 20 s for a condition.
///
/// # Panics
/// With `what` when it did not come true.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let came = poll(Duration::from_secs(20), || condition().then_some(()));
    assert!(came.is_some(), "waited 20 s in vain: {what}");
}

/// Waits until the clock that file systems stamp files with has moved on, so
/// that a later change gets a later time.
pub fn clock_tick() {
    let now = || rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    let before = now();
    wait_for("the coarse clock ticks", || {
        let after = now();
        (after.tv_sec, after.tv_nsec) > (before.tv_sec, before.tv_nsec)
    });
}
