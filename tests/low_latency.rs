//! `--low-latency`: processors stay awake while many requests come, and no longer.

#[path = "support/mod.rs"]
mod support;

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use support::{Mount, wait_for};

/// `PM_QOS_CPU_LATENCY_DEFAULT_VALUE` (include/linux/pm_qos.h), in microseconds.
const NO_DEMAND: i32 = 2_000_000_000;

/// What is demanded of the processors now, by all who demand something.
fn demanded() -> i32 {
    let mut bytes = [0; 4];
    let mut device = File::open("/dev/cpu_dma_latency").unwrap();
    device.read_exact(&mut bytes).unwrap();
    i32::from_ne_bytes(bytes)
}

fn low_latency(mount: &Mount) -> Value {
    let text = fs::read_to_string(mount.join(".volfs/stats.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["low_latency"].clone()
}

fn bursts(mount: &Mount) -> u64 {
    low_latency(mount)["bursts"].as_u64().unwrap()
}

/// Makes requests until `seen` says so; each statfs is one.
fn ask_until(dir: &Path, seen: &AtomicBool) {
    while !seen.load(Ordering::Relaxed) {
        rustix::fs::statfs(dir).unwrap();
    }
}

/// Sends many requests until the demand is there.
fn awake_under_load(mount: &Mount) {
    let seen = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| ask_until(mount.path(), &seen));
        let look = || demanded() == 0;
        // Also when it never comes: the thread must end.
        let result = std::panic::catch_unwind(|| wait_for("processors that stay awake", look));
        seen.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}

#[test]
fn processors_stay_awake_while_many_requests_come() {
    assert_eq!(
        demanded(),
        NO_DEMAND,
        "something else keeps processors awake"
    );
    let mount = Mount::builder()
        .args(&["--low-latency"])
        .supervised()
        .start();
    let before = bursts(&mount);
    awake_under_load(&mount);
    wait_for("processors that may sleep", || demanded() == NO_DEMAND);
    assert!(bursts(&mount) > before);
    assert_eq!(low_latency(&mount)["awake"], false);

    // Whatever becomes of the process that serves.
    mount.kill_serving();
    awake_under_load(&mount);
    mount.kill_serving();
    wait_for("processors that may sleep", || demanded() == NO_DEMAND);

    // Now and then a request is no reason.
    let before = bursts(&mount);
    for _ in 0..20 {
        rustix::fs::statfs(mount.path()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(bursts(&mount), before);
}

#[test]
fn nothing_is_demanded_unless_asked_for() {
    let mount = Mount::new();
    for _ in 0..1000 {
        rustix::fs::statfs(mount.path()).unwrap();
    }
    assert_eq!(low_latency(&mount), Value::Null);
    let device = Path::new("/dev/cpu_dma_latency");
    let open = fs::read_dir(format!("/proc/{}/fd", mount.pid())).unwrap();
    let links = open.map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
    assert!(!links.into_iter().any(|link| link == device));
}
