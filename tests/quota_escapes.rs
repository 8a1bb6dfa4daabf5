//! Ways around a limit, each tried on a real mount: refused, or charged.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{FallocateFlags, fallocate};
use rustix::fs::XattrFlags;
use support::map::{Map, Sharing};
use support::user::{ALICE, BOB, as_user, command_as};
use support::{Mount, output, run, tree, wait_for};

const LIMIT: u64 = 1 << 20;

#[track_caller]
fn refused<T>(result: io::Result<T>, errno: i32) {
    match result {
        Ok(_) => panic!("should be refused with {errno}"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(errno), "{error}"),
    }
}

fn errno<T>(result: nix::Result<T>) -> io::Result<T> {
    result.map_err(|errno| io::Error::from_raw_os_error(errno as i32))
}

/// A mount with the volume `v`, limited to 1 MiB and 100 inodes.
struct World {
    mount: Mount,
    v: PathBuf,
}

impl World {
    fn new() -> Self {
        let mount = Mount::new();
        mount.volfs().ok(&[
            "create",
            "v",
            "--quota",
            "1M",
            "--quota-inodes",
            "100",
            "--owner",
            "1000:1000",
        ]);
        let v = mount.join("v");
        Self { mount, v }
    }

    fn used(&self) -> (u64, u64) {
        used(&self.v)
    }

    /// Usage is a walk's, and what the host stores for the volume is no more
    /// than it is charged and what directories and inodes themselves take.
    fn check(&self) {
        let host = self.mount.host_path("v");
        wait_for("usage is a walk's", || self.used() == tree::charged(&host));
        assert!(
            self.used().0 <= LIMIT && self.used().1 <= 100,
            "{:?}",
            self.used()
        );
        assert_eq!(self.mount.daemon_complaints(), "");
    }
}

fn attribute(path: &Path, name: &str) -> rustix::io::Result<String> {
    let mut buffer = [0; 256];
    let len = rustix::fs::getxattr(path, name, &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
}

fn used(volume: &Path) -> (u64, u64) {
    let of = |name| attribute(volume, name).unwrap().parse().unwrap();
    (of("volfs.used.bytes"), of("volfs.used.inodes"))
}

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
            .args(["writes_past_the_end_of_a_mapping", "--exact", "--ignored"])
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
        let cloned = support::ioctl_int(&to, FICLONE, from.as_raw_fd());
        assert!(cloned.is_err(), "a reflink was made");
        assert_eq!(world.used(), (LIMIT / 2, 2));
    }
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
    assert_eq!(used(&v), (0, 1024));
    let fs = rustix::fs::statvfs(&v).unwrap();
    assert_eq!((fs.f_files, fs.f_ffree), (1024, 0));
    // More bytes, more inodes; a limit of its own goes before.
    mount.volfs().ok(&["set", "v", "--quota", "8M"]);
    assert_eq!(rustix::fs::statvfs(&v).unwrap().f_files, 2048);
    mount.volfs().ok(&["set", "v", "--quota-inodes", "5000"]);
    assert_eq!(rustix::fs::statvfs(&v).unwrap().f_files, 5000);
}

/// Tries to raise the limit of /data by every way of setting it.
const RAISE: &str = "
    id -u
    ! setfattr -n volfs.quota.bytes -v 1T /data 2>&1
    ! setfattr -n volfs.quota.inodes -v 1000000 /data 2>&1
    ! setfattr -x volfs.quota.bytes /data 2>&1
    ! setfattr -n volfs.label.a -v b /data 2>&1
    echo done";

fn jail(volume: &Path, user: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--ro-bind",
        "/usr",
        "/usr",
        "--symlink",
        "usr/bin",
        "/bin",
        "--symlink",
        "usr/lib",
        "/lib",
        "--symlink",
        "usr/lib64",
        "/lib64",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--die-with-parent",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.extend(user.iter().map(|&a| a.to_owned()));
    arguments.extend([
        "--bind".into(),
        volume.to_str().unwrap().into(),
        "/data".into(),
    ]);
    arguments.extend(["sh", "-euc", RAISE].map(str::to_owned));
    arguments
}

#[test]
fn raising_the_limit_from_inside() {
    let world = World::new();
    let limit = || attribute(&world.v, "volfs.quota.bytes").unwrap();
    let as_root = [
        "--unshare-user",
        "--uid",
        "0",
        "--gid",
        "0",
        "--unshare-pid",
    ];
    let cases: [(&str, &[&str], Command); 5] = [
        (
            "root's jail with its ids",
            &["--unshare-pid"],
            Command::new("bwrap"),
        ),
        (
            "root's jail with a namespace",
            &as_root,
            Command::new("bwrap"),
        ),
        (
            "the owner's jail as its root",
            &as_root,
            command_as(ALICE, "bwrap"),
        ),
        (
            "the owner's jail",
            &["--unshare-user"],
            command_as(ALICE, "bwrap"),
        ),
        (
            "another user's jail as its root",
            &as_root,
            command_as(BOB, "bwrap"),
        ),
    ];
    for (who, user, mut command) in cases {
        let said = run(command.args(jail(&world.v, user)));
        assert!(said.ends_with("done\n"), "{who}: {said}");
        // EACCES where the kernel does not let it come to a question.
        let refusals = said.matches(": Operation not permitted").count()
            + said.matches(": Permission denied").count();
        assert_eq!(refusals, 4, "{who}: {said}");
        assert_eq!(limit(), LIMIT.to_string(), "{who}");
    }
    let set = || rustix::fs::setxattr(&world.v, "volfs.quota.bytes", b"1T", XattrFlags::empty());
    assert_eq!(as_user(ALICE, set), Err(rustix::io::Errno::PERM));
    let last_error = world.mount.join(".volfs/last_error");
    let said = as_user(ALICE, || fs::read_to_string(&last_error).unwrap());
    assert!(said.contains("only root"), "{said}");
    // Not an owner: the kernel does not even ask.
    assert_eq!(as_user(BOB, set), Err(rustix::io::Errno::ACCESS));
    assert_eq!(limit(), LIMIT.to_string());
    // Outside, root may.
    run(Command::new("setfattr")
        .args(["-n", "volfs.quota.bytes", "-v", "2M"])
        .arg(&world.v));
    assert_eq!(limit(), (2 << 20).to_string());
}

#[test]
fn a_first_limit_while_somebody_writes_uncounted() {
    let mount = Mount::new();
    let v = mount.volume("v");
    let file = File::create(v.join("f")).unwrap();
    file.write_all_at(&[1; 5000], 0).unwrap();
    let stats = fs::read_to_string(mount.join(".volfs/stats.json")).unwrap();
    assert!(
        stats.contains("\"open_files_passthrough\": 1"),
        "no passthrough: {stats}"
    );
    let said = mount.volfs().fails(1, &["set", "v", "--quota", "64K"]);
    assert!(
        said.contains("open for writing") && said.contains("close"),
        "{said}"
    );
    let set = rustix::fs::setxattr(&v, "volfs.quota.bytes", b"64K", XattrFlags::empty());
    assert_eq!(set, Err(rustix::io::Errno::BUSY));
    let why = fs::read_to_string(mount.join(".volfs/last_error")).unwrap();
    assert!(why.contains("open for writing"), "{why}");
    // Nothing was limited by the attempts.
    file.write_all_at(&[1; 200_000], 0).unwrap();
    file.set_len(5000).unwrap();
    drop(file);
    mount.volfs().ok(&["set", "v", "--quota", "64K"]);
    assert_eq!(used(&v).0, 8192);
    refused(fs::write(v.join("g"), vec![1; 100_000]), libc::ENOSPC);
    assert_eq!(used(&v).0, 64 << 10);
    assert_eq!(mount.daemon_complaints(), "");
}

#[test]
fn readers_of_before_the_limit_and_writers_after_it() {
    let mount = Mount::new();
    let v = mount.volume("v");
    fs::write(v.join("f"), vec![1; 5000]).unwrap();
    let mut reader = File::open(v.join("f")).unwrap();
    let mut first = [0; 100];
    reader.read_exact(&mut first).unwrap();
    mount.volfs().ok(&["set", "v", "--quota", "64K"]);
    let writer = OpenOptions::new()
        .read(true)
        .write(true)
        .open(v.join("f"))
        .unwrap();
    writer.write_all_at(&[2; 20_000], 0).unwrap();
    assert_eq!(used(&v), (20_480, 1));
    let written = writer.write_at(&vec![3; 100_000], 20_000).unwrap() as u64;
    assert_eq!(written, (64 << 10) - 20_000);
    refused(writer.write_at(b"x", 64 << 10), libc::ENOSPC);
    // Both see what was written, at once.
    let mut seen = vec![0; 20_000];
    reader.read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(seen, vec![2; 20_000]);
    writer.read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(seen, vec![2; 20_000]);
    drop(reader);
    writer.write_all_at(&[4; 10], 0).unwrap();
    writer.set_len(0).unwrap();
    assert_eq!(used(&v), (0, 1));
    drop(writer);
    assert_eq!(tree::charged(&mount.host_path("v")), used(&v));
    assert_eq!(mount.daemon_complaints(), "");
}

#[test]
fn a_writer_of_a_mount_whose_daemon_was_killed() {
    let mut mount = Mount::new();
    let v = mount.volume("v");
    let mut writer = Command::new("sh")
        .args([
            "-c",
            "exec 3<>\"$0\"; echo open >&3; read go; head -c 100000 /dev/zero >&3",
        ])
        .arg(v.join("f"))
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("it writes", || {
        fs::read(v.join("f")).is_ok_and(|text| text == b"open\n")
    });
    mount.kill();
    mount.start();
    let said = mount.volfs().fails(1, &["set", "v", "--quota", "64K"]);
    assert!(said.contains(&writer.id().to_string()), "{said}");
    // What it goes on to write is counted when it has ended.
    drop(writer.stdin.take());
    writer.wait().unwrap();
    mount.volfs().ok(&["set", "v", "--quota", "64K"]);
    let host = mount.host_path("v");
    wait_for("a count", || used(&v) == tree::charged(&host));
    refused(fs::write(v.join("g"), vec![1; 100_000]), libc::ENOSPC);
}
