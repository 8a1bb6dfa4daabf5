//! `mknod`, `mkdir` and `rmdir`.

use rustix::fs::{FileType, Mode, OFlags as O, makedev};
use rustix::process::{chdir, fchdir};

use crate::dir::{CREATE, Dir, fstat};
use crate::kinds::{ALL_KINDS, make_all};
use crate::support::user::{ALICE, BOB, as_user};
use crate::table::Case;

pub const CASES: &[Case] = &[
    ("mknod of every type by root and a user", |d, t| {
        let make = |d: &Dir, t: &mut crate::trace::Trace, who: &str| {
            for (name, kind, device) in [
                ("reg", FileType::RegularFile, 0),
                ("fifo", FileType::Fifo, 0),
                ("sock", FileType::Socket, 0),
                ("chr", FileType::CharacterDevice, makedev(1, 3)),
                ("whiteout", FileType::CharacterDevice, 0),
                ("blk", FileType::BlockDevice, makedev(8, 1)),
                ("big", FileType::CharacterDevice, makedev(4095, 1_048_575)),
                ("dir", FileType::Directory, 0),
                ("link", FileType::Symlink, 0),
            ] {
                let name = format!("{who}-{name}");
                t.note(&name, d.mknod(&name, kind, 0o640, device));
                t.note("stat", d.stat(&name));
            }
        };
        d.chmod("", 0o777).unwrap();
        make(d, t, "root");
        as_user(ALICE, || make(d, t, "alice"));
    }),
    ("mknod where it cannot be", |d, t| {
        make_all(d);
        d.subdir("closed", 0o755);
        for name in ALL_KINDS.iter().chain(&["missing/x", "reg/x", "dir/", ""]) {
            t.note(*name, d.mknod(name, FileType::Fifo, 0o600, 0));
        }
        as_user(ALICE, || {
            t.note("no right", d.mknod("closed/x", FileType::Fifo, 0o600, 0));
        });
    }),
    ("mkdir where it cannot be", |d, t| {
        make_all(d);
        d.subdir("closed", 0o755);
        for name in ALL_KINDS.iter().chain(&[
            "missing/x",
            "reg/x",
            "dir/.",
            "dir/..",
            ".",
            "..",
            "",
            "dangling/x",
            "dirlink/",
        ]) {
            t.note(*name, d.mkdir(name, 0o755));
        }
        t.note("trailing slash", d.mkdir("new/", 0o755));
        t.note("through a link", d.mkdir("dirlink/sub", 0o755));
        t.note("made", d.names("dir"));
        as_user(ALICE, || t.note("no right", d.mkdir("closed/x", 0o755)));
    }),
    ("link counts of directories", |d, t| {
        d.subdir("dir", 0o755);
        for i in 0..5 {
            d.mkdir(format!("dir/{i}"), 0o755).unwrap();
            t.note("parent", d.stat("dir"));
        }
        d.rename("dir/4", "moved").unwrap();
        t.note("after a move out", d.stat("dir"));
        t.note("of the other", d.stat(""));
        d.rmdir("dir/3").unwrap();
        t.note("after rmdir", d.stat("dir"));
    }),
    ("rmdir where it cannot be", |d, t| {
        make_all(d);
        d.file("dir/f", b"");
        d.subdir("full", 0o755);
        d.subdir("full/sub", 0o755);
        for name in ALL_KINDS.iter().chain(&[
            "missing",
            "missing/x",
            "reg/x",
            "full",
            "full/sub/.",
            "full/sub/..",
            ".",
            "..",
            "dirlink/",
        ]) {
            t.note(*name, d.rmdir(name));
        }
        t.note("trailing slash", d.rmdir("full/sub/"));
        t.note("now empty", d.rmdir("full"));
        t.note("twice", d.rmdir("full"));
    }),
    ("rmdir without the right", |d, t| {
        d.subdir("closed", 0o755);
        d.subdir("closed/x", 0o777);
        d.subdir("sticky", 0o1777);
        d.subdir("sticky/root", 0o777);
        d.subdir("sticky/alice", 0o777);
        d.chown("sticky/alice", Some(1000), Some(1000)).unwrap();
        as_user(ALICE, || {
            t.note("closed", d.rmdir("closed/x"));
            t.note("missing in closed", d.rmdir("closed/missing"));
            t.note("another's in a sticky directory", d.rmdir("sticky/root"));
        });
        as_user(BOB, || t.note("alice's by bob", d.rmdir("sticky/alice")));
        as_user(ALICE, || t.note("one's own", d.rmdir("sticky/alice")));
    }),
    ("a removed directory that is open", |d, t| {
        d.subdir("dir", 0o755);
        let dir = d.open("dir", O::RDONLY | O::DIRECTORY, 0).unwrap();
        t.note("rmdir", d.rmdir("dir"));
        t.note("links", fstat(&dir).map(|m| m.0.st_nlink));
        let mode = Mode::from_raw_mode(0o644);
        t.note("create in it", rustix::fs::openat(&dir, "f", CREATE, mode));
        t.note("mkdir in it", rustix::fs::mkdirat(&dir, "d", mode));
        t.note("look in it", rustix::fs::openat(&dir, "f", O::RDONLY, mode));
        t.note("list it", {
            rustix::fs::Dir::read_from(&dir).map(|mut all| all.read().is_none())
        });
    }),
    ("a removed working directory", |d, t| {
        d.subdir("dir", 0o755);
        chdir(d.at("dir")).unwrap();
        t.note("rmdir", d.rmdir("dir"));
        t.note("stat of dot", rustix::fs::stat(".").map(|s| s.st_nlink));
        t.note(
            "create",
            rustix::fs::open("f", CREATE, Mode::from_raw_mode(0o644)),
        );
        t.note("dot dot", rustix::fs::stat("..").map(|s| s.st_nlink));
        t.note("getcwd", rustix::process::getcwd(Vec::new()).map(|_| ()));
        chdir("/").unwrap();
    }),
    ("working directories move along", |d, t| {
        d.subdir("a", 0o755);
        d.subdir("a/b", 0o755);
        d.subdir("c", 0o755);
        let dir = d.open("a/b", O::RDONLY, 0).unwrap();
        fchdir(&dir).unwrap();
        t.note("rename", d.rename("a/b", "c/b"));
        let mode = Mode::from_raw_mode(0o644);
        t.note("create", rustix::fs::open("f", CREATE, mode));
        t.note("there", d.names("c/b"));
        t.note("up", rustix::fs::open("../g", CREATE, mode));
        t.note("there", d.names("c"));
        let cwd = rustix::process::getcwd(Vec::new()).unwrap();
        t.note("getcwd", cwd.to_string_lossy().ends_with("/c/b"));
        chdir("/").unwrap();
    }),
    ("a deep tree", |d, t| {
        let mut path = String::from("0");
        for i in 1..=100 {
            t.note(i.to_string(), d.mkdir(&path, 0o755));
            path += "/0";
        }
        t.note("create at the bottom", d.open(&path, CREATE, 0o644));
        t.note("stat", d.stat(&path));
        t.note(
            "up again",
            d.stat(format!("{}/..", &path[..path.len() - 2])),
        );
    }),
    ("a socket that is bound and connected", |d, t| {
        // By a short relative name: sun_path has 108 bytes only.
        chdir(d.path()).unwrap();
        let listener = std::os::unix::net::UnixListener::bind("s");
        t.note("bind", listener.as_ref().map(|_| ()).map_err(again));
        t.note("mode", d.stat("s").map(|m| m.0.st_mode >> 12));
        t.note(
            "connect",
            std::os::unix::net::UnixStream::connect("s").map(|_| ()),
        );
        drop(listener);
        t.note(
            "nobody listens",
            std::os::unix::net::UnixStream::connect("s").map(|_| ()),
        );
        t.note(
            "bind again",
            std::os::unix::net::UnixListener::bind("s").map(|_| ()),
        );
        chdir("/").unwrap();
    }),
];

/// `io::Error` is not `Clone`.
fn again(error: &std::io::Error) -> std::io::Error {
    error.raw_os_error().map_or_else(
        || std::io::ErrorKind::Other.into(),
        std::io::Error::from_raw_os_error,
    )
}
