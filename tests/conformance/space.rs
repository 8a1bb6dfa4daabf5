//! `fallocate` in every mode, and finding data and holes.

use std::os::fd::OwnedFd;

use rustix::fs::{FallocateFlags as F, OFlags as O, SeekFrom, fallocate, seek};

use crate::dir::{Dir, fstat, read_from, write_at};
use crate::table::Case;
use crate::trace::Trace;

/// Data and holes as the file tells them, as ranges.
fn extents(file: &OwnedFd) -> String {
    let mut text = String::new();
    let mut at = 0;
    while let Ok(data) = seek(file, SeekFrom::Data(at)) {
        let hole = seek(file, SeekFrom::Hole(data)).unwrap();
        text += &format!("{data}-{hole} ");
        at = hole;
    }
    text
}

fn show(t: &mut Trace, file: &OwnedFd) {
    rustix::fs::fsync(file).unwrap();
    t.note("stat", fstat(file));
    t.note("blocks", fstat(file).map(|m| m.0.st_blocks));
    t.note("content", read_from(file, 0, 1 << 20));
    t.note("data", extents(file));
}

/// Tries a mode at offsets and lengths that matter.
fn try_mode(d: &Dir, t: &mut Trace, flags: F) {
    for (offset, length) in [
        (0, 4096),
        (0, 65_536),
        (4096, 8192),
        (1000, 2000),
        (1000, 20_000),
        (65_536, 4096),
        (65_536, 65_536),
        (60_000, 10_000),
        (100_000, 5000),
        (200_000, 4096),
        (0, 0),
    ] {
        // Beyond the end it is a case of its own.
        let past = offset + length > 65_536 && !flags.contains(F::PUNCH_HOLE);
        if flags.contains(F::KEEP_SIZE) && past {
            continue;
        }
        let file = d.file("f", &[b'x'; 65_536]);
        let label = format!("{flags:?} at {offset} for {length}");
        t.note(label, fallocate(&file, flags, offset, length));
        show(t, &file);
        d.unlink("f").unwrap();
    }
}

pub const CASES: &[Case] = &[
    ("plain", |d, t| try_mode(d, t, F::empty())),
    ("KEEP_SIZE", |d, t| try_mode(d, t, F::KEEP_SIZE)),
    ("PUNCH_HOLE", |d, t| {
        try_mode(d, t, F::PUNCH_HOLE | F::KEEP_SIZE)
    }),
    ("PUNCH_HOLE alone", |d, t| try_mode(d, t, F::PUNCH_HOLE)),
    ("ZERO_RANGE", |d, t| try_mode(d, t, F::ZERO_RANGE)),
    ("ZERO_RANGE with KEEP_SIZE", |d, t| {
        try_mode(d, t, F::ZERO_RANGE | F::KEEP_SIZE)
    }),
    ("COLLAPSE_RANGE and INSERT_RANGE", |d, t| {
        for flags in [F::COLLAPSE_RANGE, F::INSERT_RANGE] {
            let file = d.file("f", &[b'x'; 65_536]);
            t.note(format!("{flags:?}"), fallocate(&file, flags, 4096, 4096));
        }
    }),
    ("KEEP_SIZE beyond the end", |d, t| {
        for flags in [F::KEEP_SIZE, F::KEEP_SIZE | F::ZERO_RANGE] {
            let file = d.file("f", &[b'x'; 65_536]);
            t.note(format!("{flags:?}"), fallocate(&file, flags, 65_536, 4096));
            t.note("stat", fstat(&file));
            t.note("blocks", fstat(&file).map(|m| m.0.st_blocks));
            t.note("content", d.content("f"));
            d.unlink("f").unwrap();
        }
    }),
    ("UNSHARE_RANGE", |d, t| try_mode(d, t, F::UNSHARE_RANGE)),
    ("modes that exclude each other or do not exist", |d, t| {
        try_mode(d, t, F::ZERO_RANGE | F::PUNCH_HOLE);
        try_mode(d, t, F::COLLAPSE_RANGE | F::KEEP_SIZE);
        try_mode(d, t, F::from_bits_retain(1 << 20));
    }),
    ("where it cannot be", |d, t| {
        d.file("f", b"");
        let read_only = d.open("f", O::RDONLY, 0).unwrap();
        t.note("read-only", fallocate(&read_only, F::empty(), 0, 4096));
        let dir = d.open("", O::RDONLY, 0).unwrap();
        t.note("a directory", fallocate(&dir, F::empty(), 0, 4096));
        let file = d.open("f", O::RDWR, 0).unwrap();
        t.note("too far", fallocate(&file, F::empty(), 1 << 62, 4096));
        t.note(
            "overflowing",
            fallocate(&file, F::empty(), i64::MAX as u64, 4096),
        );
        t.note("stat", fstat(&file));
    }),
    ("a removed file", |d, t| {
        let file = d.file("f", b"content");
        d.unlink("f").unwrap();
        t.note("grow", fallocate(&file, F::empty(), 0, 10_000));
        t.note(
            "punch",
            fallocate(&file, F::PUNCH_HOLE | F::KEEP_SIZE, 0, 4096),
        );
        show(t, &file);
    }),
    ("data and holes", |d, t| {
        let file = d.file("f", b"");
        t.note("empty, data", seek(&file, SeekFrom::Data(0)));
        t.note("empty, hole", seek(&file, SeekFrom::Hole(0)));
        write_at(&file, &[1; 4096], 0).unwrap();
        write_at(&file, &[1; 4096], 65_536).unwrap();
        write_at(&file, &[1; 100], 1_000_000).unwrap();
        rustix::fs::fsync(&file).unwrap();
        t.note("extents", extents(&file));
        for at in [
            0, 1, 4095, 4096, 5000, 65_536, 70_000, 1_000_050, 1_000_100, 2_000_000,
        ] {
            t.note(format!("data from {at}"), seek(&file, SeekFrom::Data(at)));
            t.note(format!("hole from {at}"), seek(&file, SeekFrom::Hole(at)));
        }
        t.note("position", seek(&file, SeekFrom::Current(0)));
        rustix::fs::ftruncate(&file, 5_000_000).unwrap();
        t.note("a hole at the end", extents(&file));
    }),
    ("data and holes before anything is on disk", |d, t| {
        let file = d.file("f", b"");
        write_at(&file, &[1; 4096], 8192).unwrap();
        t.note("extents", extents(&file));
    }),
    ("data and holes of a directory", |d, t| {
        let dir = d.open("", O::RDONLY, 0).unwrap();
        t.note("data", seek(&dir, SeekFrom::Data(0)).is_ok());
    }),
];
