//! `statfs`, and pushing data to the disk.

use rustix::fs::{OFlags as O, fdatasync, fstatfs, fsync, statfs, syncfs};

use crate::dir::write_all;
use crate::kinds::make_all;
use crate::table::Case;

pub const CASES: &[Case] = &[
    ("fsync and fdatasync", |d, t| {
        let file = d.file("f", b"content");
        t.note("fsync", fsync(&file));
        write_all(&file, b"more").unwrap();
        t.note("fdatasync", fdatasync(&file));
        let reader = d.open("f", O::RDONLY, 0).unwrap();
        t.note("read-only", fsync(&reader));
        d.unlink("f").unwrap();
        t.note("removed", fsync(&file));
    }),
    ("fsync of directories", |d, t| {
        d.subdir("dir", 0o755);
        for name in ["", "dir"] {
            let dir = d.open(name, O::RDONLY | O::DIRECTORY, 0).unwrap();
            t.note("fsync", fsync(&dir));
            t.note("fdatasync", fdatasync(&dir));
            t.note("syncfs", syncfs(&dir));
        }
    }),
    ("files opened for synchronous writes", |d, t| {
        d.file("f", b"");
        for flags in [O::SYNC, O::DSYNC] {
            let file = d.open("f", O::WRONLY | O::APPEND | flags, 0).unwrap();
            t.note("write", write_all(&file, b"now"));
        }
        t.note("content", d.content("f"));
    }),
    ("statfs", |d, t| {
        make_all(d);
        let home = statfs(d.path()).unwrap();
        t.note("longest name", home.f_namelen);
        t.note("fragment size", home.f_frsize);
        t.note("block size", home.f_bsize);
        for name in [
            "reg", "dir", "fifo", "symlink", "missing", "reg/x", "dangling",
        ] {
            t.note(
                name,
                statfs(d.at(name)).map(|s| s.f_blocks == home.f_blocks),
            );
        }
        let file = d.open("reg", O::RDONLY, 0).unwrap();
        t.note(
            "by handle",
            fstatfs(&file).map(|s| s.f_blocks == home.f_blocks),
        );
        t.note("free is in bounds", {
            home.f_bavail <= home.f_bfree && home.f_bfree <= home.f_blocks
        });
    }),
    ("statfs of the whole", |d, t| {
        let home = statfs(d.path()).unwrap();
        t.note("blocks", home.f_blocks);
        t.note("inodes", home.f_files);
    }),
];
