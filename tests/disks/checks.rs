//! While e2fsck looks at an image nobody else gets hold of it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::user::{User, as_user};
use crate::support::{Mount, run, wait_for};
use crate::{create, images};

/// What daemons and programs without rights commonly run as.
const NOBODY: User = User {
    uid: 65534,
    gid: 65534,
    groups: &[],
};

/// The directories in `/proc` of all e2fsck.
fn checkers() -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .map(|process| process.path())
        .filter(|process| fs::read_to_string(process.join("comm")).is_ok_and(|c| c == "e2fsck\n"))
        .collect()
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Tries to get the file from who checks it, until told to stop. What is had
/// once is had for good.
fn steal(wanted: (u64, u64), stop: &AtomicBool) -> Option<String> {
    while !stop.load(Ordering::Relaxed) {
        for checker in checkers() {
            let Ok(descriptors) = fs::read_dir(checker.join("fd")) else {
                continue;
            };
            for path in descriptors.flatten().map(|entry| entry.path()) {
                for write in [true, false] {
                    let opened = OpenOptions::new().read(true).write(write).open(&path);
                    let file = opened.ok().and_then(|file| file.metadata().ok());
                    if file.is_some_and(|file| (file.dev(), file.ino()) == wanted) {
                        return Some(format!("{path:?} was opened, write: {write}"));
                    }
                }
            }
        }
    }
    None
}

/// What is to be seen of those who check the file, until told to stop: that
/// they have no right, and that the file has no mode that lets others in.
fn watch(image: &Path, stop: &AtomicBool) -> (Vec<u32>, Vec<String>) {
    let wanted = identity(image);
    let mode = fs::metadata(image).unwrap().mode();
    let (mut users, mut faults) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let now = fs::metadata(image).unwrap().mode();
        if now & 0o007 != mode & 0o007 {
            faults.push(format!("the image has mode {now:o}"));
        }
        for checker in checkers() {
            let status = fs::read_to_string(checker.join("status")).unwrap_or_default();
            if identity(&checker.join("fd/0")) != wanted {
                continue;
            }
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_default()
                    .split_whitespace()
                    .collect::<Vec<_>>()
            };
            // Between fork(2) and execve(2) it is called otherwise.
            if field("Name:") != ["e2fsck"] {
                continue;
            }
            let (uids, gids) = (field("Uid:"), field("Gid:"));
            users.extend(uids.first().and_then(|uid| uid.parse::<u32>().ok()));
            let alone = [&uids, &gids]
                .into_iter()
                .all(|ids| ids.iter().all(|id| *id == uids[0]));
            if !alone || !field("Groups:").is_empty() {
                faults.push(format!("users {uids:?}, groups {gids:?}"));
            }
            let sets = ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"];
            if sets
                .into_iter()
                .any(|set| field(set) != ["0000000000000000"])
            {
                faults.push("it has capabilities".to_owned());
            }
            if field("NoNewPrivs:") != ["1"] {
                faults.push("it can get privileges".to_owned());
            }
        }
    }
    (users, faults)
}

/// Mode, owner and ACL.
fn looks(image: &Path) -> (u32, u32, u32, String) {
    let found = fs::metadata(image).unwrap();
    let acl = run(Command::new("getfacl").args(["-cpn"]).arg(image));
    (found.mode(), found.uid(), found.gid(), acl)
}

#[test]
fn nobody_gets_an_image_from_who_checks_it() {
    let mount = Mount::new();
    create(&mount, "db", "2G");
    let image = images(mount.store()).remove(0);
    let wanted = identity(&image).unwrap();
    let before = looks(&image);
    let stop = AtomicBool::new(false);
    let (stolen, (users, faults)) = std::thread::scope(|scope| {
        let thief = scope.spawn(|| as_user(NOBODY, || steal(wanted, &stop)));
        let watcher = scope.spawn(|| watch(&image, &stop));
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..10 {
                mount.volfs().ok(&["disk", "check", "db"]);
                mount.volfs().ok(&["disk", "check", "--repair", "db"]);
                mount.volfs().ok(&["disk", "trust", "db"]);
            }
        }));
        stop.store(true, Ordering::Relaxed);
        let found = (thief.join().unwrap(), watcher.join().unwrap());
        done.unwrap();
        found
    });
    assert_eq!(stolen, None);
    assert_eq!(faults, [""; 0]);
    assert!(!users.is_empty(), "no check was seen");
    assert!(users.iter().all(|&uid| uid >= 1 << 31), "{users:?}");
    let mut different = users;
    different.dedup();
    assert!(different.len() > 1, "always user {different:?}");
    assert_eq!(looks(&image), before);
}

/// Runs `volfs disk check db` without a daemon in a user namespace of its own,
/// in which so many ids are what they are outside; returns what users e2fsck had
/// and what was wrong with it.
fn check_among(ids: u32) -> (Vec<u32>, Vec<String>) {
    let mut mount = Mount::new();
    create(&mount, "db", "2G");
    mount.stop();
    let image = images(mount.store()).remove(0);
    let before = looks(&image);
    let stop = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&image, &stop));
        let done = std::panic::catch_unwind(|| {
            for _ in 0..5 {
                // It waits until it is somebody.
                let mut command = Command::new("unshare");
                command.args(["--user", "sh", "-c", "read go; exec \"$@\"", "sh"]);
                command.arg(env!("CARGO_BIN_EXE_volfs"));
                command.arg("--store").arg(mount.store());
                command.args(["disk", "check", "db"]);
                let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
                let process = Path::new("/proc").join(child.id().to_string());
                let outside = fs::read_link("/proc/self/ns/user").unwrap();
                wait_for("a user namespace", || {
                    fs::read_link(process.join("ns/user")).unwrap() != outside
                });
                for map in ["uid_map", "gid_map"] {
                    fs::write(process.join(map), format!("0 0 {ids}")).unwrap();
                }
                child.stdin.take().unwrap().write_all(b"go\n").unwrap();
                assert!(child.wait().unwrap().success());
            }
        });
        stop.store(true, Ordering::Relaxed);
        let seen = watcher.join().unwrap();
        done.unwrap();
        seen
    });
    assert_eq!(looks(&image), before);
    seen
}

#[test]
fn a_container_with_few_users_has_one_that_nobody_is() {
    let (users, faults) = check_among(65536);
    assert_eq!(faults, [""; 0]);
    assert!(!users.is_empty(), "no check was seen");
    assert!(
        users.iter().all(|uid| (60578..61184).contains(uid)),
        "{users:?}"
    );
}

#[test]
fn where_there_is_but_one_user_capabilities_are_given_up() {
    let (users, faults) = check_among(1);
    assert_eq!(faults, [""; 0]);
    assert!(!users.is_empty(), "no check was seen");
}
