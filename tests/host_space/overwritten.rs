//! What is overwritten, cut off and punched out does not go on taking space.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::FallocateFlags;

use crate::places::{MIB, Place, each};

const LIMIT: u64 = 32 * MIB;
const SIZE: u64 = 28 * MIB;

/// What the host has given beyond `before`, everything written and freed.
fn taken(place: &Place, before: u64) -> u64 {
    before.saturating_sub(place.host.free())
}

fn noise(len: u64) -> Vec<u8> {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..len / 8).flat_map(|_| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()
    });
    words.collect()
}

fn check(place: &Place, what: &str, before: u64) {
    let taken = taken(place, before);
    println!("{what}: {} MiB", taken >> 20);
    assert!(taken < LIMIT * 5 / 2, "{}, {what}: {taken}", place.name);
    place.verify();
}

#[test]
fn overlapping_overwrites_take_a_small_factor() {
    let bytes = noise(SIZE);
    each(|place| {
        let before = place.host.free();
        let file = place.limited("v", LIMIT).join("f");
        let file = File::create(file).unwrap();
        for n in 0..12 {
            file.write_all_at(&bytes[..(SIZE - 4096 * n) as usize], 4096 * n)
                .unwrap();
            file.sync_all().unwrap();
        }
        check(place, "overwritten", before);
        let doctor = place.mount.volfs().ok(&["doctor"]);
        let told = doctor.contains("up to about three times their sizes");
        assert_eq!(told, place.name == "btrfs", "{doctor}");
    });
}

#[test]
fn holes_that_are_filled_again_take_a_small_factor() {
    let bytes = noise(SIZE);
    each(|place| {
        let before = place.host.free();
        let file = File::create(place.limited("v", LIMIT).join("f")).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        file.sync_all().unwrap();
        for n in 1..8 {
            let most = SIZE - n * MIB;
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            rustix::fs::fallocate(&file, punch, 0, most).unwrap();
            file.write_all_at(&bytes[..most as usize], 0).unwrap();
            file.sync_all().unwrap();
        }
        check(place, "punched", before);
    });
}

#[test]
fn files_that_are_cut_take_what_they_are_charged() {
    let bytes = noise(SIZE / 2);
    each(|place| {
        let before = place.host.free();
        let dir = place.limited("v", LIMIT);
        // Written as one extent, and cut in one step or in many.
        for n in 0..16_u64 {
            let file = File::create(dir.join(n.to_string())).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
            file.sync_all().unwrap();
            let mut size = bytes.len() as u64;
            while size > 65_536 {
                size = if n % 2 == 0 { 4096 } else { size * 3 / 4 };
                file.set_len(size).unwrap();
            }
            file.sync_all().unwrap();
        }
        check(place, "cut", before);
    });
}
