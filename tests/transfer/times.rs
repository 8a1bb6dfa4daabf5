//! Times, and modes of directories, whatever is made in them afterwards.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::process::Command;

use tar::EntryType;

use crate::hostile::{end, entry, file, pax};
use crate::support::user::ALICE;
use crate::support::{TestDir, Volfs, run};
use crate::{args, assert_exact, data_of};

#[test]
fn access_times_survive_and_reading_leaves_none() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    volfs.ok(&["create", "src"]);
    let src = data_of(&volfs, "src");
    fs::create_dir(src.join("d")).unwrap();
    fs::write(src.join("d/f"), "contents").unwrap();
    fs::write(src.join("old"), "").unwrap();
    std::os::unix::fs::symlink("d/f", src.join("l")).unwrap();
    // Before the modification, so that anybody who reads would change them.
    let times = [
        ("d/f", "2001-02-03T04:05:06.123456789Z"),
        ("old", "1961-12-31T00:00:00.5Z"),
        ("l", "1999-09-09T09:09:09.000000001Z"),
        ("d", "2010-10-10T10:10:10.1Z"),
        (".", "2011-11-11T11:11:11.25Z"),
    ];
    for (name, time) in times {
        run(Command::new("touch")
            .args(["-h", "-a", "-d", time])
            .arg(src.join(name)));
    }
    let atimes = |volume: &str| {
        times.map(|(name, _)| {
            let path = data_of(&volfs, volume).join(name);
            let found = path.symlink_metadata().unwrap();
            (name, found.atime(), found.atime_nsec())
        })
    };
    let before = atimes("src");
    let archive = dir.join("a.tar");
    volfs.ok(&args!["export", "src", "-o", archive]);
    let after = atimes("src");
    for (before, after) in before.into_iter().zip(after) {
        // The kernel has no way to read a link without a trace.
        if before.0 != "l" {
            assert_eq!(after, before);
        }
    }
    volfs.ok(&args!["import", "imported", archive]);
    assert_eq!(atimes("imported"), before);
    run(Command::new("touch")
        .args(["-h", "-a", "-d", times[2].1])
        .arg(src.join("l")));
    volfs.ok(&["clone", "src", "cloned"]);
    assert_eq!(atimes("cloned"), before);
}

fn dir(out: &mut Vec<u8>, name: &str, mode: u32, mtime: &str) {
    let mut header = Vec::new();
    entry(&mut header, name, EntryType::Directory, "", b"");
    let mut header = tar::Header::from_byte_slice(&header[..512]).clone();
    header.set_mode(mode);
    header.set_uid(ALICE.uid.into());
    header.set_gid(ALICE.gid.into());
    header.set_cksum();
    pax(out, &[("mtime", mtime), ("atime", "7.7")]);
    out.extend(header.as_bytes());
}

/// Each directory is as its last entry says, also where its owner may not
/// write in it, or not even enter.
#[test]
fn directories_are_what_their_entries_say() {
    let mut bytes = Vec::new();
    dir(&mut bytes, "ro/", 0o555, "1.000000001");
    dir(&mut bytes, "shut/", 0o600, "2.5");
    dir(&mut bytes, "none/", 0o000, "3.5");
    dir(&mut bytes, "twice/", 0o000, "3.5");
    dir(&mut bytes, "emptied/", 0o000, "3.5");
    for above in ["ro", "shut", "none", "twice"] {
        bytes.extend(file(&format!("{above}/f")));
        // One that no entry speaks of, and what is in it.
        bytes.extend(file(&format!("{above}/implied/f")));
        bytes.extend(file(&format!("{above}/g")));
        dir(&mut bytes, &format!("{above}/in/"), 0o2511, "4.5");
        bytes.extend(file(&format!("{above}/in/h")));
    }
    dir(&mut bytes, "twice/", 0o711, "5.5");
    bytes.extend(file("twice/last"));
    entry(&mut bytes, "emptied", EntryType::Symlink, "ro", b"");
    dir(&mut bytes, "./", 0o755, "6.000000006");
    bytes.extend(file("last"));
    end(&mut bytes);
    let world = TestDir::new();
    let archive = world.join("a.tar");
    fs::write(&archive, &bytes).unwrap();
    let home = world.mkdir("home");
    chown(&home, Some(ALICE.uid), Some(ALICE.gid)).unwrap();
    let root = Volfs::new(&world.join("store"));
    let alice = Volfs::new(&home.join("store")).as_user(ALICE);
    for volfs in [root, alice] {
        volfs.ok(&args!["import", "v", archive]);
        let data = data_of(&volfs, "v");
        let mut expected = vec![
            (String::new(), 0o755, 6, 6),
            ("ro".into(), 0o555, 1, 1),
            ("shut".into(), 0o600, 2, 500_000_000),
            ("none".into(), 0o000, 3, 500_000_000),
            ("twice".into(), 0o711, 5, 500_000_000),
        ];
        for above in ["ro", "shut", "none", "twice"] {
            expected.push((format!("{above}/in"), 0o2511, 4, 500_000_000));
        }
        for (name, mode, seconds, nanos) in expected {
            let found = fs::metadata(data.join(&name)).unwrap();
            assert_eq!(
                (found.mode() & 0o7777, found.mtime(), found.mtime_nsec()),
                (mode, seconds, nanos),
                "{name}"
            );
            assert_eq!((found.atime(), found.atime_nsec()), (7, 700_000_000));
        }
        for above in ["ro", "shut", "none", "twice"] {
            let found = fs::metadata(data.join(above).join("implied")).unwrap();
            assert_eq!(found.mode() & 0o7777, 0o755);
            assert_eq!(
                fs::read(data.join(above).join("implied/f")).unwrap(),
                b"escaped"
            );
        }
        assert!(
            data.join("emptied")
                .symlink_metadata()
                .unwrap()
                .is_symlink()
        );
    }
    assert_exact(&Volfs::new(&world.join("store")), "v");
}
