//! The kernel kills the serving process for lack of memory, in a control group as
//! a service or a container has one: another goes on.
//!
//! `VOLFS_LONG=1` has it killed 50 times.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::killing::kills;
use crate::storm::storm_under;
use crate::support::mount::answers;
use crate::support::{Mount, poll, proc, wait_for};

/// A control group with a limit of memory; gone with its last process.
struct Group {
    dir: PathBuf,
    unified: bool,
}

impl Group {
    fn new(limit: u64) -> Self {
        let (root, unified) = memory_controller();
        let dir = root.join(format!("volfs-test-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let group = Self { dir, unified };
        let (memory, swap) = if unified {
            ("memory.max", "memory.swap.max")
        } else {
            ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        };
        group.write(memory, limit);
        if group.dir.join(swap).exists() {
            group.write(swap, if unified { 0 } else { limit });
        }
        group
    }

    fn write(&self, file: &str, value: u64) {
        let path = self.dir.join(file);
        fs::write(&path, value.to_string()).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    }

    fn add(&self, pid: i32) {
        self.write("cgroup.procs", u64::from(pid.unsigned_abs()));
    }

    /// How many processes the kernel has killed in it for lack of memory.
    fn oom_kills(&self) -> u64 {
        let file = if self.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = fs::read_to_string(self.dir.join(file)).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.unwrap().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its processes have just ended.
        let gone = poll(Duration::from_secs(10), || fs::remove_dir(&self.dir).ok());
        if gone.is_none() {
            eprintln!("{:?} is left over", self.dir);
        }
    }
}

/// Where control groups of memory are made, and whether they are of version 2.
fn memory_controller() -> (PathBuf, bool) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let root = Path::new(fields[1]);
        let control = fs::read_to_string(root.join("cgroup.subtree_control"));
        let unified = fields[2] == "cgroup2"
            && control.is_ok_and(|control| control.split_whitespace().any(|name| name == "memory"));
        let old = fields[2] == "cgroup" && fields[3].split(',').any(|name| name == "memory");
        if unified || old {
            return (root.to_owned(), unified);
        }
    }
    panic!("no control groups of memory are mounted: {mounts}");
}

/// A process in the group that takes more and more memory.
struct Hog(Child);

const HOG: &str = r#"
import os, sys, time
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
held = []
while True:
    held.append(b"x" * (1 << 20)); time.sleep(0.001)
"#;

impl Hog {
    fn start(group: &Group) -> Self {
        let child = Command::new("python3")
            .args(["-c", HOG])
            .arg(&group.dir)
            .stdin(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes the memory away until the kernel has killed the serving process: that is
/// the one to be chosen. Lowering the score of the other would take a capability.
fn run_out(mount: &Mount, group: &Group) {
    let serving = poll(Duration::from_secs(20), || mount.serving_pid());
    let score = format!("/proc/{}/oom_score_adj", serving.unwrap());
    fs::write(&score, "1000").unwrap();
    let before = group.oom_kills();
    let hog = Hog::start(group);
    wait_for("the kernel kills for lack of memory", || {
        group.oom_kills() > before && mount.serving_pid() != serving
    });
    drop(hog);
    wait_for("another process serves", || {
        mount.serving_pid().is_some() && answers(mount.path()).is_ok()
    });
}

#[test]
fn killed_by_the_kernel_for_lack_of_memory() {
    // Dropped last.
    let group = Group::new(64 << 20);
    let mount = Mount::builder().supervised().start();
    mount.volume("plain");
    mount.volfs().ok(&["create", "limited", "--quota", "512M"]);
    group.add(mount.pid());
    // The next is in the group too.
    mount.kill_serving();
    wait_for("another process serves", || mount.serving_pid().is_some());
    let times = kills(4).min(50);
    for volume in ["plain", "limited"] {
        storm_under(&mount, volume, true, times, |stop| {
            for _ in 0..times {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                run_out(&mount, &group);
            }
        });
    }
    assert!(group.oom_kills() >= 2 * times as u64);
    println!("{} processes were killed by the kernel", group.oom_kills());
    // Never the supervisor.
    assert!(proc::is_alive(mount.pid().unsigned_abs().cast_signed()));
}
