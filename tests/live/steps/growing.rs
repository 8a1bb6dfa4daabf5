//! Operations by which a directory grows, or is gone that had grown.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::World;
use super::cases::Case;

const GROWN: &str = "live.names.grown";
const SETTLED: &str = "live.names.settled";

fn long(n: usize) -> String {
    format!("{n:0>255}")
}

fn size(dir: &Path) -> u64 {
    dir.metadata().unwrap().len()
}

/// How many long names a directory takes before it grows.
fn fits(dir: &Path) -> usize {
    let probe = dir.join("probe");
    fs::create_dir(&probe).unwrap();
    let small = size(&probe).max(4096);
    let file = dir.join("file");
    let mut made = 0;
    while size(&probe) <= small {
        fs::hard_link(&file, probe.join(long(made))).unwrap();
        made += 1;
        assert!(made < 100);
    }
    fs::remove_dir_all(&probe).unwrap();
    made - 1
}

/// Makes `full`, which grows with the next long name, and `file`.
fn full(_: &World, dir: &Path) {
    fs::write(dir.join("file"), "linked").unwrap();
    let count = fits(dir);
    let full = dir.join("full");
    fs::create_dir(&full).unwrap();
    for n in 0..count {
        fs::hard_link(dir.join("file"), full.join(long(n))).unwrap();
    }
}

fn next(dir: &Path) -> std::path::PathBuf {
    dir.join("full").join("x".repeat(255))
}

/// It has grown, and by one name.
fn grown(_: &World, dir: &Path) {
    assert!(size(&dir.join("full")) > 4096);
    next(dir).symlink_metadata().unwrap();
}

/// Makes `large`, which is empty and has grown.
fn large(world: &World, dir: &Path) {
    full(world, dir);
    fs::rename(dir.join("full"), dir.join("large")).unwrap();
    fs::write(dir.join("large").join("x".repeat(255)), "").unwrap();
    for entry in fs::read_dir(dir.join("large")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    fs::create_dir(dir.join("other")).unwrap();
}

pub const GROWING: &[Case] = &[
    Case {
        name: "link that makes a directory grow",
        op: "link",
        points: &["live.link.intent", "live.link.host", GROWN, SETTLED],
        prepare: full,
        act: |_, dir| fs::hard_link(dir.join("file"), next(dir)).unwrap(),
        check: grown,
    },
    Case {
        name: "mkdir that makes a directory grow",
        op: "mkdir",
        points: &["live.make.host", "live.make.charged", GROWN, SETTLED],
        prepare: full,
        act: |_, dir| fs::create_dir(next(dir)).unwrap(),
        check: grown,
    },
    Case {
        name: "symlink that makes a directory grow",
        op: "symlink",
        points: &[GROWN, SETTLED],
        prepare: full,
        act: |_, dir| symlink("to", next(dir)).unwrap(),
        check: grown,
    },
    Case {
        name: "create that makes a directory grow",
        op: "create",
        points: &["live.create.host", "live.create.opened", GROWN, SETTLED],
        prepare: full,
        act: |_, dir| drop(File::create_new(next(dir)).unwrap()),
        check: grown,
    },
    Case {
        name: "rename that makes a directory grow",
        op: "rename",
        points: &["live.rename.intent", "live.rename.host", GROWN, SETTLED],
        prepare: full,
        act: |_, dir| fs::rename(dir.join("file"), next(dir)).unwrap(),
        check: |world, dir| {
            grown(world, dir);
            assert!(!dir.join("file").exists());
        },
    },
    Case {
        name: "rename that makes a directory grow and leaves a whiteout",
        op: "rename",
        points: &["live.rename.intent", "live.rename.host", GROWN, SETTLED],
        prepare: full,
        act: |_, dir| {
            let flags = RenameFlags::RENAME_WHITEOUT;
            renameat2(AT_FDCWD, &dir.join("file"), AT_FDCWD, &next(dir), flags).unwrap();
        },
        check: |world, dir| {
            grown(world, dir);
            assert_eq!(dir.join("file").metadata().unwrap().rdev(), 0);
        },
    },
    Case {
        name: "rmdir of what was large",
        op: "rmdir",
        points: &["live.remove.intent", "live.remove.host"],
        prepare: large,
        act: |_, dir| fs::remove_dir(dir.join("large")).unwrap(),
        check: |_, dir| assert!(!dir.join("large").exists()),
    },
    Case {
        name: "rename over what was large",
        op: "rename",
        points: &["live.rename.intent", "live.rename.host"],
        prepare: large,
        act: |_, dir| fs::rename(dir.join("other"), dir.join("large")).unwrap(),
        check: |_, dir| {
            assert!(!dir.join("other").exists());
            assert_eq!(size(&dir.join("large")), 4096);
        },
    },
];
