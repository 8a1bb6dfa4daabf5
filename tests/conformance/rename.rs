//! `rename` and `renameat2`.

use rustix::fs::{OFlags as O, RenameFlags as R};

use crate::dir::{Dir, read_from};
use crate::kinds::{ALL_KINDS, make_all};
use crate::support::user::{ALICE, BOB, as_user};
use crate::table::Case;
use crate::trace::Trace;

/// Source and target of every type, in all combinations.
fn all_pairs(d: &Dir, t: &mut Trace, flags: R) {
    let kinds = [
        "reg", "dir", "full", "fifo", "symlink", "dirlink", "missing",
    ];
    for from in kinds {
        for to in kinds {
            let place = d.subdir(format!("{from}-{to}"), 0o755);
            let (a, b) = (place.subdir("a", 0o755), place.subdir("b", 0o755));
            for side in [&a, &b] {
                make_all(side);
                side.subdir("full", 0o755);
                side.file("full/f", b"");
            }
            let (old, new) = (format!("a/{from}"), format!("b/{to}"));
            t.note(
                format!("{from} to {to}"),
                place.rename_with(old, new, flags),
            );
            t.note("left", a.names(""));
            t.note("there", b.names(""));
            t.note("it is", b.stat(to));
            t.note("in its place", a.stat(from));
        }
    }
}

pub const CASES: &[Case] = &[
    ("every type to every type", |d, t| {
        all_pairs(d, t, R::empty())
    }),
    ("with RENAME_NOREPLACE", |d, t| {
        all_pairs(d, t, R::NOREPLACE)
    }),
    ("with RENAME_EXCHANGE", |d, t| all_pairs(d, t, R::EXCHANGE)),
    (
        "with flags that exclude each other or do not exist",
        |d, t| {
            make_all(d);
            t.note(
                "both",
                d.rename_with("reg", "new", R::NOREPLACE | R::EXCHANGE),
            );
            t.note(
                "unknown",
                d.rename_with("reg", "new", R::from_bits_retain(1 << 20)),
            );
            t.note("left", d.names(""));
        },
    ),
    ("onto itself and onto a link of itself", |d, t| {
        make_all(d);
        d.link("reg", "hard").unwrap();
        for (old, new) in [
            ("reg", "reg"),
            ("dir", "dir"),
            ("reg", "hard"),
            ("symlink", "reg"),
        ] {
            t.note(format!("{old} to {new}"), d.rename(old, new));
        }
        t.note(
            "exchange with itself",
            d.rename_with("dir", "dir", R::EXCHANGE),
        );
        t.note(
            "noreplace with itself",
            d.rename_with("dir", "dir", R::NOREPLACE),
        );
        t.note("left", d.names(""));
        t.note("links", d.stat("hard"));
    }),
    ("into itself", |d, t| {
        d.subdir("dir", 0o755);
        d.subdir("dir/sub", 0o755);
        for (old, new) in [
            ("dir", "dir/new"),
            ("dir", "dir/sub/new"),
            ("dir", "dir/sub"),
            ("dir/sub", "dir"),
            ("dir", "dir/."),
            ("dir/.", "x"),
            ("dir/..", "x"),
            ("dir", ".."),
            (".", "x"),
        ] {
            t.note(format!("{old} to {new}"), d.rename(old, new));
            let exchange = d.rename_with(old, new, R::EXCHANGE);
            t.note(format!("exchange {old} and {new}"), exchange);
        }
        t.note("left", d.names("dir"));
    }),
    ("missing parents and files as parents", |d, t| {
        make_all(d);
        for (old, new) in [
            ("missing", "x"),
            ("missing/x", "x"),
            ("reg/x", "x"),
            ("reg", "missing/x"),
            ("reg", "reg/x"),
            ("reg", "fifo/x"),
            ("reg", "dangling/x"),
            ("", "x"),
            ("reg", ""),
        ] {
            t.note(format!("{old} to {new}"), d.rename(old, new));
        }
        t.note("left", d.names(""));
    }),
    ("trailing slashes", |d, t| {
        make_all(d);
        for (old, new) in [
            ("reg", "x/"),
            ("reg/", "x"),
            ("dir/", "moved"),
            ("moved", "again/"),
            ("dirlink/", "x"),
            ("dirlink", "y"),
            ("symlink/", "x"),
        ] {
            t.note(format!("{old} to {new}"), d.rename(old, new));
        }
        for name in ALL_KINDS {
            t.note(*name, d.stat(name));
        }
    }),
    ("over open files and directories", |d, t| {
        let old = d.file("old", b"old");
        let new = d.file("new", b"new");
        t.note("rename", d.rename("new", "old"));
        t.note("replaced", read_from(&old, 0, 9));
        t.note("renamed", read_from(&new, 0, 9));
        t.note("links", crate::dir::fstat(&old));
        d.subdir("a", 0o755);
        d.subdir("b", 0o755);
        let open = d.open("b", O::RDONLY, 0).unwrap();
        t.note("directory", d.rename("a", "b"));
        t.note("links", crate::dir::fstat(&open).map(|m| m.0.st_nlink));
    }),
    ("the content and attributes go along", |d, t| {
        d.subdir("from", 0o755);
        d.subdir("to", 0o755);
        d.file("from/f", b"content");
        d.chmod("from/f", 0o4711).unwrap();
        d.chown("from/f", Some(1000), Some(2000)).unwrap();
        d.chmod("from/f", 0o6711).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(d.at("from/f"), "user.k", b"v", flags).unwrap();
        let ino = d.stat("from/f").unwrap().0.st_ino;
        t.note("rename", d.rename("from/f", "to/g"));
        t.note("content", d.content("to/g"));
        t.note("stat", d.stat("to/g"));
        t.note("same inode", d.stat("to/g").unwrap().0.st_ino == ino);
        let got = rustix::fs::getxattr(d.at("to/g"), "user.k", &mut [0_u8; 8][..]);
        t.note("xattr", got);
        t.note("gone", d.stat("from/f"));
    }),
    ("a tree goes along", |d, t| {
        d.subdir("a", 0o755);
        d.subdir("a/b", 0o755);
        d.subdir("a/b/c", 0o755);
        let file = d.file("a/b/c/f", b"deep");
        d.subdir("target", 0o755);
        t.note("rename", d.rename("a", "target/moved"));
        t.note("content", d.content("target/moved/b/c/f"));
        t.note("old path", d.stat("a/b/c/f"));
        t.note("open handle", read_from(&file, 0, 9));
        let up = d.stat("target/moved/..").map(|m| m.0.st_ino);
        t.note("dot dot", up == d.stat("target").map(|m| m.0.st_ino));
        t.note("and back, deeper down", d.rename("target/moved/b", "b"));
        t.note("content", d.content("b/c/f"));
    }),
    ("exchange of a file and a directory", |d, t| {
        d.file("f", b"file");
        d.subdir("dir", 0o755);
        d.file("dir/inside", b"in");
        d.subdir("other", 0o755);
        t.note("exchange", d.rename_with("f", "dir", R::EXCHANGE));
        t.note("f", d.names("f"));
        t.note("dir", d.content("dir"));
        t.note("across", d.rename_with("f", "other/x", R::EXCHANGE));
        d.file("other/x", b"there");
        t.note("across", d.rename_with("f", "other/x", R::EXCHANGE));
        t.note("f", d.content("f"));
        t.note("other/x", d.names("other/x"));
        t.note("links", d.stat(""));
        t.note("links", d.stat("other"));
    }),
    ("without the right", |d, t| {
        d.subdir("closed", 0o755);
        d.file("closed/f", b"");
        d.subdir("open", 0o777);
        d.file("open/f", b"");
        d.subdir("open/roots", 0o755);
        d.subdir("sticky", 0o1777);
        d.file("sticky/alice", b"");
        d.chown("sticky/alice", Some(1000), Some(1000)).unwrap();
        d.file("sticky/root", b"");
        as_user(BOB, || {
            t.note("out of closed", d.rename("closed/f", "open/g"));
            t.note("into closed", d.rename("open/f", "closed/g"));
            t.note("inside open", d.rename("open/f", "open/g"));
            t.note(
                "a directory of root, same parent",
                d.rename("open/roots", "open/r"),
            );
            t.note(
                "a directory of root, new parent",
                d.rename("open/r", "sticky/r"),
            );
            t.note("out of sticky", d.rename("sticky/alice", "open/h"));
            t.note(
                "over another's in sticky",
                d.rename("open/g", "sticky/alice"),
            );
            let exchange = d.rename_with("open/g", "sticky/root", R::EXCHANGE);
            t.note("exchange with another's in sticky", exchange);
        });
        as_user(ALICE, || {
            t.note("one's own in sticky", d.rename("sticky/alice", "sticky/a"));
            t.note("over root's in sticky", d.rename("sticky/a", "sticky/root"));
        });
        t.note("closed", d.names("closed"));
        t.note("open", d.names("open"));
        t.note("sticky", d.names("sticky"));
    }),
    ("lookups after many renames", |d, t| {
        d.file("0", b"wanderer");
        for i in 0..300 {
            d.rename(i.to_string(), (i + 1).to_string()).unwrap();
        }
        t.note("first", d.stat("0"));
        t.note("last", d.content("300"));
        t.note("names", d.names(""));
    }),
];
