//! Set-user-id and set-group-id bits are lost when a file's content changes.

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, OFlags as O, SeekFrom, StatxFlags, fallocate, ftruncate, seek,
};

use crate::dir::{Dir, fstat};
use crate::support::map::{Map, Sharing};
use crate::support::user::{ALICE, BOB, User, as_user};
use crate::table::Case;
use crate::trace::Trace;

const ROOT: User = User {
    uid: 0,
    gid: 0,
    groups: &[],
};

/// Bits with and without the group's right to execute, which decides whether
/// set-group-id means anything.
const MODES: &[u32] = &[0o4777, 0o2777, 0o6777, 0o2767, 0o6766, 0o4666, 0o1777];

/// Does something to a file of Alice with every mode, as root, as Alice and as
/// Bob, and notes the mode that is left.
fn after(d: &Dir, t: &mut Trace, act: impl Fn(&Dir) -> String + Sync) {
    after_by(&[ROOT, ALICE, BOB], d, t, act);
}

fn after_by(users: &[User], d: &Dir, t: &mut Trace, act: impl Fn(&Dir) -> String + Sync) {
    for &user in users {
        for &mode in MODES {
            d.file("f", b"some content");
            d.chown("f", Some(1000), Some(1000)).unwrap();
            d.chmod("f", mode).unwrap();
            let label = format!("{mode:o} by {}", user.uid);
            t.note(&label, as_user_or_root(user, || act(d)));
            // Asked for alone first: what execve(2) goes by, and not refreshed
            // along with times that a write has made old.
            t.note(format!("{label}, its mode"), mode_alone(d));
            t.note(label, d.stat("f"));
            d.unlink("f").unwrap();
        }
    }
}

fn mode_alone(d: &Dir) -> String {
    rustix::fs::statx(CWD, d.at("f"), AtFlags::empty(), StatxFlags::MODE)
        .map_or_else(text, |it| format!("{:o}", it.stx_mode))
}

/// Root stays in the calling thread and keeps its capabilities.
fn as_user_or_root<T: Send>(user: User, act: impl FnOnce() -> T + Send) -> T {
    if user.uid == 0 {
        act()
    } else {
        as_user(user, act)
    }
}

fn text(result: impl crate::trace::Seen) -> String {
    result.seen()
}

pub const CASES: &[Case] = &[
    ("write", |d, t| {
        after(d, t, |d| {
            let file = d.open("f", O::WRONLY, 0).unwrap();
            text(rustix::io::write(file, b"x"))
        });
    }),
    ("write past the end", |d, t| {
        after(d, t, |d| {
            let file = d.open("f", O::WRONLY, 0).unwrap();
            text(rustix::io::pwrite(file, b"x", 100_000))
        });
    }),
    ("write of nothing", |d, t| {
        after(d, t, |d| {
            let file = d.open("f", O::WRONLY, 0).unwrap();
            text(rustix::io::write(file, b""))
        });
    }),
    ("write with append", |d, t| {
        after(d, t, |d| {
            let file = d.open("f", O::WRONLY | O::APPEND, 0).unwrap();
            text(rustix::io::write(file, b"x"))
        });
    }),
    ("two writes", |d, t| {
        after(d, t, |d| {
            let file = d.open("f", O::RDWR, 0).unwrap();
            let first = rustix::io::write(&file, b"x");
            let between = fstat(&file);
            text((
                text(first),
                text((between, text(rustix::io::write(&file, b"y")))),
            ))
        });
    }),
    ("bits set while it is open", |d, t| {
        after_by(&[ALICE, BOB], d, t, |d| {
            let file = d.open("f", O::RDWR, 0).unwrap();
            rustix::io::write(&file, b"x").unwrap();
            let set = d.chmod("f", 0o6777);
            text((text(set), text(rustix::io::write(&file, b"y"))))
        });
    }),
    ("bits set by root while it is open", |d, t| {
        d.file("f", b"some content");
        d.chown("f", Some(1000), Some(1000)).unwrap();
        let file = d.open("f", O::RDWR, 0).unwrap();
        t.note("write", rustix::io::write(&file, b"x"));
        t.note("chmod", d.chmod("f", 0o6777));
        t.note("set", d.stat("f"));
        t.note("write", rustix::io::write(&file, b"y"));
        t.note("left", d.stat("f"));
    }),
    ("truncate by path", |d, t| {
        after(d, t, |d| text(d.truncate("f", 3)));
    }),
    ("truncate to the same size", |d, t| {
        after(d, t, |d| text(d.truncate("f", 12)));
    }),
    ("truncate by handle", |d, t| {
        after(d, t, |d| {
            text(ftruncate(d.open("f", O::WRONLY, 0).unwrap(), 100))
        });
    }),
    ("open with O_TRUNC", |d, t| {
        after(d, t, |d| text(d.open("f", O::WRONLY | O::TRUNC, 0)));
    }),
    ("fallocate", |d, t| {
        after(d, t, |d| {
            let file = d.open("f", O::WRONLY, 0).unwrap();
            text(fallocate(file, FallocateFlags::empty(), 0, 10_000))
        });
    }),
    ("punch a hole", |d, t| {
        after(d, t, |d| {
            let file = d.open("f", O::WRONLY, 0).unwrap();
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            text(fallocate(file, flags, 0, 4096))
        });
    }),
    ("copy_file_range", |d, t| {
        d.file("source", b"from elsewhere");
        after(d, t, |d| {
            let source = d.open("source", O::RDONLY, 0).unwrap();
            let file = d.open("f", O::WRONLY, 0).unwrap();
            text(rustix::fs::copy_file_range(source, None, file, None, 5))
        });
    }),
    ("write through a shared mapping", |d, t| {
        after(d, t, |d| {
            let file = d.open("f", O::RDWR, 0).unwrap();
            let map = Map::new(&file, 12, Sharing::Shared, true).unwrap();
            map.write(0, b"X");
            text(map.sync())
        });
    }),
    ("nothing that only reads", |d, t| {
        after(d, t, |d| {
            let file = d.open("f", O::RDWR, 0).unwrap();
            seek(&file, SeekFrom::Start(3)).unwrap();
            let sync = rustix::fs::fsync(&file);
            text((text(sync), text(rustix::io::read(file, &mut [0; 4]))))
        });
    }),
    ("link and rename keep them", |d, t| {
        for user in [ROOT, ALICE] {
            d.file("f", b"");
            d.chmod("", 0o777).unwrap();
            d.chown("f", Some(1000), Some(1000)).unwrap();
            d.chmod("f", 0o6777).unwrap();
            as_user_or_root(user, || {
                t.note("link", d.link("f", "g"));
                t.note("rename", d.rename("g", "h"));
            });
            t.note("stat", d.stat("h"));
            d.unlink("h").unwrap();
            d.unlink("f").unwrap();
        }
    }),
    ("a file capability goes with a write", |d, t| {
        // vfs_cap_data version 2 of linux/capability.h, with no capability.
        let value = b"\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let name = "security.capability";
        for user in [ROOT, ALICE] {
            d.file("f", b"program");
            d.chown("f", Some(1000), Some(1000)).unwrap();
            let flags = rustix::fs::XattrFlags::empty();
            t.note("set", rustix::fs::setxattr(d.at("f"), name, value, flags));
            as_user_or_root(user, || {
                let file = d.open("f", O::WRONLY, 0).unwrap();
                t.note("write", rustix::io::write(file, b"x"));
            });
            let got = rustix::fs::getxattr(d.at("f"), name, &mut [0_u8; 64][..]);
            t.note("left", got);
            d.unlink("f").unwrap();
        }
    }),
    (
        "set-group-id of a directory stays when files are made in it",
        |d, t| {
            d.subdir("dir", 0o777);
            d.chmod("dir", 0o2777).unwrap();
            as_user(ALICE, || {
                t.note("create", d.open("dir/f", crate::dir::CREATE, 0o644));
                let source = d.at("dir/f");
                t.note(
                    "rename",
                    rustix::fs::renameat(CWD, source, CWD, d.at("dir/g")),
                );
            });
            t.note("the directory", d.stat("dir"));
        },
    ),
];
