//! Charges are in the units in which the place allocates.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::process::Command;

use crate::places::{MIB, Place, each, fill_with_small_files};
use crate::support::{OwnFs, run, wait_for};

#[test]
fn small_files_take_no_more_than_the_limit() {
    const LIMIT: u64 = 32 * MIB;
    each(|place| {
        let before = place.host.free();
        let dir = place.limited("v", LIMIT);
        let made = fill_with_small_files(&dir);
        let taken = before - place.host.free();
        let charged = place.charged("v");
        println!("{made} files, {charged} charged, {taken} taken");
        assert!(charged <= LIMIT && charged > LIMIT - (3 * place.unit).max(1 << 15));
        assert!(made * place.unit <= charged);
        // Inodes, the catalogue and what else describes them.
        assert!(taken < LIMIT + LIMIT / 4, "{}: {taken}", place.name);
        place.verify();
    });
}

#[test]
fn links_and_directories_take_a_small_factor() {
    const LIMIT: u64 = 16 * MIB;
    let clusters = ["mkfs.ext4", "-qO", "bigalloc", "-C", "65536"];
    let host = OwnFs::new(&clusters, 1 << 30);
    let place = Place::new("ext4 with clusters", 65_536, host);
    let before = place.host.free();
    let dir = place.limited("v", LIMIT);
    let target = "t".repeat(4000);
    let made = (0..20_000).take_while(|n| symlink(&target, dir.join(n.to_string())).is_ok());
    let made = made.count() as u64;
    let taken = before - place.host.free();
    println!(
        "{made} links, {} charged, {taken} taken",
        place.charged("v")
    );
    let doctor = place.mount.volfs().ok(&["doctor"]);
    assert!(
        doctor.contains("space is allocated in units of 64"),
        "{doctor}"
    );
    // One inode for each unit, and in each no more than a unit.
    assert_eq!(made, LIMIT / 65_536);
    assert!(taken < 2 * LIMIT);
    let dir = place.limited("w", LIMIT);
    let made = (0..20_000).take_while(|n| fs::create_dir(dir.join(n.to_string())).is_ok());
    let (made, charged) = (made.count() as u64, place.charged("w"));
    assert!(
        made * 65_536 <= charged && charged <= LIMIT,
        "{made} in {charged}"
    );
    place.verify();
}

#[test]
fn what_was_allocated_before_a_limit_is_freed() {
    each(|place| {
        let dir = place.mount.volume("p");
        let file = File::create(dir.join("f")).unwrap();
        file.write_all_at(b"text", 0).unwrap();
        let before = place.host.free();
        let keep_size = libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: an open file and plain numbers.
        let done = unsafe { libc::fallocate(file.as_raw_fd(), keep_size, 0, 200 << 20) };
        assert_eq!(done, 0);
        let allocated = before - place.host.free();
        assert!(allocated >= 199 * MIB, "{allocated}");
        let modified = file.metadata().unwrap().mtime_nsec();
        drop(file);
        wait_for("the limit", || {
            let answer = place.mount.volfs().run(&["set", "p", "--quota", "10M"]);
            // Until the close has arrived.
            answer.code == Some(0)
        });
        let left = before.saturating_sub(place.host.free());
        println!("{allocated} allocated, {left} left");
        assert!(left < 2 * MIB, "{}: {left}", place.name);
        assert_eq!(fs::read_to_string(dir.join("f")).unwrap(), "text");
        let host = place.mount.host_path("p").join("f");
        assert_eq!(host.metadata().unwrap().mtime_nsec(), modified);
        place.verify();
    });
}

#[test]
fn a_store_that_was_moved_is_counted_in_the_new_unit() {
    const FILES: u64 = 100;
    let clusters = ["mkfs.ext4", "-qO", "bigalloc", "-C", "65536"];
    let mut from = Place::new("tmpfs", 4096, OwnFs::tmpfs("size=256m"));
    let dir = from.limited("v", 64 * MIB);
    for n in 0..FILES {
        fs::write(dir.join(n.to_string()), "x").unwrap();
    }
    assert_eq!(from.charged("v"), FILES * 4096);
    from.mount.stop();
    let to = OwnFs::new(&clusters, 1 << 30);
    let there = to.path().join("store");
    run(Command::new("cp")
        .arg("-a")
        .arg(from.mount.store())
        .arg(&there));
    let volfs = crate::support::Volfs::new(&there);
    // It is counted when a change or a mount needs it; a verification does both.
    volfs.run(&["verify", "--repair"]);
    let list = volfs.list();
    assert_eq!(list[0]["allocation_unit"], 65_536);
    assert_eq!(list[0]["used"]["bytes"], FILES * 65_536);
    assert_eq!(list[0]["used_is_exact"], true);
}
