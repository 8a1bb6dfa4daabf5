//! Limits on all volumes of a user together, those in the trash included:
//! `--user-volumes`, `--user-bytes`, `--user-inodes`.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use support::user::{ALICE, BOB, User};
use support::{Mount, as_user};

const MIB: u64 = 1 << 20;

fn mount(options: &str) -> Mount {
    let options = format!("root_mode=1777,rmdir=trash,{options}");
    Mount::builder().args(&["-o", &options]).start()
}

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

fn mkdir(mount: &Mount, user: User, name: &str) -> std::io::Result<()> {
    as_user(user, || fs::create_dir(mount.join(name)))
}

/// What `user` is told in `last_error`.
fn told(mount: &Mount, user: User) -> String {
    as_user(user, || {
        fs::read_to_string(mount.join(".volfs/last_error")).unwrap()
    })
}

/// Writes until nothing more fits; returns the size.
fn fill(path: &Path) -> u64 {
    let mut file = File::options()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    while file.write_all(&[7; 65536]).is_ok() {}
    file.metadata().unwrap().len()
}

/// What the volumes of a user are charged, by what they hold.
fn held_by(mount: &Mount, user: User) -> (usize, u64) {
    let volfs = mount.volfs();
    let trash: Value = serde_json::from_str(&volfs.ok(&["trash", "ls", "--json"])).unwrap();
    let trash = trash
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["info"].clone());
    let all = volfs.list().into_iter().chain(trash);
    let theirs: Vec<Value> = all.filter(|it| it["owner"] == user.uid).collect();
    let bytes = theirs
        .iter()
        .map(|it| it["used"]["bytes"].as_u64().unwrap());
    (theirs.len(), bytes.sum())
}

#[test]
fn volumes_of_a_user_are_counted_with_the_trash() {
    let mount = mount("user_volumes=3");
    let volfs = mount.volfs();
    for name in ["a", "b", "c"] {
        mkdir(&mount, ALICE, name).unwrap();
        fs::write(mount.join(name).join("f"), "x").unwrap();
    }
    assert_eq!(errno(mkdir(&mount, ALICE, "d")), Some(libc::EDQUOT));
    // Removed is not gone.
    as_user(ALICE, || fs::remove_dir(mount.join("a")).unwrap());
    assert_eq!(errno(mkdir(&mount, ALICE, "d")), Some(libc::EDQUOT));
    let said = told(&mount, ALICE);
    for part in [
        "user 1000 may have 3 volumes and has 3, of which 1 in the trash",
        "volfs trash empty",
        "--user-volumes",
    ] {
        assert!(said.contains(part), "{said}");
    }
    // Others are others.
    mkdir(&mount, BOB, "of-bob").unwrap();
    for i in 0..5 {
        fs::create_dir(mount.join(format!("of-root-{i}"))).unwrap();
    }
    // An empty one is gone at once; so is what is deleted for good.
    fs::remove_file(mount.join("b/f")).unwrap();
    as_user(ALICE, || fs::remove_dir(mount.join("b")).unwrap());
    mkdir(&mount, ALICE, "d").unwrap();
    volfs.ok(&["trash", "empty", "--wait", "a"]);
    mkdir(&mount, ALICE, "e").unwrap();
    assert_eq!(errno(mkdir(&mount, ALICE, "f")), Some(libc::EDQUOT));
    // Nor by command, for that user.
    let refused = volfs.fails(1, &["create", "f", "--owner", "1000:1000"]);
    assert!(
        refused.contains("user 1000 may have 3 volumes"),
        "{refused}"
    );
    volfs.fails(1, &["clone", "c", "f"]);
    volfs.ok(&["rm", "c"]);
    volfs.ok(&["trash", "restore", "c"]);
    assert_eq!(held_by(&mount, ALICE).0, 3);
    // It is shown whose they are.
    let shown = volfs.ok(&["inspect", "c"]);
    assert!(shown.contains("Owner:      user 1000"), "{shown}");
    let lines = volfs.ok(&["ls", "--format", "{{owner}} {{name}}", "--sort", "owner"]);
    assert!(lines.ends_with("1001 of-bob\n"), "{lines}");
}

#[test]
fn bytes_are_bounded_over_all_volumes_and_the_trash() {
    let mount = mount("user_bytes=8M");
    mkdir(&mount, ALICE, "a").unwrap();
    mkdir(&mount, ALICE, "b").unwrap();
    as_user(ALICE, || {
        fs::write(mount.join("a/f"), vec![1; 3 << 20]).unwrap();
        let size = fill(&mount.join("b/f"));
        assert!(size > 4 * MIB && size < 5 * MIB, "{size}");
        // In no volume of theirs, by no way.
        assert_eq!(
            errno(fs::write(mount.join("a/g"), [1; 65536])),
            Some(libc::ENOSPC)
        );
        assert_eq!(
            errno(fs::copy(mount.join("a/f"), mount.join("a/h"))),
            Some(libc::ENOSPC)
        );
        let df = nix::sys::statvfs::statvfs(&mount.join("a")).unwrap();
        assert!(df.blocks_available() * df.fragment_size() < 8192);
    });
    let said = told(&mount, ALICE);
    assert!(
        said.contains("user 1000 may have 8 MiB in volumes"),
        "{said}"
    );
    assert!(said.contains("--user-bytes"), "{said}");
    // Others have room, and root.
    mkdir(&mount, BOB, "c").unwrap();
    as_user(BOB, || {
        fs::write(mount.join("c/f"), vec![1; 5 << 20]).unwrap()
    });
    fs::create_dir(mount.join("r")).unwrap();
    fs::write(mount.join("r/f"), vec![1; 9 << 20]).unwrap();
    // What is in the trash is still theirs.
    as_user(ALICE, || {
        fs::remove_dir(mount.join("b")).unwrap();
        assert_eq!(
            errno(fs::write(mount.join("a/i"), [1; 65536])),
            Some(libc::ENOSPC)
        );
    });
    let (volumes, bytes) = held_by(&mount, ALICE);
    assert!(volumes == 2 && bytes <= 8 * MIB, "{volumes} {bytes}");
    mount.volfs().ok(&["trash", "empty", "--wait", "b"]);
    as_user(ALICE, || {
        fs::write(mount.join("a/i"), vec![1; 4 << 20]).unwrap()
    });
}

#[test]
fn inodes_are_bounded_over_all_volumes() {
    let mount = mount("user_inodes=20");
    mkdir(&mount, ALICE, "a").unwrap();
    mkdir(&mount, ALICE, "b").unwrap();
    let made = as_user(ALICE, || {
        (0..40)
            .map(|i| mount.join(["a", "b"][i % 2]).join(format!("f{i}")))
            .filter(|path| File::create(path).is_ok())
            .count()
    });
    // Two are the volumes' own.
    assert_eq!(made, 18);
    assert!(told(&mount, ALICE).contains("user 1000 may have 20 inodes in volumes"));
    assert_eq!(errno(mkdir(&mount, ALICE, "c")), Some(libc::EDQUOT));
}

#[test]
fn no_race_of_makers_gets_past_the_limit() {
    let mount = mount("user_volumes=7,user_bytes=4M");
    let made = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..12 {
            let (mount, made) = (&mount, &made);
            scope.spawn(move || {
                for i in 0..6 {
                    let name = format!("v{thread}-{i}");
                    if mkdir(mount, ALICE, &name).is_ok() {
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let volumes: Vec<_> = fs::read_dir(mount.path()).unwrap().collect();
    std::thread::scope(|scope| {
        for volume in &volumes {
            let file = volume.as_ref().unwrap().path().join("f");
            scope.spawn(|| {
                let file = file;
                as_user(ALICE, || fill(&file))
            });
        }
    });
    assert_eq!(made.into_inner(), 7);
    let (volumes, bytes) = held_by(&mount, ALICE);
    assert_eq!(volumes, 7);
    // Filled, and not by a block too much.
    assert!(bytes + 7 * 4096 <= 4 * MIB && bytes > 3 * MIB, "{bytes}");
}

#[test]
fn it_holds_over_a_new_mount_and_the_death_of_the_process() {
    let mut mount = Mount::builder()
        .args(&[
            "-o",
            "root_mode=1777,rmdir=trash,user_bytes=4M,user_volumes=2",
        ])
        .supervised()
        .start();
    mkdir(&mount, ALICE, "a").unwrap();
    mkdir(&mount, ALICE, "b").unwrap();
    as_user(ALICE, || {
        fs::write(mount.join("a/f"), vec![1; 2 << 20]).unwrap()
    });
    let is_full = |mount: &Mount| {
        as_user(ALICE, || {
            assert_eq!(
                errno(fs::write(mount.join("b/f"), vec![1; 3 << 20])),
                Some(libc::ENOSPC)
            );
            fs::remove_file(mount.join("b/f")).unwrap();
        });
        assert_eq!(errno(mkdir(mount, ALICE, "c")), Some(libc::EDQUOT));
    };
    is_full(&mount);
    mount.kill_serving();
    is_full(&mount);
    mount.remount();
    is_full(&mount);
    as_user(ALICE, || {
        fs::remove_dir(mount.join("a")).unwrap();
    });
    mount.remount();
    is_full(&mount);
}

#[test]
fn a_volume_that_is_given_away_counts_for_who_gets_it() {
    let mount = mount("user_volumes=2,user_bytes=4M");
    fs::create_dir(mount.join("v")).unwrap();
    fs::write(mount.join("v/f"), vec![1; 3 << 20]).unwrap();
    chown(mount.join("v"), Some(1000), Some(1000)).unwrap();
    assert_eq!(mount.volfs().list()[0]["owner"], 1000);
    assert_eq!(fs::metadata(mount.join("v")).unwrap().uid(), 1000);
    mkdir(&mount, ALICE, "w").unwrap();
    as_user(ALICE, || {
        assert_eq!(
            errno(fs::write(mount.join("w/f"), vec![1; 2 << 20])),
            Some(libc::ENOSPC)
        );
    });
    assert_eq!(errno(mkdir(&mount, ALICE, "x")), Some(libc::EDQUOT));
    // And no more for who had it.
    chown(mount.join("v"), Some(1001), None).unwrap();
    as_user(ALICE, || {
        fs::write(mount.join("w/f"), vec![1; 2 << 20]).unwrap()
    });
    mkdir(&mount, ALICE, "x").unwrap();
    // What is in a volume does not matter, nor does a change of the group.
    chown(mount.join("v/f"), Some(1000), None).unwrap();
    chown(mount.join("v"), None, Some(1000)).unwrap();
    assert_eq!(held_by(&mount, BOB), (1, 3 * MIB));
    // Nobody counts what is being written past the daemon.
    fs::create_dir(mount.join("open")).unwrap();
    let writer = File::create(mount.join("open/f")).unwrap();
    assert_eq!(
        errno(chown(mount.join("open"), Some(1001), None)),
        Some(libc::EBUSY)
    );
    assert_eq!(fs::metadata(mount.join("open")).unwrap().uid(), 0);
    drop(writer);
    support::wait_for("it is closed", || {
        chown(mount.join("open"), Some(1001), None).is_ok()
    });
}

#[test]
fn a_disk_volume_counts_with_its_size() {
    let mount = mount("user_bytes=40M,default_kind=disk,default_size=16M");
    mkdir(&mount, ALICE, "a").unwrap();
    mkdir(&mount, ALICE, "b").unwrap();
    assert_eq!(errno(mkdir(&mount, ALICE, "c")), Some(libc::EDQUOT));
    let volfs = mount.volfs();
    volfs.fails(1, &["set", "a", "--size", "32M"]);
    volfs.ok(&["set", "a", "--size", "20M"]);
    volfs.ok(&["rm", "--purge", "--wait", "b"]);
    mkdir(&mount, ALICE, "d").unwrap();
    assert_eq!(errno(mkdir(&mount, ALICE, "e")), Some(libc::EDQUOT));
}

#[test]
fn volumes_of_earlier_versions_are_their_roots_owners() {
    let mut mount = mount("nosupervisor");
    mkdir(&mount, ALICE, "a").unwrap();
    mkdir(&mount, ALICE, "b").unwrap();
    mount.stop();
    let catalogue = rusqlite::Connection::open(mount.store().join("meta.db")).unwrap();
    catalogue
        .execute("UPDATE volume SET owner = NULL", [])
        .unwrap();
    drop(catalogue);
    mount.set_args(&["-o", "root_mode=1777,user_volumes=2"]);
    mount.start();
    assert_eq!(errno(mkdir(&mount, ALICE, "c")), Some(libc::EDQUOT));
    assert_eq!(held_by(&mount, ALICE).0, 2);
}
