//! The threads that serve: few of them wait for requests while no processor is
//! idle, and the others come when the disk stops these.

#[path = "support/mod.rs"]
mod support;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use support::busy::{BusyProcessors, rest_under_load, threads};
use support::own_fs::OwnFs;
use support::{Mount, run, wait_for};

/// A file system on which every change waits until this is dropped.
struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    fn new(path: &'a Path) -> Self {
        run(Command::new("fsfreeze").arg("--freeze").arg(path));
        Self(path)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        run(Command::new("fsfreeze").arg("--unfreeze").arg(self.0));
    }
}

/// Threads of the daemon that wait for a disk.
fn stopped(mount: &Mount) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", mount.pid())).unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats.filter(|stat| stat.contains(") D ")).count()
}

#[test]
fn those_that_rest_come_when_the_disk_stops_the_others() {
    const CHANGES: usize = 6;
    const MOST: u64 = 10;
    let disk = OwnFs::new(&["mkfs.ext4", "-q"], 128 << 20);
    let mut mount = Mount::builder().parent(disk.path()).start();
    let names: Vec<String> = (0..CHANGES).map(|n| format!("v{n}")).collect();
    for name in &names {
        // After its first change the catalogue need not be written for another.
        File::create(mount.volume(name).join("first")).unwrap();
    }
    let _busy = BusyProcessors::new();
    rest_under_load(mount.path(), MOST);

    std::thread::scope(|scope| {
        let frozen = Frozen::new(disk.path());
        for name in &names {
            let path = mount.join(name).join("f");
            scope.spawn(move || File::create(path).unwrap());
        }
        // As many are stopped as wait at a time, and then some come that need no disk.
        wait_for("threads are stopped", || stopped(&mount) >= 2);
        let (answer, answered) = mpsc::channel();
        let mount = &mount;
        scope.spawn(move || {
            for _ in 0..100 {
                rustix::fs::statfs(mount.path()).unwrap();
            }
            let _ = answer.send(());
        });
        let came = answered.recv_timeout(Duration::from_secs(20));
        let made = |name| mount.host_path(name).join("f").exists();
        let made = names.iter().any(|name| made(name));
        drop(frozen);
        assert_eq!(came, Ok(()), "nobody served while the disk stood still");
        assert!(!made, "it did not stand still");
    });
    for name in &names {
        assert!(mount.join(name).join("f").exists());
    }

    // Whoever rests does not keep the mount from ending.
    rest_under_load(mount.path(), MOST);
    mount.stop();
}

#[test]
fn as_few_as_one_can_be_asked_for() {
    let mut mount = Mount::builder().args(&["--threads", "1"]).start();
    let _busy = BusyProcessors::new();
    for _ in 0..2000 {
        rustix::fs::statfs(mount.path()).unwrap();
    }
    assert_eq!(threads(mount.path()), (1, 0));
    mount.stop();
}
