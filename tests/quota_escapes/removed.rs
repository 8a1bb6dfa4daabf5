//! What was removed and is still referred to: it is not charged, and so must not
//! take the host's space.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Mode, OFlags};

use crate::support::{Mount, run, wait_for};
use crate::{attribute, used};

/// A descriptor that refers to an inode without opening it.
fn refer(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// Bytes of the host that inodes without a name take, because the daemon has a
/// descriptor of each.
fn kept_by_daemon(mount: &Mount) -> u64 {
    let device = mount.store().metadata().unwrap().dev();
    let all = fs::read_dir(format!("/proc/{}/fd", mount.pid())).unwrap();
    all.filter_map(|fd| fs::metadata(fd.unwrap().path()).ok())
        .filter(|inode| inode.dev() == device && inode.nlink() == 0)
        .map(|inode| inode.blocks() * 512)
        .sum()
}

/// A process that takes descriptors for itself must not make the daemon keep what
/// others (or it itself) have removed.
#[test]
fn files_when_the_daemon_has_no_descriptors() {
    const FILES: usize = 24;
    const EACH: usize = 1 << 20;
    let mount = Mount::new();
    mount.volfs().ok(&["create", "v", "--quota", "100M"]);
    let v = mount.join("v");
    let path = |n: usize| v.join(n.to_string());
    let mut referred = Vec::new();
    for n in 0..FILES {
        fs::write(path(n), vec![1; EACH]).unwrap();
        referred.push(refer(&path(n)));
    }
    fs::write(v.join("opened"), "x").unwrap();
    let before = used(&v);
    wait_for("closes", || kept_by_daemon(&mount) == 0);
    run(Command::new("prlimit").args(["--pid", &mount.pid().to_string(), "--nofile=200:200"]));
    let mut openers = Vec::new();
    let take = |openers: &mut Vec<File>| {
        while let Ok(file) = File::open(v.join("opened")) {
            openers.push(file);
            assert!(openers.len() < 1000, "no descriptor is taken");
        }
    };
    take(&mut openers);
    for n in 0..FILES {
        // One after the other, so that all numbers of free ones occur.
        while let Err(error) = fs::remove_file(path(n)) {
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
            drop(openers.pop().expect("descriptors for a removal"));
        }
    }
    drop(openers);
    // The kernel sends a close after close(2) has returned.
    let mut after = None;
    wait_for("descriptors", || {
        after = attribute(&v, "volfs.used.bytes").ok();
        after.is_some()
    });
    let freed = before.0 - after.unwrap().parse::<u64>().unwrap();
    assert_eq!(freed, (FILES * EACH) as u64);
    assert_eq!(kept_by_daemon(&mount), 0);
    drop(referred);
}

/// The same where the last close comes after the removal.
#[test]
fn open_files_when_the_daemon_has_no_descriptors() {
    const FILES: usize = 24;
    const EACH: usize = 1 << 20;
    let mount = Mount::new();
    mount.volfs().ok(&["create", "v", "--quota", "100M"]);
    let v = mount.join("v");
    let path = |n: usize| v.join(n.to_string());
    let mut held = Vec::new();
    for n in 0..FILES {
        fs::write(path(n), vec![1; EACH]).unwrap();
        held.push((refer(&path(n)), File::open(path(n)).unwrap()));
        fs::remove_file(path(n)).unwrap();
    }
    fs::write(v.join("opened"), "x").unwrap();
    assert!(used(&v).0 > (FILES * EACH) as u64);
    run(Command::new("prlimit").args(["--pid", &mount.pid().to_string(), "--nofile=200:200"]));
    let mut openers = Vec::new();
    let mut referred = Vec::new();
    for (refers, open) in held {
        while let Ok(file) = File::open(v.join("opened")) {
            openers.push(file);
            assert!(openers.len() < 1000, "no descriptor is taken");
        }
        drop(open);
        referred.push(refers);
    }
    drop(openers);
    let charged = || attribute(&v, "volfs.used.bytes").ok();
    wait_for("closes", || charged().is_some_and(|it| it == "4096"));
    assert_eq!(kept_by_daemon(&mount), 0);
}
