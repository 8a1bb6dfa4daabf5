//! `unlink`, and files that are used after it.

use rustix::fs::{OFlags as O, SeekFrom, ftruncate, seek};

use crate::dir::{fstat, read_from, write_all};
use crate::kinds::{ALL_KINDS, make_all};
use crate::support::map::{Map, Sharing};
use crate::support::user::{ALICE, BOB, as_user};
use crate::table::Case;

pub const CASES: &[Case] = &[
    ("every file type", |d, t| {
        make_all(d);
        for name in ALL_KINDS.iter().chain(&[
            "missing",
            "reg/x",
            "missing/x",
            ".",
            "..",
            "dir/",
            "dir/.",
            "dirlink/",
            "",
        ]) {
            t.note(*name, d.unlink(name));
        }
        t.note("left", d.names(""));
    }),
    ("twice", |d, t| {
        d.file("f", b"");
        t.note("first", d.unlink("f"));
        t.note("second", d.unlink("f"));
    }),
    ("without the right", |d, t| {
        d.subdir("closed", 0o755);
        d.file("closed/f", b"");
        d.subdir("sticky", 0o1777);
        d.file("sticky/root", b"");
        d.file("sticky/alice", b"");
        d.chown("sticky/alice", Some(1000), Some(1000)).unwrap();
        d.subdir("alices", 0o1777);
        d.chown("alices", Some(1000), Some(1000)).unwrap();
        d.file("alices/root", b"");
        as_user(BOB, || {
            t.note("sticky, of alice, by bob", d.unlink("sticky/alice"));
            t.note("sticky of alice, by bob", d.unlink("alices/root"));
        });
        as_user(ALICE, || {
            t.note("closed", d.unlink("closed/f"));
            t.note("sticky, of root", d.unlink("sticky/root"));
            t.note("sticky, one's own", d.unlink("sticky/alice"));
            t.note("root's in one's own sticky", d.unlink("alices/root"));
        });
        t.note("left", d.names("sticky"));
    }),
    ("an open file", |d, t| {
        let file = d.file("f", b"content");
        t.note("unlink", d.unlink("f"));
        t.note("fstat", fstat(&file));
        t.note("read", read_from(&file, 0, 100));
        t.note("write", write_all(&file, b" and more"));
        t.note("read", read_from(&file, 0, 100));
        t.note("truncate", ftruncate(&file, 4));
        t.note("fstat", fstat(&file));
        t.note("chmod", rustix::fs::fchmod(&file, 0o600.into()));
        t.note("fsync", rustix::fs::fsync(&file));
        t.note("seek", seek(&file, SeekFrom::End(0)));
        t.note("the name", d.stat("f"));
    }),
    ("an open file whose name is taken again", |d, t| {
        let old = d.file("f", b"old");
        d.unlink("f").unwrap();
        let new = d.file("f", b"new");
        t.note("old", read_from(&old, 0, 10));
        t.note("new", read_from(&new, 0, 10));
        let different = fstat(&old).unwrap().0.st_ino != fstat(&new).unwrap().0.st_ino;
        t.note("two inodes", different);
        t.note("links of the old", fstat(&old));
        t.note("links of the new", fstat(&new));
    }),
    ("two handles, one closed", |d, t| {
        let a = d.file("f", b"shared");
        let b = d.open("f", O::RDWR, 0).unwrap();
        d.unlink("f").unwrap();
        drop(a);
        t.note("the other still reads", read_from(&b, 0, 10));
        t.note("and writes", write_all(&b, b"SHARED"));
        t.note("read", read_from(&b, 0, 10));
    }),
    ("one of two links", |d, t| {
        let file = d.file("f", b"linked");
        d.link("f", "g").unwrap();
        t.note("unlink", d.unlink("f"));
        t.note("fstat", fstat(&file));
        t.note("through the other", d.content("g"));
        t.note("unlink the other", d.unlink("g"));
        t.note("fstat", fstat(&file));
    }),
    ("an open file is replaced by rename", |d, t| {
        let old = d.file("f", b"old");
        d.file("g", b"new");
        t.note("rename", d.rename("g", "f"));
        t.note("old", read_from(&old, 0, 10));
        t.note("fstat", fstat(&old));
        t.note("write", write_all(&old, b"er"));
        t.note("new", d.content("f"));
    }),
    ("a mapped file", |d, t| {
        let file = d.file("f", &[b'a'; 8192]);
        let map = Map::new(&file, 8192, Sharing::Shared, true).unwrap();
        drop(file);
        t.note("unlink", d.unlink("f"));
        map.write(4096, b"mapped");
        t.note("read", map.read(4094, 10));
        t.note("sync", map.sync());
    }),
    ("a removed file is reopened through /proc", |d, t| {
        let file = d.file("f", b"content");
        d.unlink("f").unwrap();
        use std::os::fd::AsRawFd;
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let again = t.get("open", d.open(&link, O::RDWR, 0));
        if let Some(again) = again {
            t.note("read", read_from(&again, 0, 100));
            t.note("write", write_all(&again, b"CONTENT"));
            t.note("the first sees it", read_from(&file, 0, 100));
        }
        t.note("for reading", d.open(&link, O::RDONLY, 0));
    }),
    ("a hundred open removed files", |d, t| {
        let files: Vec<_> = (0..100_u32)
            .map(|i| {
                let name = i.to_string();
                let file = d.file(&name, name.as_bytes());
                d.unlink(&name).unwrap();
                file
            })
            .collect();
        t.note("left", d.names(""));
        let right = files
            .iter()
            .enumerate()
            .all(|(i, file)| read_from(file, 0, 10).unwrap() == i.to_string().into_bytes());
        t.note("each has its content", right);
    }),
];
