//! Symbolic and hard links.

use std::os::fd::AsRawFd;

use rustix::fs::{AtFlags, CWD, OFlags as O, linkat};

use crate::dir::{CREATE, fstat, write_all};
use crate::kinds::{ALL_KINDS, make_all};
use crate::support::user::{ALICE, as_user};
use crate::table::Case;

pub const CASES: &[Case] = &[
    ("symlink targets of every length", |d, t| {
        for length in [1, 2, 59, 60, 61, 255, 256, 1023, 4094, 4095, 4096, 5000] {
            let target = "t".repeat(length);
            let name = length.to_string();
            t.note(&name, d.symlink(&target, &name));
            t.note("readlink", d.readlink(&name));
            t.note("lstat", d.stat(&name));
        }
        t.note("empty", d.symlink("", "empty"));
    }),
    ("symlink targets are kept to the byte", |d, t| {
        use std::os::unix::ffi::OsStrExt;
        for (i, target) in [
            &b"../up"[..],
            b"/absolute",
            b"a//b/./c/",
            b"\xff\xfe",
            b"new\nline",
            b" ",
            b"..",
        ]
        .iter()
        .enumerate()
        {
            let name = format!("l{i}");
            t.note(&name, d.symlink(std::ffi::OsStr::from_bytes(target), &name));
            t.note("readlink", d.readlink(&name));
        }
    }),
    ("symlinks where they cannot be", |d, t| {
        make_all(d);
        for name in ALL_KINDS
            .iter()
            .chain(&["missing/x", "reg/x", "new/", "dir/", "", "."])
        {
            t.note(*name, d.symlink("target", name));
        }
        d.subdir("closed", 0o755);
        as_user(ALICE, || {
            t.note("no right", d.symlink("target", "closed/x"))
        });
    }),
    ("readlink of what is no symlink", |d, t| {
        make_all(d);
        for name in ALL_KINDS.iter().chain(&["missing", "reg/x"]) {
            t.note(*name, d.readlink(name));
        }
    }),
    ("readlink into a short buffer", |d, t| {
        d.symlink("0123456789", "l").unwrap();
        let mut buffer = [0; 4];
        let result = rustix::fs::readlinkat_raw(CWD, d.at("l"), &mut buffer[..]);
        t.note("length", result);
        t.note("content", buffer.to_vec());
    }),
    ("following", |d, t| {
        d.subdir("dir", 0o755);
        d.file("dir/f", b"inside");
        d.symlink("dir", "a").unwrap();
        d.symlink("../dir/f", "dir/b").unwrap();
        d.symlink(d.at("dir/f").as_os_str(), "absolute").unwrap();
        d.symlink("dir/../a/../dir/b", "round").unwrap();
        for name in ["a/f", "dir/b", "absolute", "round", "a/b", "a/../dir/f"] {
            t.note(name, d.content(name));
        }
        t.note("rename of a link", d.rename("a", "c"));
        t.note("through it", d.content("c/f"));
    }),
    ("owner and mode of a symlink", |d, t| {
        d.chmod("", 0o777).unwrap();
        as_user(ALICE, || t.note("symlink", d.symlink("x", "l")));
        t.note("lstat", d.stat("l"));
        t.note("chown", d.chown("l", Some(1001), Some(2000)));
        t.note("lstat", d.stat("l"));
    }),
    ("hard links to every file type", |d, t| {
        make_all(d);
        for name in ALL_KINDS.iter().chain(&["missing", "reg/x", ".", ""]) {
            let new = format!("link-{}", name.replace('/', "-"));
            t.note(*name, d.link(name, &new));
            t.note("old", d.stat(name));
            t.note("new", d.stat(new));
        }
    }),
    ("hard links where they cannot be", |d, t| {
        make_all(d);
        for name in ALL_KINDS
            .iter()
            .chain(&["missing/x", "reg/x", "new/", "dir/", "."])
        {
            t.note(*name, d.link("reg", name));
        }
        t.note("itself", d.link("reg", "reg"));
        t.note("links", d.stat("reg"));
    }),
    ("hard links by a user", |d, t| {
        d.chmod("", 0o777).unwrap();
        d.file("roots", b"");
        d.file("alices", b"");
        d.chown("alices", Some(1000), Some(1000)).unwrap();
        d.file("suid", b"");
        d.chmod("suid", 0o4755).unwrap();
        d.file("writable", b"");
        d.chmod("writable", 0o666).unwrap();
        d.subdir("closed", 0o755);
        as_user(ALICE, || {
            for name in ["roots", "alices", "suid", "writable"] {
                t.note(name, d.link(name, format!("link-{name}")));
            }
            t.note("no right", d.link("alices", "closed/x"));
        });
        t.note("there", d.names(""));
    }),
    ("hard links share everything", |d, t| {
        let file = d.file("a", b"one");
        d.subdir("dir", 0o755);
        t.note("link", d.link("a", "dir/b"));
        write_all(&file, b" two").unwrap();
        t.note("content", d.content("dir/b"));
        d.chmod("dir/b", 0o600).unwrap();
        t.note("mode", d.stat("a"));
        d.truncate("dir/b", 2).unwrap();
        t.note("size", d.stat("a"));
        t.note("fstat", fstat(&file));
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(d.at("a"), "user.x", b"y", flags).unwrap();
        let got = rustix::fs::getxattr(d.at("dir/b"), "user.x", &mut [0_u8; 8][..]);
        t.note("xattr", got);
    }),
    ("many hard links", |d, t| {
        d.file("f", b"");
        for i in 0..200 {
            d.link("f", format!("l{i}")).unwrap();
        }
        t.note("links", d.stat("f"));
        for i in 0..100 {
            d.unlink(format!("l{i}")).unwrap();
        }
        t.note("links", d.stat("l150"));
    }),
    ("a link through a symlink", |d, t| {
        make_all(d);
        let (old, new) = (d.at("symlink"), d.at("followed"));
        t.note(
            "followed",
            linkat(CWD, old, CWD, new, AtFlags::SYMLINK_FOLLOW),
        );
        t.note("it is", d.stat("followed"));
        let (old, new) = (d.at("dangling"), d.at("nothing"));
        t.note(
            "dangling",
            linkat(CWD, old, CWD, new, AtFlags::SYMLINK_FOLLOW),
        );
    }),
    ("a removed file cannot be linked again", |d, t| {
        let file = d.file("f", b"gone");
        d.unlink("f").unwrap();
        let old = format!("/proc/self/fd/{}", file.as_raw_fd());
        let result = linkat(CWD, old, CWD, d.at("again"), AtFlags::SYMLINK_FOLLOW);
        t.note("link", result);
        t.note("there", d.names(""));
    }),
    ("an open file is linked by its descriptor", |d, t| {
        let file = d.open("f", CREATE, 0o644).unwrap();
        write_all(&file, b"content").unwrap();
        let old = format!("/proc/self/fd/{}", file.as_raw_fd());
        let result = linkat(CWD, old, CWD, d.at("g"), AtFlags::SYMLINK_FOLLOW);
        t.note("link", result);
        t.note("content", d.content("g"));
        let path = d.open("f", O::PATH, 0).unwrap();
        t.note(
            "by an empty path",
            linkat(&path, "", CWD, d.at("h"), AtFlags::EMPTY_PATH),
        );
        t.note("content", d.content("h"));
    }),
];
