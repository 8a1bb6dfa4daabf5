//! Files in memory.

use rustix::fs::{OFlags as O, ftruncate};

use crate::dir::{fstat, read_from, write_at};
use crate::support::map::{Map, Sharing};
use crate::table::Case;

pub const CASES: &[Case] = &[
    ("shared: reads and writes meet", |d, t| {
        let file = d.file("f", &[b'a'; 10_000]);
        let map = Map::new(&file, 10_000, Sharing::Shared, true).unwrap();
        t.note("read", map.read(0, 10));
        map.write(5000, b"mapped");
        t.note("read by call", read_from(&file, 4998, 10));
        t.note("through another handle", d.content("f"));
        write_at(&file, b"called", 7000).unwrap();
        t.note("seen in memory", map.read(6998, 10));
        t.note("sync", map.sync());
        drop(map);
        drop(file);
        t.note("content", d.content("f"));
    }),
    ("shared: kept without msync", |d, t| {
        let file = d.file("f", &[b'a'; 4096]);
        let map = Map::new(&file, 4096, Sharing::Shared, true).unwrap();
        drop(file);
        map.write(0, b"after close");
        drop(map);
        t.note("content", d.content("f"));
    }),
    ("private: writes stay here", |d, t| {
        let file = d.file("f", &[b'a'; 4096]);
        let map = Map::new(&file, 4096, Sharing::Private, true).unwrap();
        map.write(0, b"mine");
        t.note("here", map.read(0, 6));
        drop(map);
        t.note("content", read_from(&file, 0, 6));
    }),
    ("two mappings of one file", |d, t| {
        let a = d.file("f", &[0; 8192]);
        let b = d.open("f", O::RDWR, 0).unwrap();
        let (map_a, map_b) = (
            Map::new(&a, 8192, Sharing::Shared, true).unwrap(),
            Map::new(&b, 8192, Sharing::Shared, true).unwrap(),
        );
        map_a.write(100, b"from a");
        t.note("in b", map_b.read(100, 6));
        map_b.write(4100, b"from b");
        t.note("in a", map_a.read(4100, 6));
        t.note("content", read_from(&a, 0, 10_000));
    }),
    ("permissions follow the handle", |d, t| {
        d.file("f", &[0; 4096]);
        let reader = d.open("f", O::RDONLY, 0).unwrap();
        let writer = d.open("f", O::WRONLY, 0).unwrap();
        for (label, file) in [("read-only", &reader), ("write-only", &writer)] {
            for sharing in [Sharing::Shared, Sharing::Private] {
                for writable in [false, true] {
                    let result = Map::new(file, 4096, sharing, writable).map(|_| ());
                    t.note(format!("{label} {sharing:?} {writable}"), result);
                }
            }
        }
        let dir = d.open("", O::RDONLY, 0).unwrap();
        t.note(
            "a directory",
            Map::new(&dir, 4096, Sharing::Private, false).map(|_| ()),
        );
    }),
    ("the file grows under a mapping", |d, t| {
        let file = d.file("f", b"short");
        let map = Map::new(&file, 4096, Sharing::Shared, true).unwrap();
        t.note("behind the end", map.read(5, 4));
        map.write(10, b"lost");
        ftruncate(&file, 4096).unwrap();
        t.note("size", fstat(&file));
        t.note("what was short", map.read(0, 5));
        write_at(&file, b"grown", 2000).unwrap();
        t.note("grown", map.read(2000, 5));
    }),
    ("a mapping after truncation", |d, t| {
        let file = d.file("f", &[b'x'; 8192]);
        let map = Map::new(&file, 8192, Sharing::Shared, true).unwrap();
        t.note("before", map.read(100, 4));
        ftruncate(&file, 100).unwrap();
        t.note("the rest of the page is zero", map.read(98, 6));
        ftruncate(&file, 8192).unwrap();
        t.note("and stays so", map.read(98, 6));
        t.note("the second page too", map.read(5000, 4));
    }),
    ("large files", |d, t| {
        let file = d.file("f", b"");
        ftruncate(&file, 32 << 20).unwrap();
        let map = Map::new(&file, 32 << 20, Sharing::Shared, true).unwrap();
        for i in 0..32 {
            map.write((i << 20) + i, &[b'0' + i as u8]);
        }
        drop(map);
        t.note("content", d.content("f"));
    }),
    ("a program is run from it", |d, t| {
        std::fs::copy("/bin/true", d.at("program")).unwrap();
        d.chmod("program", 0o755).unwrap();
        let run = || std::process::Command::new(d.at("program")).status();
        t.note("run", run().map(|s| s.success()));
        d.chmod("program", 0o644).unwrap();
        t.note("not executable", run().map(|s| s.success()));
        d.chmod("program", 0o755).unwrap();
        let writer = d.open("program", O::WRONLY, 0).unwrap();
        t.note("open for writing", run().map(|s| s.success()));
        drop(writer);
        d.file("script", b"#!/bin/sh\nexit 7\n");
        d.chmod("script", 0o755).unwrap();
        let script = std::process::Command::new(d.at("script")).status();
        t.note("script", script.map(|s| s.code()));
    }),
];
