use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::AtomicU64;

use nix::sys::stat::{Mode, mkdirat};

use super::*;

fn usage(bytes: u64, inodes: u64) -> Usage {
    Usage {
        bytes: Bytes(bytes),
        inodes,
    }
}

#[test]
fn by_the_rule() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    assert_eq!(
        count(dir.path(), AllocationUnit::SMALLEST, &AtomicU64::new(0)).unwrap(),
        usage(0, 0)
    );
    fs::write(at("empty"), "").unwrap();
    fs::write(at("one"), "x").unwrap();
    fs::hard_link(at("one"), at("two")).unwrap();
    fs::create_dir(at("d")).unwrap();
    fs::hard_link(at("one"), at("d/three")).unwrap();
    symlink("/", at("d/root")).unwrap();
    fs::File::create(at("sparse"))
        .unwrap()
        .set_len(4097)
        .unwrap();
    assert_eq!(
        count(dir.path(), AllocationUnit::SMALLEST, &AtomicU64::new(0)).unwrap(),
        usage(4096 + 4096 + 8192, 5)
    );
}

#[test]
fn deeper_than_descriptors_and_paths_go() {
    // Longer than PATH_MAX, and each level has two branches, so that levels
    // that were closed are needed again.
    let top = tempfile::tempdir().unwrap();
    let mut dir = open_top(top.path(), LIST).unwrap();
    let down = "down".repeat(8);
    let depth = 200;
    for _ in 0..depth {
        for name in ["branch", down.as_str()] {
            mkdirat(&dir, name, Mode::S_IRWXU).unwrap();
        }
        mkdirat(&dir, "branch/leaf", Mode::S_IRWXU).unwrap();
        dir = open_below(&dir, OsStr::new(&down), LIST).unwrap();
    }
    let found = count(top.path(), AllocationUnit::SMALLEST, &AtomicU64::new(0));
    crate::volume::delete::delete_whole_tree(top.path()).unwrap();
    assert!(!top.path().exists());
    assert_eq!(found.unwrap(), usage(3 * depth * 4096, 3 * depth));
}

#[test]
fn an_error_names_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone");
    assert!(
        matches!(count(&gone, AllocationUnit::SMALLEST, &AtomicU64::new(0)), Err(Error::Io { path, .. }) if path == gone)
    );
}
