//! Time stamps: set by hand to the nanosecond, and set by what is done.

use rustix::fs::{
    AtFlags, CWD, OFlags as O, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens, utimensat,
};
use rustix::io::Result;

use crate::dir::{CREATE, Dir, Meta, fstat, read_from, write_all};
use crate::kinds::{ALL_KINDS, make_all};
use crate::support::user::{ALICE, BOB, as_user};
use crate::support::wait::clock_tick;
use crate::table::Case;
use crate::trace::Trace;

const fn at(tv_sec: i64, tv_nsec: i64) -> Timespec {
    Timespec { tv_sec, tv_nsec }
}

const NOW: Timespec = at(0, UTIME_NOW);
const OMIT: Timespec = at(0, UTIME_OMIT);
const OLD: Timespec = at(1_000_000_000, 123_456_789);
const OTHER: Timespec = at(1_234_567_890, 1);

fn touch(d: &Dir, name: &str, last_access: Timespec, last_modification: Timespec) -> Result<()> {
    let times = Timestamps {
        last_access,
        last_modification,
    };
    utimensat(CWD, d.at(name), &times, AtFlags::SYMLINK_NOFOLLOW)
}

fn exact(meta: &Result<Meta>) -> String {
    match meta {
        Ok(m) => format!("{:?} {:?}", m.atime(), m.mtime()),
        Err(e) => crate::trace::Seen::seen(e),
    }
}

/// Times that were set by hand are compared as they are, `NOW` only as later
/// than what was.
fn combinations(d: &Dir, t: &mut Trace, name: &str) {
    for (label, atime, mtime) in [
        ("both", OLD, OTHER),
        ("atime only", OTHER, OMIT),
        ("mtime only", OMIT, OLD),
        ("neither", OMIT, OMIT),
    ] {
        t.note(format!("{label} of {name}"), touch(d, name, atime, mtime));
        t.note("times", exact(&d.stat(name)));
    }
    for (label, atime, mtime) in [
        ("now", NOW, NOW),
        ("atime now", NOW, OMIT),
        ("mtime now", OMIT, NOW),
        ("atime now, mtime set", NOW, OLD),
    ] {
        t.note("back", touch(d, name, OLD, OLD));
        let before = d.stat(name);
        clock_tick();
        t.note(format!("{label} of {name}"), touch(d, name, atime, mtime));
        let (Ok(before), Ok(after)) = (before, d.stat(name)) else {
            continue;
        };
        t.note("changed", after.times_changed(&before));
        t.note("equal to each other", after.atime() == after.mtime());
    }
}

/// Notes which times of some names an act changes.
fn changes(d: &Dir, t: &mut Trace, label: &str, names: &[&str], act: impl FnOnce()) {
    // An access time newer than the other two, so that relatime is out of play
    // unless the act changes them.
    let before: Vec<_> = names.iter().map(|n| d.stat(n)).collect();
    clock_tick();
    act();
    for (name, before) in names.iter().zip(before) {
        let text = match (before, d.stat(name)) {
            (Ok(before), Ok(after)) => after.times_changed(&before),
            (before, after) => format!("{} then {}", before.is_ok(), after.is_ok()),
        };
        t.note(format!("{label}: {name}"), text);
    }
}

pub const CASES: &[Case] = &[
    ("utimensat of every file type by root", |d, t| {
        make_all(d);
        for name in ALL_KINDS {
            combinations(d, t, name);
        }
    }),
    ("utimensat by the owner", |d, t| {
        d.file("f", b"");
        d.chown("f", Some(1000), Some(1000)).unwrap();
        as_user(ALICE, || combinations(d, t, "f"));
    }),
    ("utimensat by a stranger who may write", |d, t| {
        d.file("f", b"");
        d.chown("f", Some(1000), Some(1000)).unwrap();
        d.chmod("f", 0o666).unwrap();
        touch(d, "f", OLD, OTHER).unwrap();
        as_user(BOB, || combinations(d, t, "f"));
    }),
    ("utimensat by a stranger who may not", |d, t| {
        d.file("f", b"");
        d.chown("f", Some(1000), Some(1000)).unwrap();
        touch(d, "f", OLD, OTHER).unwrap();
        as_user(BOB, || combinations(d, t, "f"));
    }),
    ("unusual times", |d, t| {
        d.file("f", b"");
        for time in [
            at(0, 0),
            at(-1, 999_999_999),
            at(-2_147_483_648, 0),
            at(2_147_483_647, 999_999_999),
            at(2_147_483_648, 0),
            at(4_294_967_296, 5),
            at(15_032_385_535, 0),
            at(99_999_999_999, 0),
            at(1, 1_000_000_000),
            at(1, -1),
        ] {
            t.note(format!("{time:?}"), touch(d, "f", time, time));
            t.note("times", exact(&d.stat("f")));
        }
    }),
    ("through a symlink and by handle", |d, t| {
        make_all(d);
        let times = Timestamps {
            last_access: OLD,
            last_modification: OTHER,
        };
        for name in ["symlink", "dangling", "missing", "reg/x"] {
            t.note(name, utimensat(CWD, d.at(name), &times, AtFlags::empty()));
        }
        t.note("the target", exact(&d.stat("reg")));
        let file = d.open("reg", O::RDONLY, 0).unwrap();
        t.note("futimens", futimens(&file, &times));
        d.unlink("reg").unwrap();
        t.note("of a removed file", futimens(&file, &times));
        t.note("times", exact(&fstat(&file)));
    }),
    ("times survive a write to another file", |d, t| {
        d.file("f", b"");
        touch(d, "f", OLD, OTHER).unwrap();
        d.file("g", b"data");
        d.link("f", "h").unwrap();
        t.note("times", exact(&d.stat("f")));
        t.note("through the link", exact(&d.stat("h")));
    }),
    ("set by hand while it is open for writing", |d, t| {
        let file = d.file("f", b"");
        write_all(&file, b"data").unwrap();
        touch(d, "f", OLD, OTHER).unwrap();
        t.note("before close", exact(&d.stat("f")));
        drop(file);
        t.note("after close", exact(&d.stat("f")));
    }),
    ("what changes a file's times", |d, t| {
        let file = d.file("f", b"content");
        let names = &["f", ""];
        changes(d, t, "write", names, || write_all(&file, b"more").unwrap());
        changes(d, t, "write of nothing", names, || {
            write_all(&file, b"").unwrap()
        });
        changes(d, t, "read", names, || {
            read_from(&file, 0, 10).unwrap();
        });
        changes(d, t, "truncate", names, || d.truncate("f", 3).unwrap());
        changes(d, t, "truncate to the same", names, || {
            d.truncate("f", 3).unwrap()
        });
        changes(d, t, "ftruncate to the same", names, || {
            rustix::fs::ftruncate(&file, 3).unwrap();
        });
        changes(d, t, "open with O_TRUNC", names, || {
            d.open("f", O::WRONLY | O::TRUNC, 0).unwrap();
        });
        changes(d, t, "open with O_TRUNC when empty", names, || {
            d.open("f", O::WRONLY | O::TRUNC, 0).unwrap();
        });
        changes(d, t, "open", names, || {
            d.open("f", O::RDONLY, 0).unwrap();
        });
        changes(d, t, "chmod", names, || d.chmod("f", 0o600).unwrap());
        changes(d, t, "link", names, || d.link("f", "g").unwrap());
        changes(d, t, "unlink of a link", names, || d.unlink("g").unwrap());
        changes(d, t, "rename", names, || d.rename("f", "g").unwrap());
        let flags = rustix::fs::XattrFlags::empty();
        changes(d, t, "setxattr", &["g", ""], || {
            rustix::fs::setxattr(d.at("g"), "user.a", b"1", flags).unwrap();
        });
        changes(d, t, "stat", &["g", ""], || {
            d.stat("g").unwrap();
        });
    }),
    ("what changes a directory's times", |d, t| {
        d.subdir("dir", 0o755);
        d.file("outside", b"");
        let names = &["dir", ""];
        changes(d, t, "create", names, || {
            d.open("dir/f", CREATE, 0o644).unwrap();
        });
        changes(d, t, "open existing", names, || {
            d.open("dir/f", CREATE, 0o644).unwrap();
        });
        changes(d, t, "write inside", names, || {
            d.file("dir/f", b"data");
        });
        changes(d, t, "mkdir", names, || d.mkdir("dir/sub", 0o755).unwrap());
        changes(d, t, "rmdir", names, || d.rmdir("dir/sub").unwrap());
        changes(d, t, "symlink", names, || {
            d.symlink("x", "dir/link").unwrap()
        });
        changes(d, t, "link", names, || {
            d.link("outside", "dir/hard").unwrap()
        });
        changes(d, t, "rename inside", names, || {
            d.rename("dir/hard", "dir/h").unwrap()
        });
        changes(d, t, "rename out", names, || {
            d.rename("dir/h", "h").unwrap()
        });
        changes(d, t, "unlink", names, || d.unlink("dir/f").unwrap());
        changes(d, t, "failed unlink", names, || {
            d.unlink("dir/missing").unwrap_err();
        });
        changes(d, t, "failed mkdir", names, || {
            d.mkdir("dir/link", 0o755).unwrap_err();
        });
        changes(d, t, "list", names, || {
            d.names("dir").unwrap();
        });
        changes(d, t, "list again", names, || {
            d.names("dir").unwrap();
        });
    }),
    ("relative access times", |d, t| {
        d.file("f", b"content");
        let read = || {
            d.content("f").unwrap();
        };
        touch(d, "f", OLD, OTHER).unwrap();
        changes(d, t, "read when older than the content", &["f"], read);
        changes(d, t, "read again", &["f"], read);
        d.symlink("f", "link").unwrap();
        touch(d, "link", OLD, OTHER).unwrap();
        changes(d, t, "readlink", &["link"], || {
            d.readlink("link").unwrap();
        });
    }),
    ("a new file's times are the same three", |d, t| {
        clock_tick();
        let before = d.stat("").unwrap();
        clock_tick();
        d.open("f", CREATE, 0o644).unwrap();
        let file = d.stat("f").unwrap();
        t.note(
            "equal",
            file.atime() == file.mtime() && file.mtime() == file.ctime(),
        );
        t.note("later", file.mtime() > before.mtime());
        t.note(
            "the directory's too",
            d.stat("").unwrap().mtime() == file.mtime(),
        );
    }),
    ("a mapped write", |d, t| {
        use crate::support::map::{Map, Sharing};
        let file = d.file("f", &[0; 4096]);
        let map = Map::new(&file, 4096, Sharing::Shared, true).unwrap();
        changes(d, t, "write and sync", &["f"], || {
            map.write(0, b"x");
            map.sync().unwrap();
        });
    }),
];
