//! The operations that cannot be done twice, and the points in each.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, mknod};

use super::World;
use crate::support::poll;

pub type Act = fn(&World, &Path);

/// An operation, and what it is.
pub struct Case {
    pub name: &'static str,
    /// The request.
    pub op: &'static str,
    /// The points in it; those at the end of every request are not here.
    pub points: &'static [&'static str],
    pub prepare: Act,
    pub act: Act,
    pub check: Act,
}

const MAKE: &[&str] = &["live.make.intent", "live.make.host", "live.make.charged"];
const CREATE: &[&str] = &[
    "live.create.intent",
    "live.create.host",
    "live.create.charged",
    "live.create.opened",
];
const REMOVE: &[&str] = &["live.remove.intent", "live.remove.host"];
const RENAME: &[&str] = &["live.rename.intent", "live.rename.host"];

fn nothing(_: &World, _: &Path) {}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn rename_with(flags: RenameFlags, dir: &Path) {
    renameat2(AT_FDCWD, &dir.join("a"), AT_FDCWD, &dir.join("b"), flags).unwrap();
}

fn two_files(_: &World, dir: &Path) {
    fs::write(dir.join("a"), "of a").unwrap();
    fs::write(dir.join("b"), vec![b'b'; 10_000]).unwrap();
}

pub const CASES: &[Case] = &[
    Case {
        name: "mkdir",
        op: "mkdir",
        points: MAKE,
        prepare: nothing,
        act: |_, dir| {
            fs::DirBuilder::new()
                .mode(0o710)
                .create(dir.join("d"))
                .unwrap()
        },
        check: |_, dir| {
            assert_eq!(names(dir), ["d"]);
            let mode = fs::metadata(dir.join("d")).unwrap().mode();
            assert_eq!(mode & 0o7777, 0o710);
            let again = fs::create_dir(dir.join("d")).unwrap_err();
            assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        },
    },
    Case {
        name: "mknod",
        op: "mknod",
        points: MAKE,
        prepare: nothing,
        act: |_, dir| mknod(&dir.join("p"), SFlag::S_IFIFO, Mode::S_IRUSR, 0).unwrap(),
        check: |_, dir| assert_eq!(names(dir), ["p"]),
    },
    Case {
        name: "symlink",
        op: "symlink",
        points: MAKE,
        prepare: nothing,
        act: |_, dir| symlink("to/nowhere", dir.join("l")).unwrap(),
        check: |_, dir| {
            let target = fs::read_link(dir.join("l")).unwrap();
            assert_eq!(target, Path::new("to/nowhere"));
        },
    },
    Case {
        name: "create exclusively and write",
        op: "create",
        points: CREATE,
        prepare: nothing,
        act: |_, dir| {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(0o640)
                .open(dir.join("f"))
                .unwrap();
            file.write_all(b"contents").unwrap();
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "contents");
        },
        check: |_, dir| {
            let meta = fs::metadata(dir.join("f")).unwrap();
            assert_eq!(
                (meta.len(), meta.mode() & 0o7777, meta.nlink()),
                (8, 0o640, 1)
            );
        },
    },
    Case {
        name: "unlink",
        op: "unlink",
        points: REMOVE,
        prepare: |_, dir| fs::write(dir.join("f"), vec![1; 5000]).unwrap(),
        act: |_, dir| fs::remove_file(dir.join("f")).unwrap(),
        check: |_, dir| {
            assert!(names(dir).is_empty());
            let again = fs::remove_file(dir.join("f")).unwrap_err();
            assert_eq!(again.kind(), ErrorKind::NotFound);
        },
    },
    Case {
        name: "unlink of one of two names",
        op: "unlink",
        points: REMOVE,
        prepare: |_, dir| {
            fs::write(dir.join("f"), vec![1; 5000]).unwrap();
            fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
        },
        act: |_, dir| fs::remove_file(dir.join("f")).unwrap(),
        check: |_, dir| {
            assert_eq!(names(dir), ["g"]);
            assert_eq!(fs::metadata(dir.join("g")).unwrap().nlink(), 1);
        },
    },
    Case {
        name: "unlink of an open file",
        op: "unlink",
        points: REMOVE,
        prepare: |_, dir| fs::write(dir.join("f"), vec![1; 5000]).unwrap(),
        act: |world, dir| {
            let mut file = File::options()
                .read(true)
                .write(true)
                .open(dir.join("f"))
                .unwrap();
            fs::remove_file(dir.join("f")).unwrap();
            let mut data = Vec::new();
            file.read_to_end(&mut data).unwrap();
            assert_eq!(data, [1; 5000]);
            assert_eq!(file.metadata().unwrap().nlink(), 0);
            // And once more, without a name.
            world.mount.kill_serving();
            file.write_all(&[2; 9000]).unwrap();
            file.seek(SeekFrom::Start(4999)).unwrap();
            let mut two = [0; 2];
            file.read_exact(&mut two).unwrap();
            assert_eq!(two, [1, 2]);
        },
        check: |_, dir| assert!(names(dir).is_empty()),
    },
    Case {
        name: "rmdir",
        op: "rmdir",
        points: REMOVE,
        prepare: |_, dir| fs::create_dir(dir.join("d")).unwrap(),
        act: |_, dir| fs::remove_dir(dir.join("d")).unwrap(),
        check: |_, dir| {
            assert!(names(dir).is_empty());
            let again = fs::remove_dir(dir.join("d")).unwrap_err();
            assert_eq!(again.kind(), ErrorKind::NotFound);
        },
    },
    Case {
        name: "rmdir of where somebody is",
        op: "rmdir",
        points: REMOVE,
        prepare: |_, dir| fs::create_dir(dir.join("d")).unwrap(),
        act: |_, dir| {
            let here = File::options()
                .read(true)
                .custom_flags(libc::O_PATH)
                .open(dir.join("d"))
                .unwrap();
            fs::remove_dir(dir.join("d")).unwrap();
            let sync = rustix::fs::AtFlags::EMPTY_PATH | rustix::fs::AtFlags::STATX_FORCE_SYNC;
            let found = rustix::fs::statx(&here, "", sync, rustix::fs::StatxFlags::NLINK);
            assert_eq!(found.unwrap().stx_nlink, 0);
        },
        check: |_, dir| assert!(names(dir).is_empty()),
    },
    Case {
        name: "unlink of what somebody holds",
        op: "unlink",
        points: REMOVE,
        prepare: |_, dir| fs::write(dir.join("f"), vec![1; 5000]).unwrap(),
        act: |_, dir| {
            let here = File::options()
                .read(true)
                .custom_flags(libc::O_PATH)
                .open(dir.join("f"))
                .unwrap();
            fs::remove_file(dir.join("f")).unwrap();
            let sync = rustix::fs::AtFlags::EMPTY_PATH | rustix::fs::AtFlags::STATX_FORCE_SYNC;
            let found = rustix::fs::statx(&here, "", sync, rustix::fs::StatxFlags::NLINK);
            assert_eq!(found.unwrap().stx_nlink, 0);
        },
        check: |_, dir| assert!(names(dir).is_empty()),
    },
    Case {
        name: "link",
        op: "link",
        points: &["live.link.intent", "live.link.host"],
        prepare: |_, dir| fs::write(dir.join("a"), "linked").unwrap(),
        act: |_, dir| fs::hard_link(dir.join("a"), dir.join("b")).unwrap(),
        check: |_, dir| {
            let of = |name| fs::metadata(dir.join(name)).unwrap();
            assert_eq!((of("a").nlink(), of("a").ino()), (2, of("b").ino()));
        },
    },
    Case {
        name: "rename",
        op: "rename",
        points: RENAME,
        prepare: |_, dir| fs::write(dir.join("a"), "of a").unwrap(),
        act: |_, dir| fs::rename(dir.join("a"), dir.join("b")).unwrap(),
        check: |_, dir| {
            assert_eq!(names(dir), ["b"]);
            assert_eq!(fs::read(dir.join("b")).unwrap(), b"of a");
        },
    },
    Case {
        name: "rename over another",
        op: "rename",
        points: RENAME,
        prepare: two_files,
        act: |_, dir| fs::rename(dir.join("a"), dir.join("b")).unwrap(),
        check: |_, dir| {
            assert_eq!(names(dir), ["b"]);
            assert_eq!(fs::read(dir.join("b")).unwrap(), b"of a");
        },
    },
    Case {
        name: "rename without replacing",
        op: "rename",
        points: RENAME,
        prepare: |_, dir| fs::write(dir.join("a"), "of a").unwrap(),
        act: |_, dir| rename_with(RenameFlags::RENAME_NOREPLACE, dir),
        check: |_, dir| assert_eq!(names(dir), ["b"]),
    },
    Case {
        name: "exchange",
        op: "rename",
        points: RENAME,
        prepare: two_files,
        act: |_, dir| rename_with(RenameFlags::RENAME_EXCHANGE, dir),
        check: |_, dir| {
            assert_eq!(fs::read(dir.join("b")).unwrap(), b"of a");
            assert_eq!(fs::metadata(dir.join("a")).unwrap().len(), 10_000);
        },
    },
    Case {
        name: "rename that leaves a whiteout",
        op: "rename",
        points: RENAME,
        prepare: two_files,
        act: |_, dir| rename_with(RenameFlags::RENAME_WHITEOUT, dir),
        check: |_, dir| {
            assert_eq!(fs::read(dir.join("b")).unwrap(), b"of a");
            let left = fs::metadata(dir.join("a")).unwrap();
            assert_eq!(
                (left.mode() & libc::S_IFMT, left.rdev()),
                (libc::S_IFCHR, 0)
            );
        },
    },
    Case {
        name: "an attribute that must be new",
        op: "setxattr",
        points: &["live.setxattr.intent", "live.setxattr.host"],
        prepare: |_, dir| fs::write(dir.join("f"), "").unwrap(),
        act: |_, dir| set_new(&dir.join("f")).unwrap(),
        check: |_, dir| {
            assert_eq!(set_new(&dir.join("f")), Err(rustix::io::Errno::EXIST));
        },
    },
    Case {
        name: "removing an attribute",
        op: "removexattr",
        points: &["live.removexattr.intent", "live.removexattr.host"],
        prepare: |_, dir| {
            fs::write(dir.join("f"), "").unwrap();
            set_new(&dir.join("f")).unwrap();
        },
        act: |_, dir| rustix::fs::removexattr(dir.join("f"), "user.k").unwrap(),
        check: |_, dir| {
            let again = rustix::fs::removexattr(dir.join("f"), "user.k");
            assert_eq!(again, Err(rustix::io::Errno::NODATA));
        },
    },
    Case {
        name: "open with O_TRUNC",
        op: "setattr",
        points: &["live.truncate.room", "live.truncate.host"],
        prepare: |_, dir| fs::write(dir.join("f"), vec![1; 9000]).unwrap(),
        act: |_, dir| {
            let mut file = File::options()
                .write(true)
                .truncate(true)
                .open(dir.join("f"))
                .unwrap();
            file.write_all(b"new").unwrap();
        },
        check: |_, dir| assert_eq!(fs::read(dir.join("f")).unwrap(), b"new"),
    },
    Case {
        name: "truncate",
        op: "setattr",
        points: &["live.truncate.room", "live.truncate.host"],
        prepare: |_, dir| fs::write(dir.join("f"), vec![1; 9000]).unwrap(),
        act: |_, dir| {
            let file = File::options().write(true).open(dir.join("f")).unwrap();
            file.set_len(20_000).unwrap();
        },
        check: |_, dir| assert_eq!(fs::metadata(dir.join("f")).unwrap().len(), 20_000),
    },
    Case {
        name: "close of a file without a name",
        op: "release",
        points: &["live.release.begun", "live.release.closed"],
        prepare: |_, dir| fs::write(dir.join("f"), vec![1; 9000]).unwrap(),
        act: |world, dir| {
            let armed = fs::read(&world.arm).unwrap();
            fs::remove_file(&world.arm).unwrap();
            let file = File::open(dir.join("f")).unwrap();
            fs::remove_file(dir.join("f")).unwrap();
            fs::write(&world.arm, armed).unwrap();
            drop(file);
            let armed = || fs::read_to_string(&world.arm);
            let dead = poll(Duration::from_secs(20), || armed().is_err().then_some(()));
            assert!(dead.is_some(), "not reached by the close: {:?}", armed());
        },
        check: |_, dir| assert!(names(dir).is_empty()),
    },
];

/// What is otherwise where a volume has a limit.
pub const UNLIMITED: &[Case] = &[Case {
    name: "opening a file without a name",
    op: "open",
    points: &["live.open.nameless", "live.open.charged"],
    prepare: |_, dir| fs::write(dir.join("f"), vec![1; 9000]).unwrap(),
    act: |world, dir| {
        let armed = fs::read(&world.arm).unwrap();
        fs::remove_file(&world.arm).unwrap();
        let flags = rustix::fs::OFlags::PATH;
        let held = rustix::fs::open(dir.join("f"), flags, rustix::fs::Mode::empty()).unwrap();
        fs::remove_file(dir.join("f")).unwrap();
        fs::write(&world.arm, armed).unwrap();
        let path = format!("/proc/self/fd/{}", held.as_raw_fd());
        let mut contents = Vec::new();
        File::open(path)
            .unwrap()
            .read_to_end(&mut contents)
            .unwrap();
        assert_eq!(contents, [1; 9000]);
    },
    check: |_, dir| assert!(names(dir).is_empty()),
}];

/// What the kernel does by itself where it may.
pub const THROUGH_US: &[Case] = &[
    Case {
        name: "appending",
        op: "write",
        points: &["live.write.room", "live.write.host"],
        prepare: |_, dir| fs::write(dir.join("f"), "begin").unwrap(),
        act: |_, dir| {
            let mut file = File::options().append(true).open(dir.join("f")).unwrap();
            file.write_all(b"+end").unwrap();
        },
        check: |_, dir| assert_eq!(fs::read(dir.join("f")).unwrap(), b"begin+end"),
    },
    Case {
        name: "allocating",
        op: "fallocate",
        points: &["live.fallocate.room", "live.fallocate.host"],
        prepare: |_, dir| fs::write(dir.join("f"), "begin").unwrap(),
        act: |_, dir| {
            let file = File::options().write(true).open(dir.join("f")).unwrap();
            let none = nix::fcntl::FallocateFlags::empty();
            nix::fcntl::fallocate(&file, none, 0, 50_000).unwrap();
        },
        check: |_, dir| assert_eq!(fs::metadata(dir.join("f")).unwrap().len(), 50_000),
    },
    Case {
        name: "copying a range",
        op: "copy_file_range",
        points: &["live.copy.host"],
        prepare: |_, dir| fs::write(dir.join("a"), vec![7; 30_000]).unwrap(),
        act: |_, dir| {
            let from = File::open(dir.join("a")).unwrap();
            let to = File::create(dir.join("b")).unwrap();
            let copied = nix::fcntl::copy_file_range(from, None, to, None, 30_000);
            assert_eq!(copied, Ok(30_000));
        },
        check: |_, dir| assert_eq!(fs::read(dir.join("b")).unwrap(), [7; 30_000]),
    },
];

fn set_new(path: &Path) -> rustix::io::Result<()> {
    rustix::fs::setxattr(path, "user.k", b"v", rustix::fs::XattrFlags::CREATE)
}
