//! The space of what a caller has removed is there for the caller's next call, as on
//! any file system: whatever the daemon, the kernel and the supervisor still hold.

mod support;

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use support::{Mount, OwnFs};

const MIB: usize = 1 << 20;

/// Writes to a file until there is no room.
fn fill(path: &Path) -> File {
    let mut file = File::create(path).unwrap();
    for piece in [vec![1; MIB], vec![1; 4096]] {
        while file.write_all(&piece).is_ok() {}
    }
    file
}

/// Waits until the daemon has closed a file: the kernel sends that after close(2) has
/// returned, and a write that it does itself does not wait for it.
fn closed(file: &Path) {
    let volume = file.parent().unwrap();
    let mount = volume.parent().unwrap();
    let name = volume.file_name().unwrap().to_str().unwrap();
    support::wait_for("the close", || {
        let stats = fs::read_to_string(mount.join(".volfs/stats.json")).unwrap();
        let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
        // The log alone.
        stats["volumes"][name]["open_files"] == 1
    });
}

/// How the room is made.
type Removal = (&'static str, fn(&Path));

const REMOVALS: [Removal; 7] = [
    ("unlink", |dir| {
        drop(fill(&dir.join("big")));
        fs::remove_file(dir.join("big")).unwrap();
    }),
    ("unlink by who has it open, and close", |dir| {
        let open = fill(&dir.join("big"));
        fs::remove_file(dir.join("big")).unwrap();
        drop(open);
    }),
    ("unlink after it is open for reading", |dir| {
        drop(fill(&dir.join("big")));
        let open = File::open(dir.join("big")).unwrap();
        fs::remove_file(dir.join("big")).unwrap();
        drop(open);
    }),
    ("rename over it", |dir| {
        fs::write(dir.join("small"), "").unwrap();
        drop(fill(&dir.join("big")));
        fs::rename(dir.join("small"), dir.join("big")).unwrap();
    }),
    ("truncate", |dir| {
        drop(fill(&dir.join("big")));
        let file = CString::new(dir.join("big").as_os_str().as_bytes()).unwrap();
        nix::unistd::truncate(file.as_c_str(), 0).unwrap();
    }),
    ("open that truncates", |dir| {
        drop(fill(&dir.join("big")));
        drop(File::create(dir.join("big")).unwrap());
    }),
    ("unlink of many", |dir| {
        let made = (0..100).map(|number| dir.join(format!("many{number}")));
        let made: Vec<_> = made
            .filter(|path| fs::write(path, vec![1; MIB / 8]).is_ok())
            .collect();
        drop(fill(&dir.join("big")));
        for path in made {
            fs::remove_file(path).unwrap();
        }
    }),
];

/// What is called next; each needs room, and would have none if it was not there.
type Next = (&'static str, fn(&Path));

const NEXT: [Next; 4] = [
    ("mkdir", |dir| fs::create_dir(dir.join("d")).unwrap()),
    ("a symbolic link", |dir| {
        std::os::unix::fs::symlink("x".repeat(1000), dir.join("l")).unwrap();
    }),
    ("a new file", |dir| {
        fs::write(dir.join("new"), vec![2; 4 * MIB]).unwrap();
    }),
    ("fallocate", |dir| {
        let file = File::create(dir.join("new")).unwrap();
        nix::fcntl::fallocate(
            &file,
            nix::fcntl::FallocateFlags::empty(),
            0,
            4 * MIB as i64,
        )
        .unwrap();
    }),
];

/// Every way to make room, and every next call, in the empty directory `dir`.
fn room_is_there_at_once(what: &str, dir: &Path) {
    for (how, remove) in REMOVALS {
        for (next, call) in NEXT {
            eprintln!("{what}: {how}, then {next}");
            remove(dir);
            call(dir);
            for entry in fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                match entry.file_type().unwrap().is_dir() {
                    true => fs::remove_dir(entry.path()).unwrap(),
                    false => fs::remove_file(entry.path()).unwrap(),
                }
            }
        }
    }
    // What the kernel writes by itself: the file is open already.
    let mut log = File::create(dir.join("log")).unwrap();
    for _ in 0..5 {
        drop(fill(&dir.join("big")));
        closed(&dir.join("big"));
        fs::remove_file(dir.join("big")).unwrap();
        log.write_all(&vec![3; 4 * MIB]).unwrap();
        log.set_len(0).unwrap();
        log.rewind().unwrap();
    }
    drop(log);
    fs::remove_file(dir.join("log")).unwrap();
}

fn disk(mount: &Mount) -> PathBuf {
    mount
        .volfs()
        .ok(&["create", "disk", "--disk", "--size", "40M"]);
    mount.join("disk")
}

#[test]
fn in_a_disk_volume() {
    let mount = Mount::builder().supervised().start();
    room_is_there_at_once("disk volume", &disk(&mount));
}

#[test]
fn in_a_disk_volume_through_the_daemon() {
    let mount = Mount::builder()
        .supervised()
        .args(&["--no-passthrough"])
        .start();
    room_is_there_at_once("disk volume, through the daemon", &disk(&mount));
}

#[test]
fn under_a_limit() {
    let mount = Mount::builder().supervised().start();
    mount.volfs().ok(&["create", "lim", "--quota", "40M"]);
    room_is_there_at_once("limit", &mount.join("lim"));
}

#[test]
fn on_a_full_store() {
    let host = OwnFs::new(&["mkfs.ext4", "-q", "-F", "-m", "0"], 96 << 20);
    let mount = Mount::builder().supervised().parent(host.path()).start();
    room_is_there_at_once("store", &mount.volume("dir"));
}

/// Whoever goes on using what was removed is not waited for, and keeps it.
#[test]
fn what_somebody_keeps_is_not_given_away() {
    let mount = Mount::builder().supervised().start();
    let dir = disk(&mount);
    let mut open = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(dir.join("kept"))
        .unwrap();
    open.write_all(&vec![7; 16 * MIB]).unwrap();
    fs::remove_file(dir.join("kept")).unwrap();
    drop(fill(&dir.join("big")));
    let start = std::time::Instant::now();
    for number in 0..10 {
        let refused = fs::write(dir.join(format!("f{number}")), vec![1; MIB]).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOSPC));
    }
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    open.rewind().unwrap();
    let mut contents = Vec::new();
    std::io::Read::read_to_end(&mut open, &mut contents).unwrap();
    assert!(contents.len() == 16 * MIB && contents.iter().all(|&byte| byte == 7));
}
