//! Flags of inodes, as `lsattr` shows and `chattr` sets them.

use std::process::Command;

use rustix::fs::{IFlags, OFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Result;

use crate::dir::Dir;
use crate::kinds::{ALL_KINDS, make_all};
use crate::support::user::{ALICE, BOB, as_user, command_as};
use crate::table::Case;
use crate::trace::Trace;

/// What may be set in a volume, and `PROTECTS` may not by everybody.
const SETTABLE: &[IFlags] = &[
    IFlags::NODUMP,
    IFlags::NOATIME,
    IFlags::SYNC,
    IFlags::DIRSYNC,
];
const PROTECTS: &[IFlags] = &[IFlags::IMMUTABLE, IFlags::APPEND];

fn get(d: &Dir, name: &str) -> Result<IFlags> {
    ioctl_getflags(d.open(name, OFlags::RDONLY | OFlags::NONBLOCK, 0o644)?)
}

fn change(d: &Dir, name: &str, set: IFlags, clear: IFlags) -> Result<()> {
    let file = d.open(name, OFlags::RDONLY | OFlags::NONBLOCK, 0o644)?;
    let flags = ioctl_getflags(&file)?;
    ioctl_setflags(&file, (flags | set) - clear)
}

fn set(d: &Dir, name: &str, flag: IFlags) -> Result<()> {
    change(d, name, flag, IFlags::empty())
}

fn clear(d: &Dir, name: &str, flag: IFlags) -> Result<()> {
    change(d, name, IFlags::empty(), flag)
}

/// The flags in words; which the store's file system sets by itself is its affair.
fn show(d: &Dir, t: &mut Trace, name: &str) {
    let of = |flags: IFlags| {
        let known = SETTABLE.iter().chain(PROTECTS);
        let all = known.fold(IFlags::empty(), |all, &flag| all | flag);
        format!("{:x}", (flags & all).bits())
    };
    t.note(format!("flags of {name}"), get(d, name).map(of));
}

fn set_each(d: &Dir, t: &mut Trace, flags: &[IFlags]) {
    for &flag in flags {
        for name in ["reg", "dir"] {
            t.note(
                format!("set {:x} of {name}", flag.bits()),
                set(d, name, flag),
            );
            show(d, t, name);
            t.note("clear it", clear(d, name, flag));
            show(d, t, name);
        }
    }
}

/// What a file that may not be changed lets be done.
fn use_file(d: &Dir, t: &mut Trace) {
    for (how, flags) in [
        ("read", OFlags::RDONLY),
        ("write", OFlags::WRONLY),
        ("read and write", OFlags::RDWR),
        ("append", OFlags::WRONLY | OFlags::APPEND),
        ("read and append", OFlags::RDWR | OFlags::APPEND),
        ("empty", OFlags::WRONLY | OFlags::TRUNC),
        (
            "append and empty",
            OFlags::WRONLY | OFlags::APPEND | OFlags::TRUNC,
        ),
    ] {
        if let Some(file) = t.get(format!("open to {how}"), d.open("f", flags, 0o644)) {
            t.note("write", rustix::io::write(&file, b"more"));
            t.note("set the size", rustix::fs::ftruncate(&file, 1));
        }
        t.note("contents", d.content("f"));
    }
    t.note("link", d.link("f", "l"));
    t.note("rename", d.rename("f", "g"));
    t.note("unlink", d.unlink("f"));
    t.note("chmod", d.chmod("f", 0o600));
    t.note("chown", d.chown("f", Some(1001), None));
    t.note("truncate", d.truncate("f", 0));
    t.note("stat", d.stat("f"));
}

/// What a directory that may not be changed lets be done.
fn use_dir(d: &Dir, t: &mut Trace) {
    t.note(
        "make",
        d.open("dir/new", OFlags::CREATE | OFlags::WRONLY, 0o644),
    );
    t.note("make a directory", d.mkdir("dir/newdir", 0o755));
    t.note("unlink", d.unlink("dir/f"));
    t.note("rename in it", d.rename("dir/f", "dir/g"));
    t.note("rename into it", d.rename("outside", "dir/inside"));
    t.note("rmdir in it", d.rmdir("dir/sub"));
    t.note(
        "write to a file in it",
        d.open("dir/f", OFlags::WRONLY, 0o644),
    );
    t.note("rename it", d.rename("dir", "other"));
    t.note("remove it", d.rmdir("dir"));
    t.note("chmod", d.chmod("dir", 0o700));
}

/// Runs `act` while `name` has `flag`.
fn with(d: &Dir, t: &mut Trace, name: &str, flag: IFlags, act: fn(&Dir, &mut Trace)) {
    t.note(format!("protect {name}"), set(d, name, flag));
    act(d, t);
    t.note("let it go", clear(d, name, flag));
}

fn protected_file(d: &Dir, t: &mut Trace, flag: IFlags) {
    d.file("f", b"text");
    with(d, t, "f", flag, use_file);
    t.note("unlink", d.unlink("f"));
}

fn protected_dir(d: &Dir, t: &mut Trace, flag: IFlags) {
    d.subdir("dir", 0o755);
    d.subdir("dir/sub", 0o755);
    d.file("dir/f", b"text");
    d.file("outside", b"");
    with(d, t, "dir", flag, use_dir);
    t.note("rmdir in it", d.rmdir("dir/sub"));
}

pub const CASES: &[Case] = &[
    ("flags of every type", |d, t| {
        make_all(d);
        for name in ALL_KINDS {
            if !["fifo", "socket", "char", "block"].contains(name) {
                show(d, t, name);
            }
        }
    }),
    ("flags by root", |d, t| {
        make_all(d);
        set_each(d, t, SETTABLE);
        set_each(d, t, PROTECTS);
    }),
    ("flags by the owner", |d, t| {
        make_all(d);
        for name in ["reg", "dir"] {
            d.chown(name, Some(1000), Some(1000)).unwrap();
        }
        as_user(ALICE, || {
            set_each(d, t, SETTABLE);
            set_each(d, t, PROTECTS);
        });
    }),
    ("flags by a stranger", |d, t| {
        make_all(d);
        as_user(BOB, || set_each(d, t, &[IFlags::NODUMP, IFlags::IMMUTABLE]));
    }),
    ("flags and the change time", |d, t| {
        d.file("f", b"");
        let before = d.stat("f").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        t.note("set", set(d, "f", IFlags::NODUMP));
        t.note("changed", d.stat("f").unwrap().times_changed(&before));
    }),
    ("flags that change how contents are kept", |d, t| {
        d.file("f", b"");
        for flag in [IFlags::COMPRESSED, IFlags::NOCOW, IFlags::JOURNALING] {
            t.note(format!("set {:x}", flag.bits()), set(d, "f", flag));
            t.note("clear it", clear(d, "f", flag).is_ok());
        }
    }),
    ("an immutable file", |d, t| {
        protected_file(d, t, IFlags::IMMUTABLE)
    }),
    ("a file to append to", |d, t| {
        protected_file(d, t, IFlags::APPEND)
    }),
    ("an immutable directory", |d, t| {
        protected_dir(d, t, IFlags::IMMUTABLE)
    }),
    ("a directory to add to", |d, t| {
        protected_dir(d, t, IFlags::APPEND)
    }),
    ("a file that becomes immutable while it is open", |d, t| {
        let file = d.file("f", b"");
        t.note("write", rustix::io::write(&file, b"text"));
        with(d, t, "f", IFlags::IMMUTABLE, |d, t| {
            t.note("open", d.open("f", OFlags::RDWR, 0o644));
            t.note("contents", d.content("f"));
        });
        t.note("write", rustix::io::write(&file, b"more"));
        t.note("sync", rustix::fs::fsync(&file));
        t.note("contents", d.content("f"));
    }),
    ("chattr and lsattr", |d, t| {
        d.file("f", b"");
        d.chown("f", Some(1000), Some(1000)).unwrap();
        for change in ["+d", "+i", "+A", "-d"] {
            let mut chattr = command_as(ALICE, "chattr");
            let done = chattr.args([change, "f"]).current_dir(d.path()).output();
            t.note(change, done.unwrap().status.success());
        }
        let listed = Command::new("lsattr")
            .arg("-p")
            .arg(d.at("f"))
            .output()
            .unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        let flags = text.split("/").next().unwrap_or_default().replace('e', "-");
        t.note("lsattr -p", flags);
    }),
];
