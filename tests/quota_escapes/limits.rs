//! The limit itself: who may change it, and what is open when it comes.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::XattrFlags;

use crate::support::user::{ALICE, BOB, as_user, command_as};
use crate::support::{Mount, run, tree, wait_for};
use crate::{LIMIT, World, attribute, refused, used};

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
