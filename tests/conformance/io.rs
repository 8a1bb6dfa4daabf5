//! Reading and writing, seeking, truncating, and copying inside the kernel.

use rustix::fs::{OFlags as O, SeekFrom, copy_file_range, ftruncate, seek};
use rustix::io::{pread, pwrite, read, write};

use crate::dir::{Dir, fstat, read_from, write_all, write_at};
use crate::table::Case;
use crate::trace::Trace;

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add((i >> 8) as u8) ^ seed)
        .collect()
}

/// Copies with `copy_file_range` and notes what comes of it.
fn copy(
    d: &Dir,
    t: &mut Trace,
    label: &str,
    (from, mut from_offset): (&str, u64),
    (to, mut to_offset): (&str, u64),
    length: usize,
) {
    let source = d.open(from, O::RDONLY, 0).unwrap();
    let target = d.open(to, O::RDWR, 0).unwrap();
    let result = copy_file_range(
        &source,
        Some(&mut from_offset),
        &target,
        Some(&mut to_offset),
        length,
    );
    t.note(label, result);
    t.note("offsets", (from_offset, to_offset));
    t.note("content", d.content(to));
}

pub const CASES: &[Case] = &[
    ("sizes around pages and requests", |d, t| {
        for length in [
            0, 1, 511, 4095, 4096, 4097, 65_535, 131_072, 131_073, 1_048_575, 1_048_577, 3_000_001,
        ] {
            let name = length.to_string();
            d.file(&name, &pattern(length, 1));
            t.note(&name, d.content(&name));
            t.note("stat", d.stat(&name));
        }
    }),
    ("overlapping writes at odd offsets", |d, t| {
        let file = d.file("f", &pattern(300_000, 2));
        for (i, offset) in [0_u64, 1, 4095, 8191, 131_071, 131_072, 299_999, 300_001]
            .into_iter()
            .enumerate()
        {
            let length = 5000 + i * 777;
            t.note("write", write_at(&file, &pattern(length, i as u8), offset));
            t.note("content", d.content("f"));
        }
    }),
    ("holes read as zero", |d, t| {
        let file = d.file("f", b"");
        write_at(&file, b"end", 1_000_000).unwrap();
        write_at(&file, b"middle", 500_000).unwrap();
        t.note("content", d.content("f"));
        t.note("stat", d.stat("f"));
        rustix::fs::fsync(&file).unwrap();
        t.note("blocks", fstat(&file).map(|m| m.0.st_blocks));
    }),
    ("far offsets", |d, t| {
        let file = d.file("f", b"");
        for offset in [
            1 << 31,
            1 << 32,
            (1 << 40) + 1,
            17_592_186_040_319,
            1 << 45,
            1 << 62,
        ] {
            t.note(format!("write at {offset}"), pwrite(&file, b"x", offset));
            t.note("size", d.stat("f"));
            t.note("read", read_from(&file, offset, 10));
        }
        t.note("past every limit", pwrite(&file, b"x", i64::MAX as u64));
        t.note("truncate far", ftruncate(&file, 1 << 50));
        t.note("size", d.stat("f"));
    }),
    ("reading at and past the end", |d, t| {
        let file = d.file("f", b"12345");
        for offset in [0, 4, 5, 6, 4096, 1 << 40] {
            let mut buffer = [0; 10];
            t.note(offset.to_string(), pread(&file, &mut buffer, offset));
        }
        t.note("nothing", pread(&file, &mut [0; 0], 0));
    }),
    ("appending through two handles", |d, t| {
        d.file("f", b"");
        let a = d.open("f", O::WRONLY | O::APPEND, 0).unwrap();
        let b = d.open("f", O::WRONLY | O::APPEND, 0).unwrap();
        let c = d.open("f", O::RDWR, 0).unwrap();
        for i in 0..50 {
            write_all(&a, format!("a{i} ").as_bytes()).unwrap();
            write_all(&b, format!("b{i} ").as_bytes()).unwrap();
        }
        t.note("content", d.content("f"));
        t.note("position", seek(&a, SeekFrom::Current(0)));
        write_at(&c, b"XX", 0).unwrap();
        write_all(&a, b"end").unwrap();
        t.note("content", read_from(&c, 0, 10_000));
        t.note("pwrite appends too", pwrite(&a, b"!", 0));
        t.note("content", d.content("f"));
    }),
    ("appending after a truncation by another", |d, t| {
        d.file("f", b"0123456789");
        let a = d.open("f", O::WRONLY | O::APPEND, 0).unwrap();
        write_all(&a, b"abc").unwrap();
        d.truncate("f", 4).unwrap();
        t.note("write", write(&a, b"def"));
        t.note("content", d.content("f"));
    }),
    ("append switched on and off by fcntl", |d, t| {
        let file = d.file("f", b"0123456789");
        seek(&file, SeekFrom::Start(0)).unwrap();
        t.note("on", rustix::fs::fcntl_setfl(&file, O::APPEND));
        t.note("write", write(&file, b"appended"));
        t.note("content", d.content("f"));
        t.note("off", rustix::fs::fcntl_setfl(&file, O::empty()));
        t.note("write", pwrite(&file, b"at 2", 2));
        t.note("content", d.content("f"));
    }),
    ("vectored reads and writes", |d, t| {
        let file = d.file("f", b"");
        let parts = [&b"one "[..], b"", b"two ", b"three"].map(std::io::IoSlice::new);
        t.note("write", rustix::io::writev(&file, &parts));
        t.note("content", d.content("f"));
        let (mut a, mut b) = ([0; 3], [0; 100]);
        let mut into = [
            std::io::IoSliceMut::new(&mut a),
            std::io::IoSliceMut::new(&mut b),
        ];
        t.note("read", rustix::io::preadv(&file, &mut into, 1));
        t.note("first", a.to_vec());
    }),
    ("seek", |d, t| {
        let file = d.file("f", b"0123456789");
        for to in [
            SeekFrom::Start(3),
            SeekFrom::Current(2),
            SeekFrom::Current(-5),
            SeekFrom::End(-1),
            SeekFrom::End(100),
            SeekFrom::Current(-1000),
            SeekFrom::Start(1 << 62),
        ] {
            t.note(format!("{to:?}"), seek(&file, to));
        }
        seek(&file, SeekFrom::End(5)).unwrap();
        t.note("read past the end", read(&file, &mut [0; 4]));
        t.note("write past the end", write(&file, b"x"));
        t.note("content", d.content("f"));
    }),
    ("one handle sees what another wrote", |d, t| {
        let a = d.file("f", &pattern(10_000, 3));
        let b = d.open("f", O::RDWR, 0).unwrap();
        t.note("before", read_from(&b, 0, 20_000));
        write_at(&a, b"changed", 5000).unwrap();
        t.note("after", read_from(&b, 0, 20_000));
        ftruncate(&b, 100).unwrap();
        t.note("shorter", read_from(&a, 0, 20_000));
        ftruncate(&a, 200).unwrap();
        t.note("longer, with zeroes", read_from(&b, 0, 20_000));
        t.note("fstat", fstat(&a) == fstat(&b));
    }),
    ("truncate", |d, t| {
        d.file("f", &pattern(10_000, 4));
        for size in [10_000, 9_999, 4097, 4096, 4095, 1, 0, 5000, 100_000, 3] {
            t.note(format!("to {size}"), d.truncate("f", size));
            t.note("content", d.content("f"));
        }
        t.note("negative", d.truncate("f", -1));
        t.note("too far", d.truncate("f", i64::MAX));
        t.note("stat", d.stat("f"));
    }),
    ("truncate leaves no old bytes behind", |d, t| {
        let file = d.file("f", &[b'x'; 8192]);
        for size in [10, 4096 + 10, 5000] {
            ftruncate(&file, size).unwrap();
            ftruncate(&file, 8192).unwrap();
            t.note(size.to_string(), read_from(&file, 0, 10_000));
        }
        ftruncate(&file, 5).unwrap();
        write_at(&file, b"end", 6000).unwrap();
        t.note("a write past the end", d.content("f"));
    }),
    ("truncate of what is no file", |d, t| {
        crate::kinds::make_all(d);
        for name in [
            "dir", "socket", "dangling", "missing", "reg/x", "symlink", "dirlink",
        ] {
            t.note(name, d.truncate(name, 3));
        }
        t.note("through the link", d.content("reg"));
        d.chmod("reg", 0o444).unwrap();
        crate::support::user::as_user(crate::support::user::ALICE, || {
            t.note("no right", d.truncate("reg", 0));
        });
    }),
    ("copy_file_range", |d, t| {
        d.file("source", &pattern(300_000, 5));
        d.file("target", &pattern(1000, 6));
        copy(d, t, "all", ("source", 0), ("target", 0), 300_000);
        copy(
            d,
            t,
            "odd offsets",
            ("source", 1234),
            ("target", 999),
            54_321,
        );
        copy(
            d,
            t,
            "past the end",
            ("source", 299_990),
            ("target", 300_000),
            100,
        );
        copy(d, t, "at the end", ("source", 300_000), ("target", 0), 100);
        copy(
            d,
            t,
            "behind the end",
            ("source", 400_000),
            ("target", 0),
            100,
        );
        copy(d, t, "nothing", ("source", 0), ("target", 0), 0);
        copy(
            d,
            t,
            "leaving a hole",
            ("source", 0),
            ("target", 500_000),
            100,
        );
        copy(d, t, "aligned", ("source", 4096), ("target", 8192), 65_536);
    }),
    ("copy_file_range inside one file", |d, t| {
        d.file("f", &pattern(100_000, 7));
        copy(d, t, "apart", ("f", 0), ("f", 50_000), 10_000);
        copy(d, t, "overlapping", ("f", 0), ("f", 100), 10_000);
        copy(d, t, "growing", ("f", 0), ("f", 100_000), 5_000);
    }),
    (
        "copy_file_range by position, and where it cannot be",
        |d, t| {
            let source = d.file("source", b"0123456789");
            let target = d.file("target", b"");
            seek(&source, SeekFrom::Start(2)).unwrap();
            t.note("copy", copy_file_range(&source, None, &target, None, 5));
            t.note("content", d.content("target"));
            t.note(
                "positions",
                (
                    seek(&source, SeekFrom::Current(0)),
                    seek(&target, SeekFrom::Current(0)),
                ),
            );
            let append = d.open("target", O::WRONLY | O::APPEND, 0).unwrap();
            t.note(
                "to append",
                copy_file_range(&source, None, &append, None, 5),
            );
            let dir = d.open("", O::RDONLY, 0).unwrap();
            t.note(
                "from a directory",
                copy_file_range(&dir, None, &target, None, 5),
            );
            let read_only = d.open("target", O::RDONLY, 0).unwrap();
            t.note(
                "to read-only",
                copy_file_range(&source, None, &read_only, None, 5),
            );
            let write_only = d.open("source", O::WRONLY, 0).unwrap();
            t.note(
                "from write-only",
                copy_file_range(&write_only, None, &target, None, 5),
            );
        },
    ),
    ("sendfile and splice", |d, t| {
        let source = d.file("source", &pattern(50_000, 8));
        let target = d.file("target", b"");
        let mut offset = 100;
        let sent = rustix::fs::sendfile(&target, &source, Some(&mut offset), 30_000);
        t.note("sendfile", sent);
        t.note("content", d.content("target"));
    }),
    ("many small writes", |d, t| {
        let file = d.file("f", b"");
        for i in 0..2000_u32 {
            write_all(&file, &i.to_le_bytes()).unwrap();
        }
        t.note("content", d.content("f"));
        t.note("stat", d.stat("f"));
    }),
];
