//! How many requests the kernel sends for what people do: the claims of
//! the table in docs/testing.md, counted by the daemon itself. FORGET is not counted: nobody
//! waits for it.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use support::{Mount, wait_for};

/// Requests by operation so far. Reading the file asks for a few itself, all of
/// the control tree's own: the file is opened once to know them.
fn counts(mount: &Mount) -> BTreeMap<String, u64> {
    let text = mount.volfs().ok(&["stats", "--json"]);
    let stats: serde_json::Value = serde_json::from_str(&text).unwrap();
    stats["operations"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| *name != "forget")
        .map(|(name, op)| (name.clone(), op["count"].as_u64().unwrap()))
        .collect()
}

/// What `run` asks for, by operation; operations that it does not ask for are
/// left out. Waits for closes, which the kernel sends after the call.
fn requests_of(mount: &Mount, run: impl FnOnce()) -> BTreeMap<String, u64> {
    let before = counts(mount);
    run();
    let mut after = counts(mount);
    wait_for("no open files", || {
        let text = mount.volfs().ok(&["stats", "--json"]);
        let stats: serde_json::Value = serde_json::from_str(&text).unwrap();
        after = counts(mount);
        stats["open_files"] == 0
    });
    after
        .into_iter()
        .map(|(op, count)| {
            let earlier = before.get(&op).copied().unwrap_or(0);
            (op, count - earlier)
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn total(requests: &BTreeMap<String, u64>) -> u64 {
    requests.values().sum()
}

fn one(op: &str) -> BTreeMap<String, u64> {
    BTreeMap::from([(op.to_owned(), 1)])
}

fn write(path: &Path, text: &str) {
    File::create_new(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

#[test]
fn what_is_cached_asks_for_nothing() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    let file = volume.join("f");
    write(&file, "x");
    std::os::unix::fs::symlink("f", volume.join("l")).unwrap();
    fs::metadata(&file).unwrap();
    fs::read_link(volume.join("l")).unwrap();
    let missing = volume.join("missing");
    assert!(fs::metadata(&missing).is_err());
    let requests = requests_of(&mount, || {
        for _ in 0..100 {
            fs::metadata(&file).unwrap();
            assert!(fs::metadata(&missing).is_err());
            assert_eq!(fs::read_link(volume.join("l")).unwrap(), Path::new("f"));
        }
    });
    assert_eq!(requests, BTreeMap::new());
}

#[test]
fn one_request_changes_one_name() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    for name in ["a", "b", "c"] {
        write(&volume.join(name), "x");
        fs::metadata(volume.join(name)).unwrap();
    }
    // After each change the kernel asks for the directory's attributes again
    // before the next (fuse_dir_changed); that is not counted here.
    let count = |change: &dyn Fn()| {
        fs::metadata(&volume).unwrap();
        requests_of(&mount, change)
    };
    let unlink = || fs::remove_file(volume.join("b")).unwrap();
    assert_eq!(count(&unlink), one("unlink"));
    // Onto a name that is there.
    let over = || fs::rename(volume.join("a"), volume.join("c")).unwrap();
    assert_eq!(count(&over), after_lookup("rename"));
    // The kernel never trusts what it has cached of a free name that is about
    // to be taken (LOOKUP_EXCL and LOOKUP_RENAME_TARGET in
    // fuse_dentry_revalidate, fs/fuse/dir.c): it asks for it once more.
    assert!(fs::metadata(volume.join("z")).is_err());
    let rename = || fs::rename(volume.join("c"), volume.join("z")).unwrap();
    assert_eq!(count(&rename), after_lookup("rename"));
    assert!(fs::metadata(volume.join("d")).is_err());
    let mkdir = || fs::create_dir(volume.join("d")).unwrap();
    assert_eq!(count(&mkdir), after_lookup("mkdir"));
    let rmdir = || fs::remove_dir(volume.join("d")).unwrap();
    assert_eq!(count(&rmdir), one("rmdir"));
}

fn after_lookup(op: &str) -> BTreeMap<String, u64> {
    BTreeMap::from([("lookup".to_owned(), 1), (op.to_owned(), 1)])
}

#[test]
fn a_long_file_is_read_in_requests_of_a_mebibyte() {
    const MEBIBYTES: u64 = 32;
    let mount = Mount::builder().args(&["--no-passthrough"]).start();
    let path = mount.volume("v").join("f");
    fs::write(&path, vec![7; (MEBIBYTES as usize) << 20]).unwrap();
    let file = File::open(&path).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    drop(file);
    let requests = requests_of(&mount, || {
        let mut file = File::open(&path).unwrap();
        let mut buffer = vec![0; 64 << 10];
        while file.read(&mut buffer).unwrap() > 0 {}
    });
    // The kernel begins with less, until it sees that the file is read on.
    assert!(requests["read"] <= MEBIBYTES + 8, "{requests:?}");
}

#[test]
fn a_new_file_takes_three_and_reading_it_two() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    let file = volume.join("f");
    assert!(fs::metadata(&file).is_err());
    let requests = requests_of(&mount, || fs::write(&file, "x".repeat(4096)).unwrap());
    // The kernel asks once for security.capability before the first write to
    // an inode (file_remove_privs), to know that there is none.
    assert!(total(&requests) <= 3, "{requests:?}");
    assert!(!requests.contains_key("flush"), "{requests:?}");
    // A new name makes the kernel ask for the directory's attributes again.
    fs::metadata(&volume).unwrap();
    let requests = requests_of(&mount, || {
        let mut text = [0; 4096];
        File::open(&file).unwrap().read_exact(&mut text).unwrap();
    });
    let expected = BTreeMap::from([("open".to_owned(), 1), ("release".to_owned(), 1)]);
    assert_eq!(requests, expected);
}

#[test]
fn passthrough_writes_ask_for_nothing() {
    let mount = Mount::new();
    let mut file = File::create_new(mount.volume("v").join("f")).unwrap();
    let block = [7; 4096];
    file.write_all(&block).unwrap();
    let before = counts(&mount);
    for _ in 0..1000 {
        file.write_all(&block).unwrap();
    }
    assert_eq!(counts(&mount), before);
}

#[test]
fn a_time_of_birth_is_asked_for_once() {
    let mount = Mount::builder().args(&["--birth-time"]).start();
    let volume = mount.volume("v");
    for i in 0..100 {
        write(&volume.join(format!("{i}")), "");
    }
    let list = || {
        for entry in fs::read_dir(&volume).unwrap() {
            let born = entry.unwrap().metadata().unwrap().created().unwrap();
            assert!(born.elapsed().unwrap() < Duration::from_secs(600));
        }
    };
    assert_eq!(requests_of(&mount, list)["statx"], 100);
    assert_eq!(requests_of(&mount, list).get("statx"), None);
}

#[test]
fn a_listing_with_attributes_takes_few() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    for i in 0..10_000 {
        File::create_new(volume.join(format!("file-number-{i}"))).unwrap();
    }
    // Only the kernel's memory of the volume is to count.
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    let list = || {
        let mut count = 0;
        for entry in fs::read_dir(&volume).unwrap() {
            entry.unwrap().metadata().unwrap();
            count += 1;
        }
        assert_eq!(count, 10_000);
    };
    let first = requests_of(&mount, list);
    println!("10,000 names and their attributes: {first:?}");
    assert!(total(&first) < 300, "{first:?}");
    // Names, attributes and the listing itself are cached now; reading the
    // directory has made its own access time old.
    let again = requests_of(&mount, list);
    assert!(again.is_empty() || again == one("getattr"), "{again:?}");
}

#[test]
fn what_a_command_changes_is_seen_at_once() {
    let mount = Mount::new();
    assert!(fs::metadata(mount.join("v")).is_err());
    mount.volfs().ok(&["create", "v"]);
    assert!(fs::metadata(mount.join("v")).unwrap().is_dir());
    mount.volfs().ok(&["mv", "v", "w"]);
    assert!(fs::metadata(mount.join("v")).is_err());
    mount.volfs().ok(&["rm", "w"]);
    assert!(fs::metadata(mount.join("w")).is_err());
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 0);
}
