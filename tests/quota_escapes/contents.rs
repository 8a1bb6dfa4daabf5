//! More contents than the limit: holes, mappings, copies.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use nix::fcntl::{FallocateFlags, fallocate};

use crate::support::map::{Map, Sharing};
use crate::support::output;
use crate::{LIMIT, World, errno, refused};

#[test]
fn a_sparse_file_that_is_filled_later() {
    let world = World::new();
    let file = File::create(world.v.join("f")).unwrap();
    refused(file.set_len(LIMIT + 1), libc::ENOSPC);
    refused(file.write_at(b"x", LIMIT), libc::ENOSPC);
    file.set_len(LIMIT).unwrap();
    assert_eq!(world.used(), (LIMIT, 1));
    // The holes are paid for; nothing else fits.
    for at in (0..LIMIT).step_by(64 << 10) {
        file.write_all_at(&[1; 64 << 10], at).unwrap();
    }
    refused(fs::write(world.v.join("g"), "x"), libc::ENOSPC);
    assert_eq!(world.used(), (LIMIT, 2));
    world.check();
}

#[test]
fn allocation_that_the_size_does_not_show() {
    let world = World::new();
    let file = File::create(world.v.join("f")).unwrap();
    let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let zero = FallocateFlags::FALLOC_FL_ZERO_RANGE;
    for mode in [keep, keep | zero] {
        refused(errno(fallocate(&file, mode, 0, 4096)), libc::EOPNOTSUPP);
        refused(errno(fallocate(&file, mode, 0, 1 << 40)), libc::EOPNOTSUPP);
    }
    for mode in [FallocateFlags::empty(), zero] {
        refused(
            errno(fallocate(&file, mode, 0, LIMIT as i64 + 1)),
            libc::ENOSPC,
        );
    }
    assert_eq!(file.metadata().unwrap().blocks(), 0);
    fallocate(&file, zero, 0, 100_000).unwrap();
    assert_eq!(world.used(), (102_400, 1));
    fallocate(&file, keep, 50_000, 50_000).unwrap();
    assert_eq!(world.used(), (102_400, 1));
    world.check();
}

#[test]
#[ignore = "another test starts it, to see it killed by SIGBUS"]
fn writes_past_the_end_of_a_mapping() {
    let path = std::env::var_os("VOLFS_MAPPED").unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let map = Map::new(&file, 64 << 10, Sharing::Shared, true).unwrap();
    map.write(0, b"ab");
    map.write(4000, b"past the end, in the last page");
    map.sync().unwrap();
    map.write(8192, b"past the last page");
}

#[test]
fn a_mapping_past_the_end() {
    let world = World::new();
    let path = world.v.join("f");
    fs::write(&path, "1234").unwrap();
    let out = output(
        Command::new(std::env::current_exe().unwrap())
            .args([
                "contents::writes_past_the_end_of_a_mapping",
                "--exact",
                "--ignored",
            ])
            .env("VOLFS_MAPPED", &path),
    );
    assert_eq!(out.status.signal(), Some(libc::SIGBUS), "{:?}", out.status);
    assert_eq!(fs::read(&path).unwrap(), b"ab34");
    assert_eq!(world.used(), (4096, 1));
    world.check();
}

#[test]
fn direct_and_appending_writes() {
    let world = World::new();
    let direct = OpenOptions::new()
        .write(true)
        .create(true)
        .custom_flags(libc::O_DIRECT)
        .open(world.v.join("direct"))
        .unwrap();
    // Aligned in memory and in length, each one request.
    let buffer = vec![1; 1 << 20];
    let start = buffer.as_ptr().align_offset(4096);
    let data = &buffer[start..start + 700 * 1024];
    assert_eq!(direct.write_at(data, 0).unwrap(), data.len());
    let rest = LIMIT - data.len() as u64;
    assert_eq!(direct.write_at(data, LIMIT - rest).unwrap() as u64, rest);
    refused(direct.write_at(&data[..4096], LIMIT), libc::ENOSPC);
    direct.set_len(LIMIT / 2).unwrap();
    let mut append = OpenOptions::new()
        .append(true)
        .create(true)
        .open(world.v.join("a"))
        .unwrap();
    let error = append.write_all(&vec![2; 1 << 20]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(append.metadata().unwrap().len(), LIMIT / 2);
    assert_eq!(world.used(), (LIMIT, 2));
    refused(append.write(b"x"), libc::ENOSPC);
    world.check();
}

#[test]
fn copies_by_the_kernel_and_reflinks() {
    /// `_IOW(0x94, 9, int)`, `linux/fs.h`.
    const FICLONE: libc::c_ulong = 0x4004_9409;
    let world = World::new();
    world.mount.volfs().ok(&["create", "other"]);
    let big = world.mount.join("other/big");
    fs::write(&big, vec![1; 2 << 20]).unwrap();
    fs::write(world.v.join("half"), vec![1; 1 << 19]).unwrap();
    for source in [&big, &world.v.join("half")] {
        let from = File::open(source).unwrap();
        let to = File::create(world.v.join("copy")).unwrap();
        let (mut copied, mut last) = (0, Ok(1));
        while matches!(last, Ok(more) if more > 0) {
            last = nix::fcntl::copy_file_range(&from, None, &to, None, 1 << 20);
            copied += last.unwrap_or(0) as u64;
        }
        let limit = LIMIT / 2;
        assert_eq!(copied, limit, "{source:?}: {last:?}");
        if copied < from.metadata().unwrap().len() {
            assert!(
                matches!(
                    last,
                    Err(nix::errno::Errno::ENOSPC | nix::errno::Errno::EXDEV)
                ),
                "{last:?}"
            );
        }
        assert_eq!(world.used(), (LIMIT, 2));
        to.set_len(0).unwrap();
        let cloned = crate::support::ioctl_int(&to, FICLONE, from.as_raw_fd());
        assert!(cloned.is_err(), "a reflink was made");
        assert_eq!(world.used(), (LIMIT / 2, 2));
    }
    world.check();
}
