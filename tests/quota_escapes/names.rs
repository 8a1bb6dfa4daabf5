//! What has no contents, or no name: links, attributes, removed files.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use rustix::fs::XattrFlags;

use crate::support::{Mount, tree, wait_for};
use crate::{LIMIT, World, errno, refused, used};

#[test]
fn hard_links() {
    let world = World::new();
    fs::write(world.v.join("f"), vec![1; 1 << 19]).unwrap();
    for n in 0..200 {
        // More than the limit of inodes: a link has none.
        fs::hard_link(world.v.join("f"), world.v.join(format!("l{n}"))).unwrap();
    }
    assert_eq!(world.used(), (1 << 19, 1));
    for n in 0..200 {
        fs::remove_file(world.v.join(format!("l{n}"))).unwrap();
    }
    assert_eq!(world.used(), (1 << 19, 1));
    world.mount.volfs().ok(&["create", "other"]);
    fs::write(world.mount.join("other/big"), vec![1; 2 << 20]).unwrap();
    refused(
        fs::hard_link(world.mount.join("other/big"), world.v.join("big")),
        libc::EXDEV,
    );
    fs::remove_file(world.v.join("f")).unwrap();
    assert_eq!(world.used(), (0, 0));
    world.check();
}

#[test]
fn renaming_something_in() {
    let world = World::new();
    world.mount.volfs().ok(&["create", "other"]);
    let dir = world.mount.join("other/dir");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("big"), vec![1; 2 << 20]).unwrap();
    refused(fs::rename(&dir, world.v.join("dir")), libc::EXDEV);
    refused(
        fs::rename(dir.join("big"), world.v.join("big")),
        libc::EXDEV,
    );
    let outside = world.mount.dir().join("outside");
    fs::write(&outside, vec![1; 2 << 20]).unwrap();
    refused(fs::rename(&outside, world.v.join("big")), libc::EXDEV);
    assert_eq!(world.used(), (0, 0));
    world.check();
}

#[test]
fn hoards_without_a_name() {
    let world = World::new();
    let mut hoard = Vec::new();
    let refusal = loop {
        let file = match File::create_new(world.v.join("f")) {
            Ok(file) => file,
            Err(error) => break error,
        };
        fs::remove_file(world.v.join("f")).unwrap();
        let wrote = file.write_all_at(&vec![1; 100_000], 0);
        hoard.push(file);
        if let Err(error) = wrote {
            break error;
        }
        assert!(hoard.len() < 100);
    };
    assert_eq!(refusal.raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(world.used(), (LIMIT, hoard.len() as u64));
    // They can be written to inside, and closing them gives all back.
    hoard[0].write_all_at(b"inside", 5000).unwrap();
    drop(hoard);
    wait_for("the last closes", || world.used() == (0, 0));

    // Held by a descriptor that opens nothing: given back, and no longer on
    // the host's disk.
    let host = world.mount.host_path("v");
    let free = || {
        rustix::fs::statvfs(&host)
            .map(|fs| fs.f_bfree * fs.f_frsize)
            .unwrap()
    };
    let mut held = Vec::new();
    let before = free();
    for n in 0..40 {
        let path = world.v.join("f");
        let file = File::create_new(&path).unwrap();
        file.write_all_at(&vec![n; 1 << 20], 0).unwrap();
        file.sync_all().unwrap();
        drop(file);
        let flags = libc::O_PATH;
        held.push(
            OpenOptions::new()
                .read(true)
                .custom_flags(flags)
                .open(&path)
                .unwrap(),
        );
        fs::remove_file(&path).unwrap();
        wait_for("the removal", || world.used() == (0, 0));
    }
    // Others use this disk too: 40 MiB would show.
    wait_for("the host has its space back", || {
        before.saturating_sub(free()) < 20 << 20
    });
    let again = OpenOptions::new()
        .read(true)
        .open(format!("/proc/self/fd/{}", held[0].as_raw_fd()));
    assert!(again.is_err(), "a removed file was opened again");
    drop(held);
    world.check();
}

#[test]
fn attributes_as_a_store() {
    let world = World::new();
    let path = world.v.join("f");
    File::create(&path).unwrap();
    let mut stored = 0;
    let mut refusal = None;
    for n in 0..200 {
        let name = format!("user.{n}");
        match rustix::fs::setxattr(&path, &name, &[7; 100], XattrFlags::empty()) {
            Ok(()) => stored += name.len() + 100,
            Err(error) => {
                refusal = Some(error);
                break;
            }
        }
    }
    assert_eq!(refusal, Some(rustix::io::Errno::NOSPC));
    assert!(stored <= 4096, "{stored} bytes in attributes");
    // One value alone, and a change of one that is there.
    let long = vec![7; 4097];
    for bytes in [&long[..], &[7; 3000]] {
        let set = rustix::fs::setxattr(&path, "user.0", bytes, XattrFlags::empty());
        assert_eq!(set, Err(rustix::io::Errno::NOSPC));
    }
    rustix::fs::setxattr(&path, "user.0", b"short", XattrFlags::empty()).unwrap();
    rustix::fs::removexattr(&path, "user.1").unwrap();
    // So the limit of inodes bounds them all.
    assert_eq!(world.used(), (0, 1));
    world.check();
}

#[test]
fn a_million_empty_names() {
    let world = World::new();
    let dir = world.v.join("dir");
    fs::create_dir(&dir).unwrap();
    let mut made = 0;
    let refusal = loop {
        match File::create_new(dir.join(made.to_string())) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 1_000_000);
    };
    assert_eq!(refusal.raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(made, 99);
    for kind in ["symlink", "directory", "fifo"] {
        let path = world.v.join("more");
        let result = match kind {
            "symlink" => std::os::unix::fs::symlink("target", path),
            "directory" => fs::create_dir(path),
            _ => errno(nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)),
        };
        refused(result, libc::ENOSPC);
    }
    fs::remove_dir_all(&dir).unwrap();
    // The kernel sends a close after close(2) has returned; until it is here the
    // file is charged although it has no name.
    wait_for("nothing to be charged", || world.used() == (0, 0));
    world.check();
}

#[test]
fn a_limit_of_bytes_alone_and_what_is_charged_no_bytes() {
    let mount = Mount::new();
    mount.volfs().ok(&["create", "v", "--quota", "1M"]);
    let v = mount.join("v");
    let target = "x".repeat(4000);
    let mut made = 0;
    let refusal = loop {
        let path = v.join(made.to_string());
        if let Err(error) = std::os::unix::fs::symlink(&target, path) {
            break error;
        }
        made += 1;
        assert!(made < 10_000);
    };
    assert_eq!(refusal.raw_os_error(), Some(libc::ENOSPC));
    // The names take something, the targets nothing.
    assert_eq!(used(&v), tree::charged(&mount.host_path("v")));
    assert_eq!(used(&v).1, 1024);
    let fs = rustix::fs::statvfs(&v).unwrap();
    assert_eq!((fs.f_files, fs.f_ffree), (1024, 0));
    // More bytes, more inodes; a limit of its own goes before.
    mount.volfs().ok(&["set", "v", "--quota", "8M"]);
    assert_eq!(rustix::fs::statvfs(&v).unwrap().f_files, 2048);
    mount.volfs().ok(&["set", "v", "--quota-inodes", "5000"]);
    assert_eq!(rustix::fs::statvfs(&v).unwrap().f_files, 5000);
}
