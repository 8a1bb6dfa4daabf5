//! Names of every length and of every byte.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, OFlags as O};

use crate::dir::CREATE;
use crate::table::Case;

pub const CASES: &[Case] = &[
    ("lengths", |d, t| {
        for length in [1, 254, 255, 256, 300, 1000] {
            let name = "n".repeat(length);
            t.note(format!("create {length}"), d.open(&name, CREATE, 0o644));
            t.note("stat", d.stat(&name));
            t.note("mkdir", d.mkdir(format!("{}d", &name[1..]), 0o755));
            t.note("symlink", d.symlink("x", format!("{}s", &name[1..])));
            t.note("link", d.link(&name, format!("{}l", &name[1..])));
            t.note(
                "mknod",
                d.mknod(format!("{}p", &name[1..]), FileType::Fifo, 0o600, 0),
            );
            t.note("rename", d.rename(&name, format!("{}r", &name[1..])));
            t.note("unlink", d.unlink(format!("{}r", &name[1..])));
            t.note("rmdir", d.rmdir(format!("{}d", &name[1..])));
        }
        t.note("left", d.names("").map(|n| n.len()));
    }),
    ("long names of many bytes each", |d, t| {
        for name in [
            "ü".repeat(127),
            "ü".repeat(128),
            "漢".repeat(85),
            "漢".repeat(86),
        ] {
            t.note(
                format!("{} bytes", name.len()),
                d.open(&name, CREATE, 0o644),
            );
        }
        t.note("there", d.names(""));
    }),
    ("every byte", |d, t| {
        for byte in 1..=255_u8 {
            let name = [byte, b'x', byte];
            let name = OsStr::from_bytes(&name);
            t.note(format!("byte {byte}"), d.open(name, CREATE, 0o644));
            t.note("stat", d.stat(name));
        }
        t.note("there", d.names("").map(|n| n.len()));
        for byte in 1..=255_u8 {
            let name = [byte, b'x', byte];
            t.note(format!("byte {byte}"), d.unlink(OsStr::from_bytes(&name)));
        }
        t.note("left", d.names(""));
    }),
    ("names that look like something else", |d, t| {
        for name in [
            "...",
            ".hidden",
            "-",
            "--help",
            " ",
            "  ",
            "\n",
            "\\",
            "*",
            "%s",
            "\u{202e}abc",
            ".volfs",
            "volfs.quota",
            ".fuse_hidden0001",
            "lost+found",
            "~",
            "a:b",
            "CON",
            "nul",
        ] {
            t.note(name, d.open(name, CREATE | O::EXCL, 0o644));
            t.note("stat", d.stat(name));
        }
        t.note("there", d.names(""));
    }),
    ("upper and lower case, composed and decomposed", |d, t| {
        for name in ["a", "A", "\u{e9}", "e\u{301}", "ß", "SS", "ss"] {
            t.note(name, d.open(name, CREATE | O::EXCL, 0o644));
        }
        t.note("there", d.names(""));
    }),
    ("long paths", |d, t| {
        rustix::process::chdir(d.path()).unwrap();
        let mode = 0o755.into();
        // 19 × 205 + 200 = 4095 bytes with the slashes: one more than fits.
        let part = "p".repeat(204);
        let mut path = String::new();
        for _ in 0..19 {
            path += &part;
            t.note("mkdir", rustix::fs::mkdir(&path, mode));
            path += "/";
        }
        for length in [198, 199, 200, 201] {
            let longest = format!("{path}{}", "q".repeat(length));
            let label = format!("a path of {} bytes", longest.len());
            t.note(label, rustix::fs::open(&longest, CREATE, 0o644.into()));
        }
        rustix::process::chdir("/").unwrap();
    }),
    ("a path through many dots and slashes", |d, t| {
        d.subdir("a", 0o755);
        d.file("a/f", b"found");
        for path in [
            "a//f",
            "a/./f",
            "./a/../a/f",
            "a/.//./f",
            "a///",
            "a/../../",
            "a/f/",
        ] {
            t.note(path, d.stat(path).map(|m| m.0.st_mode >> 12));
        }
    }),
];
