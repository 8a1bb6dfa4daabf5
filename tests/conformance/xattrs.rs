//! Extended attributes.

use std::path::Path;

use rustix::fs::{
    OFlags as O, XattrFlags as X, fgetxattr, flistxattr, fremovexattr, fsetxattr, lgetxattr,
    llistxattr, lremovexattr, lsetxattr,
};
use rustix::io::Result;

use crate::dir::Dir;
use crate::kinds::{ALL_KINDS, make_all};
use crate::support::user::{ALICE, BOB, as_user};
use crate::table::Case;

const SPACES: &[&str] = &[
    "user.a",
    "trusted.a",
    "security.a",
    "system.a",
    "other.a",
    "plain",
    "user.",
    "user",
    "security.capability",
    "btrfs.compression",
    "volfs",
];

fn get(path: &Path, name: &str) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 70_000];
    let n = lgetxattr(path, name, &mut buffer[..])?;
    buffer.truncate(n);
    Ok(buffer)
}

fn list(path: &Path) -> Result<Vec<String>> {
    let mut buffer = vec![0_u8; 70_000];
    let n = llistxattr(path, &mut buffer[..])?;
    let mut names: Vec<String> = buffer[..n]
        .split(|&b| b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    names.sort();
    Ok(names)
}

fn every_space(d: &Dir, t: &mut crate::trace::Trace, name: &str) {
    for space in SPACES {
        let path = d.at(name);
        let set = lsetxattr(&path, *space, b"value", X::empty());
        t.note(format!("set {space} of {name}"), set);
        t.note("get", get(&path, space));
    }
    t.note(format!("list of {name}"), list(&d.at(name)));
    for space in SPACES {
        t.note(format!("remove {space}"), lremovexattr(d.at(name), *space));
    }
    t.note("list", list(&d.at(name)));
}

pub const CASES: &[Case] = &[
    ("every name space on every file type by root", |d, t| {
        make_all(d);
        for name in ALL_KINDS {
            every_space(d, t, name);
        }
    }),
    ("by the owner", |d, t| {
        d.file("f", b"");
        d.subdir("dir", 0o755);
        for name in ["f", "dir"] {
            d.chown(name, Some(1000), Some(1000)).unwrap();
            as_user(ALICE, || every_space(d, t, name));
        }
    }),
    ("by a stranger", |d, t| {
        d.file("f", b"");
        d.chown("f", Some(1000), Some(1000)).unwrap();
        lsetxattr(d.at("f"), "user.x", b"v", X::empty()).unwrap();
        lsetxattr(d.at("f"), "trusted.x", b"v", X::empty()).unwrap();
        for mode in [0o600, 0o644, 0o666] {
            d.chmod("f", mode).unwrap();
            as_user(BOB, || {
                every_space(d, t, "f");
                t.note("get", get(&d.at("f"), "user.x"));
                t.note("get trusted", get(&d.at("f"), "trusted.x"));
                t.note("remove", lremovexattr(d.at("f"), "user.x"));
                t.note("list", list(&d.at("f")));
            });
        }
        t.note("root's list", list(&d.at("f")));
    }),
    ("user attributes in a sticky directory", |d, t| {
        d.subdir("sticky", 0o1777);
        as_user(ALICE, || {
            t.note("set", lsetxattr(d.at("sticky"), "user.a", b"v", X::empty()));
        });
        t.note(
            "set by root",
            lsetxattr(d.at("sticky"), "user.b", b"v", X::empty()),
        );
    }),
    ("create and replace", |d, t| {
        d.file("f", b"");
        let path = d.at("f");
        t.note("replace none", lsetxattr(&path, "user.a", b"1", X::REPLACE));
        t.note("create", lsetxattr(&path, "user.a", b"2", X::CREATE));
        t.note("create again", lsetxattr(&path, "user.a", b"3", X::CREATE));
        t.note("replace", lsetxattr(&path, "user.a", b"4", X::REPLACE));
        t.note(
            "both",
            lsetxattr(&path, "user.a", b"5", X::CREATE | X::REPLACE),
        );
        t.note(
            "unknown flag",
            lsetxattr(&path, "user.a", b"6", X::from_bits_retain(64)),
        );
        t.note("get", get(&path, "user.a"));
        t.note("remove", lremovexattr(&path, "user.a"));
        t.note("remove again", lremovexattr(&path, "user.a"));
        t.note("get", get(&path, "user.a"));
    }),
    ("values of every size", |d, t| {
        d.file("f", b"");
        let path = d.at("f");
        for size in [
            0, 1, 100, 1000, 3000, 4000, 4096, 10_000, 60_000, 65_535, 65_536, 65_537,
        ] {
            let value = vec![b'v'; size];
            t.note(
                format!("set {size}"),
                lsetxattr(&path, "user.v", &value, X::empty()),
            );
            t.note("get", get(&path, "user.v"));
        }
    }),
    ("values are kept to the byte", |d, t| {
        d.file("f", b"");
        let value: Vec<u8> = (0..=255).collect();
        t.note("set", lsetxattr(d.at("f"), "user.v", &value, X::empty()));
        t.note("get", get(&d.at("f"), "user.v"));
        t.note("equal", get(&d.at("f"), "user.v") == Ok(value));
    }),
    ("buffers that are too small", |d, t| {
        d.file("f", b"");
        let path = d.at("f");
        lsetxattr(&path, "user.v", b"0123456789", X::empty()).unwrap();
        lsetxattr(&path, "user.w", b"", X::empty()).unwrap();
        t.note("size of it", rustix::fs::lgetxattr_query(&path, "user.v"));
        t.note("short", lgetxattr(&path, "user.v", &mut [0_u8; 9][..]));
        t.note("exact", lgetxattr(&path, "user.v", &mut [0_u8; 10][..]));
        t.note(
            "size of an empty one",
            rustix::fs::lgetxattr_query(&path, "user.w"),
        );
        t.note("size of the list", rustix::fs::llistxattr_query(&path));
        t.note("short list", llistxattr(&path, &mut [0_u8; 8][..]));
        t.note("exact list", llistxattr(&path, &mut [0_u8; 14][..]));
        t.note(
            "missing",
            rustix::fs::lgetxattr_query(&path, "user.missing"),
        );
    }),
    ("names of every length", |d, t| {
        d.file("f", b"");
        for length in [1, 100, 250, 251, 300] {
            let name = format!("user.{}", "n".repeat(length - usize::from(length > 250)));
            t.note(
                length.to_string(),
                lsetxattr(d.at("f"), &name, b"v", X::empty()),
            );
            t.note("get", get(&d.at("f"), &name));
        }
        t.note("empty", lsetxattr(d.at("f"), "", b"v", X::empty()));
        let odd = "user.with space/slash\u{e9}";
        t.note("odd", lsetxattr(d.at("f"), odd, b"v", X::empty()));
        t.note("list", list(&d.at("f")));
    }),
    ("many", |d, t| {
        d.file("f", b"");
        let mut set = 0;
        while set < 40 {
            let name = format!("user.attribute-{set}");
            lsetxattr(d.at("f"), &name, &[b'v'; 20], X::empty()).unwrap();
            set += 1;
        }
        t.note("list", list(&d.at("f")));
    }),
    ("until it is full", |d, t| {
        d.file("f", b"");
        let full = (0..100).find_map(|i| {
            let name = format!("user.{i}");
            lsetxattr(d.at("f"), &name, &[b'v'; 500], X::empty())
                .err()
                .map(|e| (i, e))
        });
        t.note(
            "when and how",
            full.map(|(i, e)| (i, crate::trace::Seen::seen(&e))),
        );
    }),
    ("by handle, also of a removed file", |d, t| {
        let file = d.file("f", b"");
        for removed in [false, true] {
            if removed {
                d.unlink("f").unwrap();
            }
            t.note("set", fsetxattr(&file, "user.h", b"v", X::empty()));
            t.note("get", fgetxattr(&file, "user.h", &mut [0_u8; 8][..]));
            t.note("list", flistxattr(&file, &mut [0_u8; 64][..]));
            t.note("remove", fremovexattr(&file, "user.h"));
        }
        let dir = d.open("", O::RDONLY, 0).unwrap();
        t.note(
            "of a directory",
            fsetxattr(&dir, "user.h", b"v", X::empty()),
        );
        d.file("g", b"");
        let path = d.open("g", O::PATH, 0).unwrap();
        t.note(
            "by a path descriptor",
            fsetxattr(&path, "user.h", b"v", X::empty()),
        );
    }),
    ("missing files", |d, t| {
        t.note(
            "set",
            lsetxattr(d.at("missing"), "user.a", b"v", X::empty()),
        );
        t.note("get", get(&d.at("missing"), "user.a"));
        t.note("list", list(&d.at("missing")));
        t.note("remove", lremovexattr(d.at("missing"), "user.a"));
    }),
];
