//! `chmod` and `chown` by owner, stranger and root.

use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid, chmodat, chownat, fchmod, fchown};

use crate::dir::{Dir, fstat};
use crate::kinds::{ALL_KINDS, make_all};
use crate::support::user::{ALICE, ALICE_IN_2000, BOB, as_user};
use crate::table::Case;
use crate::trace::Trace;

fn of_alice(d: &Dir) {
    make_all(d);
    for name in ALL_KINDS {
        d.chown(name, Some(1000), Some(1000)).unwrap();
    }
}

fn chmod_all(d: &Dir, t: &mut Trace) {
    for mode in [0, 0o644, 0o1777, 0o2755, 0o4755, 0o6711, 0o7777, 0o2640] {
        for name in ["reg", "dir", "fifo", "char"] {
            t.note(format!("chmod {name} {mode:o}"), d.chmod(name, mode));
            t.note("stat", d.stat(name));
        }
    }
}

const OWNERS: &[(Option<u32>, Option<u32>)] = &[
    (None, None),
    (Some(1000), None),
    (None, Some(1000)),
    (None, Some(2000)),
    (None, Some(3000)),
    (Some(1001), None),
    (Some(0), Some(0)),
    (Some(1000), Some(1000)),
];

fn chown_all(d: &Dir, t: &mut Trace) {
    for &(uid, gid) in OWNERS {
        for name in ["reg", "dir", "symlink"] {
            t.note(
                format!("chown {name} {uid:?} {gid:?}"),
                d.chown(name, uid, gid),
            );
            t.note("stat", d.stat(name));
        }
    }
}

pub const CASES: &[Case] = &[
    ("chmod by root", |d, t| {
        make_all(d);
        chmod_all(d, t);
    }),
    ("chmod by the owner", |d, t| {
        of_alice(d);
        as_user(ALICE, || chmod_all(d, t));
    }),
    ("chmod by a stranger", |d, t| {
        of_alice(d);
        as_user(BOB, || chmod_all(d, t));
    }),
    ("chmod by an owner outside the group", |d, t| {
        make_all(d);
        for name in ["reg", "dir"] {
            d.chown(name, Some(1000), Some(2000)).unwrap();
        }
        as_user(ALICE, || chmod_all(d, t));
        as_user(ALICE_IN_2000, || chmod_all(d, t));
    }),
    ("chmod of missing names and symlinks", |d, t| {
        make_all(d);
        for name in ["missing", "reg/x", "dangling", "symlink", ""] {
            t.note(name, d.chmod(name, 0o600));
        }
        t.note("the target", d.stat("reg"));
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let mode = Mode::from_raw_mode(0o600);
        t.note("nofollow", chmodat(CWD, d.at("symlink"), mode, nofollow));
    }),
    ("fchmod, also of a removed file", |d, t| {
        let file = d.file("f", b"");
        t.note("fchmod", fchmod(&file, Mode::from_raw_mode(0o604)));
        t.note("stat", d.stat("f"));
        d.unlink("f").unwrap();
        t.note("removed", fchmod(&file, Mode::from_raw_mode(0o640)));
        t.note("fstat", fstat(&file));
    }),
    ("chown by root", |d, t| {
        make_all(d);
        chown_all(d, t);
        for name in ALL_KINDS {
            t.note(
                name,
                d.chown(name, Some(4_000_000_000), Some(4_000_000_001)),
            );
            t.note("stat", d.stat(name));
        }
    }),
    ("chown by the owner", |d, t| {
        of_alice(d);
        as_user(ALICE, || chown_all(d, t));
        as_user(ALICE_IN_2000, || chown_all(d, t));
    }),
    ("chown by a stranger", |d, t| {
        of_alice(d);
        as_user(BOB, || chown_all(d, t));
    }),
    ("chown clears set-id bits", |d, t| {
        for mode in [0o4755, 0o2755, 0o6755, 0o2745, 0o6777, 0o6666, 0o1755] {
            for (who, uid, gid) in [
                ("owner", Some(1001), None),
                ("group", None, Some(2000)),
                ("both", Some(1001), Some(2000)),
            ] {
                d.file("f", b"x");
                d.chown("f", Some(1000), Some(1000)).unwrap();
                d.chmod("f", mode).unwrap();
                t.note(format!("{mode:o} {who} by root"), d.chown("f", uid, gid));
                t.note("stat", d.stat("f"));
                d.chown("f", Some(1000), Some(1000)).unwrap();
                d.chmod("f", mode).unwrap();
                as_user(ALICE_IN_2000, || {
                    t.note(
                        format!("{mode:o} {who} by the owner"),
                        d.chown("f", uid, gid),
                    );
                });
                t.note("stat", d.stat("f"));
            }
        }
    }),
    ("chown that changes nothing", |d, t| {
        d.file("f", b"x");
        d.chown("f", Some(1000), Some(1000)).unwrap();
        d.chmod("f", 0o6755).unwrap();
        t.note("chown", d.chown("f", None, None));
        t.note("by root", d.stat("f"));
        d.chmod("f", 0o6755).unwrap();
        as_user(ALICE, || t.note("chown", d.chown("f", None, None)));
        t.note("by the owner", d.stat("f"));
    }),
    ("chown keeps set-id bits of a directory", |d, t| {
        d.subdir("dir", 0o755);
        for mode in [0o6755, 0o2755, 0o1777] {
            d.chmod("dir", mode).unwrap();
            t.note("by root", d.chown("dir", Some(1000), Some(1000)));
            t.note("stat", d.stat("dir"));
            as_user(ALICE_IN_2000, || {
                t.note("by the owner", d.chown("dir", None, Some(2000)));
            });
            t.note("stat", d.stat("dir"));
        }
    }),
    ("fchown, also of a removed file", |d, t| {
        let file = d.file("f", b"");
        let ids = (Some(Uid::from_raw(1000)), Some(Gid::from_raw(2000)));
        t.note("fchown", fchown(&file, ids.0, ids.1));
        t.note("stat", d.stat("f"));
        d.unlink("f").unwrap();
        t.note("removed", fchown(&file, Some(Uid::from_raw(1001)), None));
        t.note("fstat", fstat(&file));
    }),
    ("chown of missing names, and through a symlink", |d, t| {
        make_all(d);
        for name in ["missing", "reg/x", "missing/x"] {
            t.note(name, d.chown(name, Some(1000), None));
        }
        let uid = Some(Uid::from_raw(1000));
        for name in ["symlink", "dangling", "dirlink"] {
            let result = chownat(CWD, d.at(name), uid, None, AtFlags::empty());
            t.note(format!("follow {name}"), result);
        }
        for name in ALL_KINDS {
            t.note(*name, d.stat(name));
        }
    }),
    ("chmod and chown change the change time only", |d, t| {
        d.file("f", b"");
        let before = d.stat("f").unwrap();
        crate::support::wait::clock_tick();
        d.chmod("f", 0o600).unwrap();
        let after = d.stat("f").unwrap();
        t.note("chmod", after.times_changed(&before));
        crate::support::wait::clock_tick();
        d.chown("f", Some(1000), None).unwrap();
        t.note("chown", d.stat("f").unwrap().times_changed(&after));
    }),
];
