//! Threads in the operations at once, on the same files, without the order
//! that a kernel would bring into what concerns one directory.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use volfs::fuse::MountOptions;
use volfs::fuse::error::OpError;
use volfs::fuse::fs::FileSystem;
use volfs::fuse::node::NodeId;
use volfs::fuse::types::{Caller, Found, SetAttr};
use volfs::model::{Bytes, Limits, VolumeSpec};
use volfs::volume::{Store, StoreOptions, Volume, Volumes};

use super::direct::AsKernel;
use super::generate::Random;

const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    pid: 0,
};
const LIMIT: u64 = 400_000;

/// One act of a thread: names are its own directory's, so that what a kernel
/// orders is in order; the files behind them are everybody's by hard links.
fn act(fs: &FileSystem, random: &mut Random, own: NodeId, all: &[NodeId]) -> Result<(), OpError> {
    let name = format!("f{}", random.below(6));
    let name = OsStr::new(&name);
    let (offset, len) = (random.below(100_000), 1 + random.below(50_000));
    match random.below(9) {
        0 => {
            let flags = OFlag::O_RDWR;
            let (entry, opened) =
                fs.create(ROOT, own, name, 0o644, 0, flags, &AsKernel::default())?;
            let wrote = fs.write(
                ROOT,
                entry.attr.node,
                opened.fh,
                0,
                &vec![1; len as usize],
                false,
            );
            fs.release(opened.fh);
            wrote?;
        }
        1 => fs.unlink(ROOT, own, name)?,
        2 => {
            let to = format!("f{}", random.below(6));
            fs.rename(ROOT, (own, name), (own, OsStr::new(&to)), 0)?;
        }
        3 => {
            let other = all[random.below(all.len() as u64) as usize];
            if let Found::Entry(entry) = fs.lookup(other, name)? {
                let to = format!("f{}", random.below(6));
                fs.link(entry.attr.node, own, OsStr::new(&to))?;
            }
        }
        kind => {
            let dir = all[random.below(all.len() as u64) as usize];
            let Found::Entry(entry) = fs.lookup(dir, name)? else {
                return Ok(());
            };
            let node = entry.attr.node;
            match kind {
                4 => {
                    let set = SetAttr {
                        size: Some(offset),
                        ..SetAttr::default()
                    };
                    fs.setattr(ROOT, node, None, &set)?;
                }
                5 | 6 => {
                    let opened = fs.open(ROOT, node, OFlag::O_RDWR, &AsKernel::default())?;
                    let set = SetAttr {
                        size: Some(0),
                        ..SetAttr::default()
                    };
                    let emptied = fs.setattr(ROOT, node, None, &set);
                    fs.release(opened.fh);
                    emptied?;
                }
                _ => {
                    let opened = fs.open(ROOT, node, OFlag::O_RDWR, &AsKernel::default())?;
                    let data = vec![2; len as usize];
                    let wrote = fs.write(ROOT, node, opened.fh, offset, &data, false);
                    fs.release(opened.fh);
                    wrote?;
                }
            }
        }
    }
    Ok(())
}

/// One act on names of directories that are everybody's, as of callers that were
/// killed: their requests go on although the kernel has let the directory go.
fn name_act(fs: &FileSystem, random: &mut Random, dirs: &[NodeId]) -> Result<(), OpError> {
    // Long, so that directories grow; few enough for them to meet.
    let name = |random: &mut Random| format!("{:0>240}", random.below(40));
    let short = |random: &mut Random| format!("d{}", random.below(3));
    let (dir, other) = (
        dirs[random.below(dirs.len() as u64) as usize],
        dirs[random.below(dirs.len() as u64) as usize],
    );
    let (a, b) = (name(random), name(random));
    let (a, b) = (OsStr::new(&a), OsStr::new(&b));
    let (sub, other_sub) = (short(random), short(random));
    let (sub, other_sub) = (OsStr::new(&sub), OsStr::new(&other_sub));
    let in_sub = |node: &mut NodeId| -> Result<(), OpError> {
        if let Found::Entry(entry) = fs.lookup(*node, sub)? {
            *node = entry.attr.node;
        }
        Ok(())
    };
    match random.below(12) {
        0..4 => {
            let mut into = dir;
            if random.one_in(2) {
                in_sub(&mut into)?;
            }
            if let Found::Entry(entry) = fs.lookup(other, OsStr::new("file"))? {
                fs.link(entry.attr.node, into, a)?;
            }
        }
        4 => drop(fs.symlink(ROOT, dir, a, b)?),
        5 => fs.unlink(ROOT, dir, a)?,
        6 => {
            let mut from = dir;
            in_sub(&mut from)?;
            fs.unlink(ROOT, from, a)?;
        }
        7 => fs.rename(ROOT, (dir, a), (other, b), 0)?,
        8 => {
            let flags = [
                libc::RENAME_EXCHANGE,
                libc::RENAME_NOREPLACE,
                libc::RENAME_WHITEOUT,
            ];
            let flags = flags[random.below(3) as usize];
            fs.rename(ROOT, (dir, a), (other, b), flags)?;
        }
        9 => drop(fs.mkdir(ROOT, dir, sub, 0o755, 0)?),
        10 => {
            // Full ones, too.
            let mut gone = dir;
            in_sub(&mut gone)?;
            if gone != dir && random.one_in(2) {
                for n in 0..40 {
                    let _ = fs.unlink(ROOT, gone, OsStr::new(&format!("{n:0>240}")));
                }
            }
            fs.rmdir(ROOT, dir, sub)?;
        }
        _ => fs.rename(ROOT, (dir, sub), (other, other_sub), 0)?,
    }
    Ok(())
}

/// A limited volume in a store in `dir`, served without a mount, and its root.
fn volume_in(dir: &Path, bytes: u64, inodes: u64) -> (Arc<Store>, Arc<Volume>, FileSystem, NodeId) {
    let options = StoreOptions {
        create: true,
        read_only: false,
    };
    let store = Arc::new(Store::open(&dir.join("store"), &options).unwrap());
    let mut spec = VolumeSpec::directory("v".parse().unwrap());
    spec.limits = Limits {
        bytes: Some(Bytes(bytes)),
        inodes: Some(inodes),
    };
    store.create(&spec).unwrap();
    let volume = store.volume(&spec.name).unwrap();
    let fs = FileSystem::new(Arc::clone(&store), MountOptions::default()).unwrap();
    let Found::Entry(root) = fs.lookup(NodeId::ROOT, OsStr::new("v")).unwrap() else {
        panic!("the volume is not there");
    };
    (store, volume, fs, root.attr.node)
}

#[test]
fn threads_in_the_same_directories_at_once() {
    const LIMIT: u64 = 72 << 10;
    let dir = tempfile::tempdir().unwrap();
    let (store, volume, fs, root) = volume_in(dir.path(), LIMIT, 100);
    let dirs: Vec<NodeId> = (0..3)
        .map(|n| {
            let name = format!("shared{n}");
            let made = fs.mkdir(ROOT, root, OsStr::new(&name), 0o755, 0);
            let dir = made.unwrap().attr.node;
            let file = fs.mknod(ROOT, dir, OsStr::new("file"), libc::S_IFREG | 0o644, 0, 0);
            file.unwrap();
            dir
        })
        .collect();
    let acts = if std::env::var_os("VOLFS_LONG").is_some() {
        100_000
    } else {
        3000
    };
    let (running, done) = (AtomicU64::new(8), AtomicBool::new(false));
    let refused = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (fs, dirs, running, done) = (&fs, &dirs, &running, &done);
            let refused = &refused;
            scope.spawn(move || {
                let _ended = Ended { running, done };
                let mut random = Random::new(n);
                for at in 0..acts {
                    match name_act(fs, &mut random, dirs).map_err(|error| error.errno()) {
                        Ok(()) => {}
                        Err(Errno::ENOSPC) => drop(refused.fetch_add(1, Ordering::Relaxed)),
                        Err(
                            Errno::ENOENT
                            | Errno::EEXIST
                            | Errno::ESTALE
                            | Errno::ENOTEMPTY
                            | Errno::EISDIR
                            | Errno::ENOTDIR
                            | Errno::EPERM
                            | Errno::EINVAL
                            // What is opened has been moved away meanwhile.
                            | Errno::EXDEV,
                        ) => {}
                        Err(errno) => panic!("thread {n}, act {at}: {errno}"),
                    }
                }
            });
        }
        while !done.load(Ordering::SeqCst) {
            let used = volume.usage();
            assert!(used.bytes.0 <= LIMIT && used.inodes <= 100, "{used:?}");
            std::thread::yield_now();
        }
    });
    println!("{refused:?} refused");
    assert!(refused.into_inner() > 0, "the limit was never near");
    assert!(
        volume.account().is_trusted(),
        "the account contradicts itself"
    );
    assert_eq!(volume.usage(), store.recount(&volume).unwrap());
}

struct Ended<'a> {
    running: &'a AtomicU64,
    done: &'a AtomicBool,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if self.running.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.done.store(true, Ordering::SeqCst);
        }
    }
}

#[test]
fn threads_in_the_operations_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (store, volume, fs, root) = volume_in(dir.path(), LIMIT, 30);
    let dirs: Vec<NodeId> = (0..8)
        .map(|n| {
            let name = format!("d{n}");
            let made = fs.mkdir(ROOT, root, OsStr::new(&name), 0o755, 0);
            made.unwrap().attr.node
        })
        .collect();
    let acts = if std::env::var_os("VOLFS_LONG").is_some() {
        200_000
    } else {
        3000
    };
    let (running, done) = (AtomicU64::new(8), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for (n, &own) in dirs.iter().enumerate() {
            let (fs, dirs, running, done) = (&fs, &dirs, &running, &done);
            scope.spawn(move || {
                // Also when this thread panics, so that the test ends.
                let _ended = Ended { running, done };
                let mut random = Random::new(n as u64);
                for at in 0..acts {
                    match act(fs, &mut random, own, dirs).map_err(|error| error.errno()) {
                        Ok(()) => {}
                        Err(Errno::ENOSPC | Errno::ENOENT | Errno::EEXIST | Errno::ESTALE) => {}
                        Err(errno) => panic!("thread {n}, act {at}: {errno}"),
                    }
                }
            });
        }
        while !done.load(Ordering::SeqCst) {
            let used = volume.usage();
            assert!(used.bytes.0 <= LIMIT && used.inodes <= 30, "{used:?}");
            std::thread::yield_now();
        }
    });
    assert!(
        volume.account().is_trusted(),
        "the account contradicts itself"
    );
    assert_eq!(volume.usage(), store.recount(&volume).unwrap());
}
