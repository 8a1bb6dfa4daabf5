//! What a new file gets: owner, group and mode, by umask, set-group-id
//! directories and default ACLs.

use rustix::fs::{FileType, Mode, OFlags as O};
use rustix::process::umask;

use crate::acl::{ACCESS, DEFAULT, acl, get_acl};
use crate::dir::{CREATE, Dir};
use crate::support::user::{ALICE, ALICE_IN_2000, User, as_user};
use crate::table::Case;
use crate::trace::Trace;

/// Makes one of everything in a directory and notes what it has got.
fn make_everything(d: &Dir, t: &mut Trace, dir: &str, mode: u32) {
    let name = |what: &str| format!("{dir}/{what}-{mode:o}");
    t.note("create", d.open(name("reg"), CREATE | O::EXCL, mode));
    t.note("mkdir", d.mkdir(name("dir"), mode));
    t.note("mkfifo", d.mknod(name("fifo"), FileType::Fifo, mode, 0));
    t.note(
        "mknod",
        d.mknod(name("node"), FileType::RegularFile, mode, 0),
    );
    t.note("socket", d.mknod(name("sock"), FileType::Socket, mode, 0));
    t.note("symlink", d.symlink("target", name("link")));
    for what in ["reg", "dir", "fifo", "node", "sock", "link"] {
        t.note(format!("{what} {mode:04o} in {dir}"), d.stat(name(what)));
        if what != "link" {
            t.note("its ACL", get_acl(&d.at(name(what)), ACCESS));
            t.note("its default ACL", get_acl(&d.at(name(what)), DEFAULT));
        }
    }
}

fn as_each_user(d: &Dir, t: &mut Trace, dir: &str) {
    make_everything(d, t, dir, 0o644);
    for (user, mode) in [(ALICE, 0o755), (ALICE_IN_2000, 0o666)] {
        as_user(user, || make_everything(d, t, dir, mode));
    }
}

fn setgid_dir(d: &Dir, t: &mut Trace, owner: User, mode: u32) {
    d.subdir("shared", 0o755);
    d.chown("shared", Some(owner.uid), Some(2000)).unwrap();
    d.chmod("shared", mode).unwrap();
    t.note("the directory", d.stat("shared"));
    as_each_user(d, t, "shared");
    for mode in [0o2755, 0o2644, 0o6755, 0o2775] {
        make_everything(d, t, "shared", mode);
    }
    for user in [ALICE, ALICE_IN_2000] {
        as_user(user, || {
            for mode in [0o2754, 0o2645, 0o6757, 0o2770] {
                let mode = mode + u32::from(user.groups.is_empty());
                make_everything(d, t, "shared", mode);
            }
        });
    }
}

pub const CASES: &[Case] = &[
    ("umasks", |d, t| {
        for mask in [0, 0o022, 0o027, 0o077, 0o777] {
            umask(Mode::from_raw_mode(mask));
            let dir = format!("mask-{mask:o}");
            d.subdir(&dir, 0o755);
            for mode in [0o777, 0o666, 0o7777] {
                make_everything(d, t, &dir, mode);
            }
        }
    }),
    ("as a user", |d, t| {
        d.subdir("open", 0o777);
        as_each_user(d, t, "open");
    }),
    ("a user's umask", |d, t| {
        d.subdir("open", 0o777);
        as_user(ALICE, || {
            umask(Mode::from_raw_mode(0o027));
            make_everything(d, t, "open", 0o777);
        });
    }),
    ("a sticky directory", |d, t| {
        d.subdir("tmp", 0o1777);
        as_each_user(d, t, "tmp");
    }),
    ("a set-group-id directory of root", |d, t| {
        setgid_dir(
            d,
            t,
            User {
                uid: 0,
                gid: 0,
                groups: &[],
            },
            0o2777,
        );
    }),
    ("a set-group-id directory of the user", |d, t| {
        setgid_dir(d, t, ALICE, 0o2775);
    }),
    ("set-group-id directories inherit downwards", |d, t| {
        d.subdir("top", 0o777);
        d.chown("top", None, Some(2000)).unwrap();
        d.chmod("top", 0o2777).unwrap();
        as_user(ALICE, || {
            t.note("mkdir", d.mkdir("top/a", 0o755));
            t.note("mkdir", d.mkdir("top/a/b", 0o700));
            t.note("create", d.open("top/a/b/f", CREATE, 0o644));
            t.note("chmod keeps it", d.chmod("top/a", 0o755));
        });
        for name in ["top", "top/a", "top/a/b", "top/a/b/f"] {
            t.note(name, d.stat(name));
        }
    }),
    ("a default ACL", |d, t| {
        d.subdir("dir", 0o777);
        acl("u::rwx,u:1001:rw,g::r-x,m::rwx,o::---")
            .set(&d.at("dir"), DEFAULT)
            .unwrap();
        as_each_user(d, t, "dir");
        make_everything(d, t, "dir", 0o600);
        make_everything(d, t, "dir", 0o777);
    }),
    ("a default ACL and an umask that must not matter", |d, t| {
        umask(Mode::from_raw_mode(0o077));
        d.subdir("dir", 0o777);
        acl("u::rwx,g::rwx,g:2000:r--,m::r-x,o::rwx")
            .set(&d.at("dir"), DEFAULT)
            .unwrap();
        make_everything(d, t, "dir", 0o777);
        make_everything(d, t, "dir", 0o640);
        as_user(ALICE, || {
            umask(Mode::from_raw_mode(0o077));
            make_everything(d, t, "dir", 0o776);
        });
    }),
    ("a minimal default ACL", |d, t| {
        d.subdir("dir", 0o777);
        acl("u::rw-,g::r--,o::---")
            .set(&d.at("dir"), DEFAULT)
            .unwrap();
        make_everything(d, t, "dir", 0o777);
        make_everything(d, t, "dir", 0o755);
    }),
    ("a default ACL in a set-group-id directory", |d, t| {
        d.subdir("dir", 0o777);
        d.chown("dir", None, Some(2000)).unwrap();
        d.chmod("dir", 0o2777).unwrap();
        acl("u::rwx,u:1001:rwx,g::r-x,m::rwx,o::r--")
            .set(&d.at("dir"), DEFAULT)
            .unwrap();
        as_each_user(d, t, "dir");
        as_user(ALICE, || make_everything(d, t, "dir", 0o2751));
    }),
    ("a default ACL goes on downwards", |d, t| {
        d.subdir("dir", 0o755);
        acl("u::rwx,u:1000:rwx,g::---,m::rwx,o::---")
            .set(&d.at("dir"), DEFAULT)
            .unwrap();
        d.mkdir("dir/a", 0o777).unwrap();
        d.mkdir("dir/a/b", 0o700).unwrap();
        d.open("dir/a/b/f", CREATE, 0o666).unwrap();
        for name in ["dir/a", "dir/a/b", "dir/a/b/f"] {
            t.note(name, d.stat(name));
            t.note("access", get_acl(&d.at(name), ACCESS));
            t.note("default", get_acl(&d.at(name), DEFAULT));
        }
        as_user(ALICE, || {
            t.note(
                "the named user may write",
                d.open("dir/a/b/f", O::WRONLY, 0),
            );
            t.note("and make files", d.open("dir/a/new", CREATE, 0o600));
        });
    }),
];
