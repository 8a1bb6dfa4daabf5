//! What names take: directories are charged their sizes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Mount, OwnFs, tree, wait_for};
use crate::{LIMIT, World, refused, used};

/// A long name.
fn long(n: usize) -> String {
    format!("{n:0>255}")
}

/// Makes links to `file` in `dir` until one is refused; how many there are.
fn link_all(file: &Path, dir: &Path) -> (usize, io::Error) {
    let mut made = 0;
    loop {
        if let Err(error) = fs::hard_link(file, dir.join(long(made))) {
            return (made, error);
        }
        made += 1;
        assert!(made < 60_000, "as many as ext4 allows");
    }
}

/// Bytes that directories take on the host.
fn of_directories(root: &Path) -> u64 {
    let below = fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
    let dirs = below.filter(|entry| entry.file_type().unwrap().is_dir());
    root.metadata().unwrap().size() + dirs.map(|dir| of_directories(&dir.path())).sum::<u64>()
}

#[test]
fn names_of_hard_links() {
    let world = World::new();
    let host = world.mount.host_path("v");
    fs::write(world.v.join("f"), "").unwrap();
    let dir = world.v.join("d");
    fs::create_dir(&dir).unwrap();
    for dir in [&dir, &world.v] {
        let (made, refusal) = link_all(&world.v.join("f"), dir);
        assert_eq!(refusal.raw_os_error(), Some(libc::ENOSPC));
        println!("{made} links, {:?}", world.used());
        assert_eq!(world.used(), tree::charged(&host));
        assert!(world.used().0 <= LIMIT);
        assert!(of_directories(&host) <= LIMIT + 4096);
        if dir.ends_with("d") {
            assert!(made > 2000 && world.used().0 > LIMIT - (32 << 10));
        }
        // By no other operation either.
        refused(
            fs::rename(world.v.join("f"), dir.join("g".repeat(255))),
            libc::ENOSPC,
        );
        refused(File::create_new(dir.join("h".repeat(255))), libc::ENOSPC);
        for n in 0..made {
            fs::remove_file(dir.join(long(n))).unwrap();
        }
        assert_eq!(world.used(), tree::charged(&host));
        if dir.ends_with("d") {
            fs::remove_dir(dir).unwrap();
            assert_eq!(world.used(), (0, 1));
        }
    }
    world.check();
}

/// Fills and empties a directory; usage is a walk's after every step, and in the
/// end what it was.
fn fill_and_empty(mount: &Mount) {
    let volfs = mount.volfs();
    volfs.ok(&["create", "v", "--quota", "2M"]);
    let (v, host) = (mount.join("v"), mount.host_path("v"));
    fs::write(v.join("f"), "x").unwrap();
    let start = used(&v);
    let check = |what: &str, round: usize| {
        assert_eq!(used(&v), tree::charged(&host), "{what}, round {round}");
        volfs.ok(&["verify", "v"]);
    };
    for round in 0..4 {
        let (a, b) = (v.join("a"), v.join("b"));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        check("made", round);
        for n in 0..300 {
            fs::hard_link(v.join("f"), a.join(long(n))).unwrap();
        }
        check("filled", round);
        assert!(used(&v).0 > start.0 + (64 << 10), "{:?}", used(&v));
        for n in 0..300 {
            fs::rename(a.join(long(n)), b.join(long(n))).unwrap();
        }
        check("moved", round);
        for n in (0..300).step_by(2) {
            let (one, other) = (b.join(long(n)), b.join(long(n + 1)));
            nix::fcntl::renameat2(
                nix::fcntl::AT_FDCWD,
                &one,
                nix::fcntl::AT_FDCWD,
                &other,
                nix::fcntl::RenameFlags::RENAME_EXCHANGE,
            )
            .unwrap();
        }
        check("exchanged", round);
        for n in 0..300 {
            fs::remove_file(b.join(long(n))).unwrap();
        }
        check("emptied", round);
        if round % 2 == 0 {
            fs::remove_dir(&a).unwrap();
            check("one removed", round);
        } else {
            // In the place of the other.
            fs::rename(&a, &b).unwrap();
            check("one replaced", round);
        }
        fs::remove_dir(&b).unwrap();
        check("both removed", round);
        assert_eq!(used(&v), start, "round {round}");
    }
    assert_eq!(mount.daemon_complaints(), "");
}

#[test]
fn a_directory_filled_and_emptied() {
    fill_and_empty(&Mount::new());
}

#[test]
fn a_directory_filled_and_emptied_on_btrfs() {
    let own = OwnFs::new(&["mkfs.btrfs", "-q", "-m", "single"], 256 << 20);
    fill_and_empty(&Mount::builder().parent(own.path()).start());
}

#[test]
fn a_directory_filled_and_emptied_on_xfs() {
    let own = OwnFs::new(&["mkfs.xfs", "-q"], 512 << 20);
    fill_and_empty(&Mount::builder().parent(own.path()).start());
}

/// Blocks of a directory of ext4 with a block of 1 KiB are less than what is
/// charged at a time; those of XFS may be more.
#[test]
fn blocks_of_other_sizes() {
    let small = OwnFs::new(&["mkfs.ext4", "-q", "-b", "1024"], 64 << 20);
    fill_and_empty(&Mount::builder().parent(small.path()).start());
    let large = OwnFs::new(&["mkfs.xfs", "-q", "-n", "size=16384"], 512 << 20);
    fill_and_empty(&Mount::builder().parent(large.path()).start());
}

/// Where it is sure that a directory does not grow, a name needs no room.
#[test]
fn names_in_a_full_volume() {
    let world = World::new();
    let path = |name: &str| world.v.join(name);
    fs::create_dir(path("small")).unwrap();
    fs::create_dir(path("large")).unwrap();
    fs::write(path("f"), "x").unwrap();
    for n in 0..100 {
        fs::hard_link(path("f"), path("large").join(long(n))).unwrap();
    }
    let fill = File::create_new(path("fill")).unwrap();
    let left = LIMIT - world.used().0;
    // A write never needs more than it takes.
    fill.write_all_at(&vec![1; left as usize], 0).unwrap();
    assert_eq!(world.used().0, LIMIT);
    File::create_new(path("small/a")).unwrap();
    fs::hard_link(path("f"), path("small/b")).unwrap();
    fs::rename(path("small/b"), path("small/c")).unwrap();
    fs::rename(path("small/a"), path("small/c")).unwrap();
    // In one that may grow: over a name that is there, and away.
    let inode = path("f").metadata().unwrap().ino();
    refused(fs::hard_link(path("f"), path("large/x")), libc::ENOSPC);
    refused(fs::rename(path("small/c"), path("large/x")), libc::ENOSPC);
    fs::rename(path("small/c"), path("large").join(long(0))).unwrap();
    fs::rename(path("large").join(long(0)), path("small/c")).unwrap();
    assert_eq!(path("f").metadata().unwrap().ino(), inode);
    fs::remove_file(path("large").join(long(1))).unwrap();
    assert_eq!(world.used().0, LIMIT);
    // Why, to who asks.
    let why = fs::read_to_string(world.mount.join(".volfs/last_error")).unwrap();
    assert!(why.contains("quota"), "{why}");
    drop(fill);
    world.check();
}

/// A write that fits is not refused because of names that are being made.
#[test]
fn writes_beside_names() {
    let world = World::new();
    let dir = world.v.join("d");
    fs::create_dir(&dir).unwrap();
    fs::write(world.v.join("f"), "").unwrap();
    for n in 0..100 {
        fs::hard_link(world.v.join("f"), dir.join(long(n))).unwrap();
    }
    let file = File::create_new(world.v.join("fill")).unwrap();
    let grown = File::create_new(world.v.join("rest")).unwrap();
    // So that there is room for what a name may need, and no more.
    let spare = 16 << 10;
    file.set_len(LIMIT - world.used().0 - spare).unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                // One name comes and goes, in the place of the last.
                let name = dir.join(long(99));
                let _ = fs::remove_file(&name);
                let _ = fs::hard_link(world.v.join("f"), &name);
            }
        });
        let wrote: io::Result<()> = (0..2000).try_for_each(|_| {
            grown.write_all_at(&vec![1; spare as usize], 0)?;
            grown.set_len(0)
        });
        ended.store(true, Ordering::Relaxed);
        wrote.unwrap();
    });
    drop((file, grown));
    wait_for("closes", || {
        world.used() == tree::charged(&world.mount.host_path("v"))
    });
    world.check();
}
