//! Node ids: the same after the kernel has forgotten them, after a new mount
//! and for a new process; unique over volumes; told apart when the host
//! reuses an inode. And cheap: no descriptor and little memory for each.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use support::{Mount, proc, run_in};

/// Makes the kernel forget what it can.
fn drop_caches() {
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
}

/// Inode number and type of everything below a directory.
fn numbers(dir: &Path) -> BTreeMap<String, u64> {
    let listing = run_in(dir, "find", &[".", "-printf", "%i %P\\n"]);
    let all: BTreeMap<String, u64> = listing
        .lines()
        .map(|line| {
            let (number, path) = line.split_once(' ').unwrap();
            (path.to_owned(), number.parse().unwrap())
        })
        .collect();
    assert!(all.len() > 1, "nothing in {dir:?}");
    all
}

fn make_tree(volume: &Path) {
    for i in 0..20 {
        let dir = volume.join(format!("d{i}"));
        fs::create_dir(&dir).unwrap();
        for j in 0..20 {
            fs::write(dir.join(j.to_string()), "x").unwrap();
        }
    }
    std::os::unix::fs::symlink("d1", volume.join("link")).unwrap();
    run_in(volume, "mkfifo", &["pipe"]);
}

#[test]
fn numbers_stay_over_forget_unmount_and_a_killed_daemon() {
    let mut mount = Mount::new();
    for name in ["a", "b"] {
        make_tree(&mount.volume(name));
    }
    let before = numbers(mount.path());
    drop_caches();
    assert_eq!(numbers(mount.path()), before, "after drop_caches");
    mount.remount();
    assert_eq!(numbers(mount.path()), before, "after a new mount");
    mount.kill();
    mount.start();
    assert_eq!(numbers(mount.path()), before, "after a killed daemon");
    fs::rename(mount.join("a"), mount.join("c")).unwrap();
    let a = |path: &String| *path == "a" || path.starts_with("a/");
    let renamed: BTreeMap<_, _> = before
        .iter()
        .map(|(path, &number)| match path {
            path if a(path) => (path.replacen('a', "c", 1), number),
            path => (path.clone(), number),
        })
        .collect();
    assert_eq!(numbers(mount.path()), renamed, "after a rename");
}

#[test]
fn numbers_are_unique_over_volumes() {
    let mount = Mount::new();
    for i in 0..20 {
        make_tree(&mount.volume(&format!("v{i}")));
    }
    let all = numbers(mount.path());
    let different: BTreeSet<_> = all.values().collect();
    assert_eq!(different.len(), all.len());
    // And readdir says the same as stat.
    let listed = run_in(&mount.join("v3/d1"), "ls", &["-1iU"]);
    for line in listed.lines() {
        let (number, name) = line.trim().split_once(' ').unwrap();
        let stat = fs::metadata(mount.join("v3/d1").join(name)).unwrap();
        assert_eq!(stat.ino().to_string(), number);
    }
}

#[test]
fn handles_stay_good_when_everything_is_forgotten() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    make_tree(&volume);
    let dir = fs::File::open(volume.join("d3")).unwrap();
    let file = fs::File::open(volume.join("d3/7")).unwrap();
    fs::rename(volume.join("d3"), volume.join("moved")).unwrap();
    drop_caches();
    assert_eq!(file.metadata().unwrap().len(), 1);
    let inside = rustix::fs::statat(&dir, "7", rustix::fs::AtFlags::empty()).unwrap();
    assert_eq!(inside.st_ino, file.metadata().unwrap().ino());
    assert_eq!(fs::read(volume.join("moved/7")).unwrap(), b"x");
}

/// A descriptor that refers to a file without opening it.
fn refer(path: &Path) -> OwnedFd {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap()
}

/// Whatever is said of a removed file, it is never what another one is like.
fn assert_not_mixed_up(removed: &OwnedFd) {
    if let Ok(stat) = rustix::fs::fstat(removed) {
        assert_eq!(stat.st_size, 11, "the removed file has the new one's size");
        assert_eq!(stat.st_mode & 0o7777, 0o644, "and its mode");
    }
}

#[test]
fn a_file_that_is_removed_and_one_that_is_made_are_not_mixed_up() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    for i in 0..50 {
        let (old, new) = (
            volume.join(format!("old-{i}")),
            volume.join(format!("new-{i}")),
        );
        fs::write(&old, "old content").unwrap();
        let removed = refer(&old);
        fs::remove_file(&old).unwrap();
        fs::write(&new, "new").unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        assert_not_mixed_up(&removed);
        assert_eq!(rustix::fs::fstat(&removed).unwrap().st_nlink, 0);
        assert_eq!(fs::read(&new).unwrap(), b"new");
        assert!(!old.exists());
    }
}

/// Behind the daemon's back, so that nothing of it keeps the host's inode: the
/// kernel knows the node of a file whose inode is another file's by now.
#[test]
fn a_reused_host_inode_is_another_file() {
    const EXT4: i64 = 0xEF53;
    let mount = Mount::new();
    let volume = mount.volume("v");
    let host = mount.host_path("v");
    let mut reused = 0;
    for i in 0..50 {
        let (old, new) = (format!("old-{i}"), format!("new-{i}"));
        fs::write(host.join(&old), "old content").unwrap();
        let removed = refer(&volume.join(&old));
        let number = fs::metadata(volume.join(&old)).unwrap().ino();
        let on_host = fs::metadata(host.join(&old)).unwrap().ino();

        fs::remove_file(host.join(&old)).unwrap();
        fs::write(host.join(&new), "new").unwrap();
        fs::set_permissions(host.join(&new), fs::Permissions::from_mode(0o600)).unwrap();
        if fs::metadata(host.join(&new)).unwrap().ino() != on_host {
            continue;
        }
        reused += 1;
        let stat = fs::metadata(volume.join(&new)).unwrap();
        assert_eq!((stat.len(), stat.mode() & 0o7777), (3, 0o600));
        assert_eq!(stat.ino(), number, "the number is the host's");
        assert_not_mixed_up(&removed);
        assert_eq!(fs::read(volume.join(&new)).unwrap(), b"new");
        assert!(rustix::fs::openat(&removed, "", OFlags::RDONLY, 0.into()).is_err());
        // The descriptor cannot be used to get at the new file.
        use std::os::fd::AsRawFd;
        let link = format!("/proc/self/fd/{}", removed.as_raw_fd());
        if let Ok(content) = fs::read(link) {
            assert_eq!(content, b"old content");
        }
    }
    println!("{reused} of 50 host inodes were reused");
    // Other file systems do not use a number again so soon.
    if rustix::fs::statfs(&host).unwrap().f_type == EXT4 {
        assert!(reused > 0, "nothing was tested");
    }
}

#[test]
fn the_host_reuses_inodes_behind_a_restart() {
    let mut mount = Mount::new();
    let volume = mount.volume("v");
    fs::write(volume.join("f"), "first").unwrap();
    fs::metadata(volume.join("f")).unwrap();
    mount.stop();
    let host = mount.host_path("v");
    fs::remove_file(host.join("f")).unwrap();
    fs::write(host.join("g"), "second").unwrap();
    mount.start();
    assert!(!volume.join("f").exists());
    assert_eq!(fs::read(volume.join("g")).unwrap(), b"second");
}

/// `scripts/million` does the same with a million files.
#[test]
fn a_walk_over_50000_files_costs_no_descriptors_and_little_memory() {
    let files: usize = std::env::var("VOLFS_TEST_WALK_FILES").map_or(50_000, |count| {
        count.parse().expect("VOLFS_TEST_WALK_FILES is a number")
    });
    let mut mount = Mount::new();
    mount.volume("big");
    let host = mount.host_path("big");
    mount.stop();
    // On the host, which is faster; the walk is what is measured.
    for dir in 0..files.div_ceil(1000) {
        let place = host.join(format!("d{dir:04}"));
        fs::create_dir(&place).unwrap();
        for file in 0..1000.min(files - dir * 1000) {
            fs::File::create(place.join(format!("file-{file:04}"))).unwrap();
        }
    }
    mount.start();
    let walk = |what: &str| {
        let count = run_in(
            &mount.join("big"),
            "sh",
            &["-c", "find . -type f -printf '%s\\n' | wc -l"],
        );
        assert_eq!(count.trim(), files.to_string(), "{what}");
    };
    // Threads and buffers are warm before the measurement begins.
    run_in(&mount.join("big/d0000"), "ls", &["-l"]);
    let before = proc::anonymous_memory(mount.pid());
    walk("the first walk");
    let descriptors = proc::descriptors(mount.pid());
    let after = proc::anonymous_memory(mount.pid());
    let grown = after.saturating_sub(before);
    let each = grown / files as u64;
    println!("{files} files: {descriptors} descriptors, {grown} bytes grown, {each} each");
    assert!(descriptors < 1000, "{descriptors} descriptors are open");
    assert!(each < 200, "{each} bytes of memory for each inode");

    // What was forgotten is given back: walking again and again does not grow.
    let mut footprints = Vec::new();
    for _ in 0..3 {
        drop_caches();
        walk("a later walk");
        footprints.push(proc::anonymous_memory(mount.pid()).saturating_sub(before));
    }
    drop_caches();
    support::wait_for("the kernel has forgotten the files", || {
        cached_nodes(&mount) < files as u64 / 100
    });
    let later = proc::anonymous_memory(mount.pid()).saturating_sub(before);
    println!("after three more walks: {footprints:?}; after a last forget: {later} bytes");
    let allowed = 2 * grown + (4 << 20);
    let most = footprints.iter().max().copied().unwrap_or(0);
    assert!(
        most < allowed,
        "memory grows with every walk: {footprints:?}"
    );
}

/// The nodes that the daemon thinks the kernel holds.
fn cached_nodes(mount: &Mount) -> u64 {
    let stats = fs::read(mount.join(".volfs/stats.json")).unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&stats).unwrap();
    stats["cached_nodes"].as_u64().expect("a count")
}
