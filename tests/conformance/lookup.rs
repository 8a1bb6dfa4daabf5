//! Finding names: every file type, and every way not to find one.

use rustix::fs::{Access, AtFlags, OFlags as O};

use crate::dir::{CREATE, fstat};
use crate::kinds::{ALL_KINDS, make_all};
use crate::table::Case;

pub const CASES: &[Case] = &[
    ("attributes of every file type", |d, t| {
        make_all(d);
        for name in ALL_KINDS {
            t.note(format!("lstat {name}"), d.stat(name));
            t.note(format!("stat {name}"), d.stat_target(name));
        }
        t.note("the directory", d.stat(""));
        t.note("dot", d.stat("."));
        t.note("dot dot of a directory", d.stat("dir/..") == d.stat(""));
    }),
    ("missing names", |d, t| {
        make_all(d);
        for name in [
            "missing",
            "missing/",
            "missing/x",
            "dir/missing",
            "dir/missing/x",
        ] {
            t.note(format!("lstat {name}"), d.stat(name));
            t.note(format!("open {name}"), d.open(name, O::RDONLY, 0));
            t.note(format!("stat {name} again"), d.stat(name));
        }
    }),
    ("a missing name that is made then", |d, t| {
        t.note("before", d.stat("late"));
        t.note("before, again", d.stat("late"));
        d.file("late", b"here");
        t.note("made", d.stat("late"));
        t.note("unlink", d.unlink("late"));
        t.note("removed", d.stat("late"));
        t.note("mkdir", d.mkdir("late", 0o755));
        t.note("a directory now", d.stat("late"));
    }),
    ("a file used as a directory", |d, t| {
        make_all(d);
        for name in ALL_KINDS {
            for suffix in ["/", "/.", "/..", "/x"] {
                let path = format!("{name}{suffix}");
                t.note(format!("lstat {path}"), d.stat(&path));
                t.note(format!("mkdir {path}"), d.mkdir(&path, 0o755));
                t.note(format!("unlink {path}"), d.unlink(&path));
            }
        }
    }),
    ("a loop of symlinks", |d, t| {
        d.symlink("b", "a").unwrap();
        d.symlink("a", "b").unwrap();
        d.symlink("self", "self").unwrap();
        for name in ["a", "self", "a/x", "self/"] {
            t.note(format!("stat {name}"), d.stat_target(name));
            t.note(format!("open {name}"), d.open(name, O::RDONLY, 0));
            t.note(format!("create {name}"), d.open(name, CREATE, 0o644));
            t.note(format!("chmod {name}"), d.chmod(name, 0o600));
            t.note(format!("truncate {name}"), d.truncate(name, 0));
        }
        t.note("lstat", d.stat("a"));
    }),
    ("chains of 39, 40 and 41 symlinks", |d, t| {
        d.file("0", b"end of the chain");
        for i in 1..=41 {
            d.symlink((i - 1).to_string(), i.to_string()).unwrap();
        }
        for i in ["39", "40", "41"] {
            t.note(i, d.content(i));
        }
    }),
    ("access as root", |d, t| {
        make_all(d);
        d.chmod("reg", 0).unwrap();
        d.chmod("dir", 0).unwrap();
        for name in ["reg", "dir", "dangling", "missing", "reg/x"] {
            for (label, access) in [
                ("exists", Access::EXISTS),
                ("read", Access::READ_OK),
                ("write", Access::WRITE_OK),
                ("execute", Access::EXEC_OK),
            ] {
                t.note(format!("{label} {name}"), d.access(name, access));
            }
        }
    }),
    ("a descriptor for the path only", |d, t| {
        make_all(d);
        for name in ALL_KINDS {
            let Some(path) = t.get(name, d.open(name, O::PATH | O::NOFOLLOW, 0)) else {
                continue;
            };
            t.note("fstat", fstat(&path));
            t.note("read", rustix::io::read(&path, &mut [0; 4]));
            t.note("write", rustix::io::write(&path, b"x"));
            t.note("fchmod", rustix::fs::fchmod(&path, 0o600.into()));
            t.note("ftruncate", rustix::fs::ftruncate(&path, 0));
            t.note(
                "seek",
                rustix::fs::seek(&path, rustix::fs::SeekFrom::Start(0)),
            );
            t.note("fsync", rustix::fs::fsync(&path));
        }
    }),
    ("a path descriptor of a removed file", |d, t| {
        d.file("f", b"gone");
        let path = d.open("f", O::PATH, 0).unwrap();
        d.unlink("f").unwrap();
        t.note("fstat", fstat(&path));
        d.mkdir("x", 0o755).unwrap();
        let path = d.open("x", O::PATH, 0).unwrap();
        d.rmdir("x").unwrap();
        t.note(
            "fstat of a directory",
            fstat(&path).map(|m| m.0.st_nlink == 0),
        );
    }),
    ("inode numbers are one per file", |d, t| {
        make_all(d);
        d.link("reg", "dir/link").unwrap();
        let ino = |name: &str| d.stat(name).unwrap().0.st_ino;
        t.note("links share it", ino("reg") == ino("dir/link"));
        let mut all: Vec<u64> = ALL_KINDS.iter().map(|name| ino(name)).collect();
        all.sort_unstable();
        all.dedup();
        t.note("different ones", all.len());
        let by_handle = fstat(d.open("reg", O::RDONLY, 0).unwrap()).unwrap();
        t.note("fstat agrees", by_handle.0.st_ino == ino("reg"));
        let device = d.stat("").unwrap().0.st_dev;
        let same = ALL_KINDS
            .iter()
            .all(|n| d.stat(n).unwrap().0.st_dev == device);
        t.note("one device", same);
    }),
    ("statx and stat agree", |d, t| {
        make_all(d);
        for name in ALL_KINDS {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let wanted = rustix::fs::StatxFlags::BASIC_STATS;
            let seen = rustix::fs::statx(rustix::fs::CWD, d.at(name), flags, wanted);
            let seen = seen.map(|s| {
                format!(
                    "{:o} {}:{} {}",
                    s.stx_mode, s.stx_uid, s.stx_gid, s.stx_nlink
                )
            });
            t.note(name, seen);
        }
    }),
    ("blocks and preferred size of a file", |d, t| {
        let file = d.file("f", &[1; 10_000]);
        rustix::fs::fsync(&file).unwrap();
        let stat = fstat(&file).unwrap().0;
        t.note("blocks", stat.st_blocks);
        t.note("block size", stat.st_blksize);
    }),
];
