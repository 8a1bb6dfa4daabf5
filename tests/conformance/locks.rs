//! Advisory locks of all three kinds.
//!
//! A record lock belongs to a table of open files, so that a thread with a
//! table of its own stands for another process.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{FlockOperation as L, OFlags as O, flock};

use crate::dir::Dir;
use crate::table::Case;
use crate::trace::Trace;

fn range(kind: i32, start: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}

fn record(file: impl AsFd, kind: i32, start: i64, len: i64) -> nix::Result<i32> {
    fcntl(file, FcntlArg::F_SETLK(&range(kind, start, len)))
}

fn open_file(file: impl AsFd, kind: i32, start: i64, len: i64) -> nix::Result<i32> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(kind, start, len)))
}

/// What `F_GETLK` finds in the way of a lock.
fn in_the_way(file: impl AsFd, kind: i32, start: i64, len: i64) -> String {
    let mut lock = range(kind, start, len);
    match fcntl(file, FcntlArg::F_GETLK(&mut lock)) {
        Ok(_) if i32::from(lock.l_type) == libc::F_UNLCK => "nothing".into(),
        Ok(_) => format!(
            "type {} at {} for {}",
            lock.l_type, lock.l_start, lock.l_len
        ),
        Err(e) => crate::trace::Seen::seen(&e),
    }
}

/// Runs `act` as another process would run it, as far as record locks go.
fn elsewhere<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES).unwrap();
                act()
            })
            .join()
            .unwrap()
    })
}

fn two(d: &Dir) -> (OwnedFd, OwnedFd) {
    d.file("f", &[0; 1000]);
    let open = || d.open("f", O::RDWR, 0).unwrap();
    (open(), open())
}

/// A lock that waits is granted when the other is given up, and not before.
fn waits(t: &mut Trace, lock: impl FnOnce() -> bool + Send, release: impl FnOnce()) {
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || tell.send(lock()).unwrap());
        let early = told.recv_timeout(std::time::Duration::from_millis(50));
        t.note("early", early.is_ok());
        release();
        let late = told.recv_timeout(std::time::Duration::from_secs(20));
        t.note("granted", late.ok());
    });
}

pub const CASES: &[Case] = &[
    ("flock excludes between handles", |d, t| {
        let (a, b) = two(d);
        t.note("exclusive", flock(&a, L::NonBlockingLockExclusive));
        t.note("exclusive again", flock(&a, L::NonBlockingLockExclusive));
        t.note("other exclusive", flock(&b, L::NonBlockingLockExclusive));
        t.note("other shared", flock(&b, L::NonBlockingLockShared));
        t.note("down to shared", flock(&a, L::NonBlockingLockShared));
        t.note("other shared", flock(&b, L::NonBlockingLockShared));
        t.note("up to exclusive", flock(&a, L::NonBlockingLockExclusive));
        t.note("unlock", flock(&b, L::Unlock));
        t.note("up to exclusive", flock(&a, L::NonBlockingLockExclusive));
        drop(a);
        t.note("closed", flock(&b, L::NonBlockingLockExclusive));
    }),
    ("flock goes with a duplicate", |d, t| {
        let (a, b) = two(d);
        let copy = rustix::io::dup(&a).unwrap();
        flock(&a, L::LockExclusive).unwrap();
        drop(a);
        t.note("still held", flock(&b, L::NonBlockingLockExclusive));
        t.note("unlock by the copy", flock(&copy, L::Unlock));
        t.note("free", flock(&b, L::NonBlockingLockExclusive));
    }),
    ("flock on a read-only handle and a directory", |d, t| {
        d.file("f", b"");
        let reader = d.open("f", O::RDONLY, 0).unwrap();
        t.note("exclusive", flock(&reader, L::NonBlockingLockExclusive));
        let (a, b) = (
            d.open("", O::RDONLY, 0).unwrap(),
            d.open("", O::RDONLY, 0).unwrap(),
        );
        t.note("directory", flock(&a, L::NonBlockingLockExclusive));
        t.note("other", flock(&b, L::NonBlockingLockExclusive));
    }),
    ("flock waits", |d, t| {
        let (a, b) = two(d);
        flock(&a, L::LockExclusive).unwrap();
        waits(
            t,
            || flock(&b, L::LockExclusive).is_ok(),
            || flock(&a, L::Unlock).unwrap(),
        );
    }),
    ("record locks between processes", |d, t| {
        let (a, b) = two(d);
        t.note("write lock", record(&a, libc::F_WRLCK, 0, 100));
        t.note("read lock", record(&a, libc::F_RDLCK, 200, 100));
        t.note(
            "same process, other handle",
            record(&b, libc::F_WRLCK, 0, 100),
        );
        elsewhere(|| {
            let c = d.open("f", O::RDWR, 0).unwrap();
            for (kind, text) in [(libc::F_WRLCK, "write"), (libc::F_RDLCK, "read")] {
                for (start, len) in [(0, 10), (99, 1), (100, 100), (150, 100), (200, 50), (0, 0)] {
                    let label = format!("{text} at {start} for {len}");
                    t.note(&label, record(&c, kind, start, len));
                    t.note("unlock", record(&c, libc::F_UNLCK, start, len));
                    t.note(
                        format!("in the way of {label}"),
                        in_the_way(&c, kind, start, len),
                    );
                }
            }
        });
        t.note("split", record(&a, libc::F_UNLCK, 40, 20));
        elsewhere(|| {
            let c = d.open("f", O::RDWR, 0).unwrap();
            t.note("in the gap", record(&c, libc::F_WRLCK, 40, 20));
            t.note("before it", record(&c, libc::F_WRLCK, 39, 1));
            t.note("after it", record(&c, libc::F_WRLCK, 60, 1));
        });
    }),
    ("record locks go when any handle is closed", |d, t| {
        let (a, b) = two(d);
        record(&a, libc::F_WRLCK, 0, 0).unwrap();
        let held = || {
            elsewhere(|| {
                let c = d.open("f", O::RDWR, 0).unwrap();
                in_the_way(&c, libc::F_WRLCK, 0, 0)
            })
        };
        t.note("held", held());
        drop(b);
        t.note("after the other is closed", held());
        drop(a);
    }),
    ("record locks want the right to read or write", |d, t| {
        d.file("f", b"");
        let reader = d.open("f", O::RDONLY, 0).unwrap();
        let writer = d.open("f", O::WRONLY, 0).unwrap();
        t.note(
            "write lock, read-only",
            record(&reader, libc::F_WRLCK, 0, 0),
        );
        t.note(
            "read lock, write-only",
            record(&writer, libc::F_RDLCK, 0, 0),
        );
        t.note("read lock, read-only", record(&reader, libc::F_RDLCK, 0, 0));
        t.note(
            "write lock, write-only",
            record(&writer, libc::F_WRLCK, 0, 0),
        );
        t.note("a path descriptor", {
            let path = d.open("f", O::PATH, 0).unwrap();
            record(&path, libc::F_RDLCK, 0, 0)
        });
    }),
    ("record locks wait", |d, t| {
        let (a, _b) = two(d);
        record(&a, libc::F_WRLCK, 0, 0).unwrap();
        waits(
            t,
            || {
                elsewhere(|| {
                    let c = d.open("f", O::RDWR, 0).unwrap();
                    fcntl(&c, FcntlArg::F_SETLKW(&range(libc::F_WRLCK, 0, 0))).is_ok()
                })
            },
            || {
                record(&a, libc::F_UNLCK, 0, 0).unwrap();
            },
        );
    }),
    ("open file description locks", |d, t| {
        let (a, b) = two(d);
        t.note("write lock", open_file(&a, libc::F_WRLCK, 0, 100));
        t.note("other handle", open_file(&b, libc::F_WRLCK, 50, 10));
        t.note(
            "other handle, elsewhere",
            open_file(&b, libc::F_WRLCK, 100, 10),
        );
        t.note("read lock", open_file(&b, libc::F_RDLCK, 0, 1));
        let copy = rustix::io::dup(&a).unwrap();
        drop(copy);
        t.note("a duplicate was closed", open_file(&b, libc::F_WRLCK, 0, 1));
        t.note("record lock", record(&b, libc::F_WRLCK, 0, 1));
        drop(a);
        t.note("closed", open_file(&b, libc::F_WRLCK, 0, 100));
    }),
    ("flock and record locks do not meet", |d, t| {
        let (a, b) = two(d);
        t.note("flock", flock(&a, L::NonBlockingLockExclusive));
        t.note("record", record(&b, libc::F_WRLCK, 0, 0));
    }),
    (
        "locks go along with a rename, and stay on a removed file",
        |d, t| {
            let (a, b) = two(d);
            flock(&a, L::LockExclusive).unwrap();
            d.rename("f", "g").unwrap();
            let c = d.open("g", O::RDWR, 0).unwrap();
            t.note("renamed", flock(&c, L::NonBlockingLockExclusive));
            d.unlink("g").unwrap();
            t.note("removed", flock(&b, L::NonBlockingLockExclusive));
            d.file("g", b"");
            let other = d.open("g", O::RDWR, 0).unwrap();
            t.note(
                "another file of that name",
                flock(&other, L::NonBlockingLockExclusive),
            );
        },
    ),
];
