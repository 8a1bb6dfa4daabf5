//! Processors without a moment to spare, and threads of a daemon that rest then.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::wait::wait_for;

/// Keeps every processor busy until dropped.
pub struct BusyProcessors(Vec<Child>);

impl BusyProcessors {
    /// Until then.
    pub fn new() -> Self {
        let processors = std::thread::available_parallelism().unwrap().get();
        let start = || {
            let mut endless = Command::new("sh");
            endless.args(["-c", "while :; do :; done"]).spawn().unwrap()
        };
        Self(std::iter::repeat_with(start).take(processors).collect())
    }
}

impl Drop for BusyProcessors {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The threads that serve a mount: all, and those that rest.
pub fn threads(mountpoint: &Path) -> (u64, u64) {
    let text = fs::read_to_string(mountpoint.join(".volfs/stats.json")).unwrap();
    let stats: Value = serde_json::from_str(&text).unwrap();
    let number = |field| stats["threads"][field].as_u64().unwrap();
    (number("all"), number("resting"))
}

/// Makes requests until more than `more_than` threads rest, which takes some traffic.
pub fn rest_under_load(mountpoint: &Path, more_than: u64) {
    let seen = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !seen.load(Ordering::Relaxed) {
                rustix::fs::statfs(mountpoint).unwrap();
            }
        });
        let rest = || threads(mountpoint).1 > more_than;
        // Also when it never comes: the thread must end.
        let result = std::panic::catch_unwind(|| wait_for("threads rest", rest));
        seen.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}
