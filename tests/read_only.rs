//! A volume that is read-only: nobody changes what is in it, by whatever way, and who
//! could is named when it is made so.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FileType, Mode, OFlags, XattrFlags};
use support::map::{Map, Sharing};
use support::{Mount, Volfs, output, run, run_in};

/// A volume with something of everything.
fn fill(volume: &Path) {
    fs::write(volume.join("f"), "content").unwrap();
    fs::create_dir_all(volume.join("dir/sub")).unwrap();
    fs::write(volume.join("dir/g"), "more").unwrap();
    symlink("f", volume.join("link")).unwrap();
    rustix::fs::setxattr(volume.join("f"), "user.k", b"v", XattrFlags::empty()).unwrap();
}

/// All there is to see of a tree, times of changes among it.
fn tree(volume: &Path) -> String {
    let all = run_in(
        volume,
        "find",
        &[".", "-printf", "%p %i %n %s %m %U %T@ %C@\\n"],
    );
    let mut lines: Vec<&str> = all.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Every call that changes something, with its name.
fn changes(volume: &Path) -> Vec<(&'static str, io::Result<()>)> {
    let at = |name: &str| volume.join(name);
    let open = |flags: OFlags| {
        rustix::fs::open(at("f"), flags, Mode::empty())
            .map(drop)
            .map_err(io::Error::from)
    };
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        },
    };
    let cwd = rustix::fs::CWD;
    vec![
        ("open for writing", open(OFlags::WRONLY)),
        ("open for both", open(OFlags::RDWR)),
        ("open to append", open(OFlags::WRONLY | OFlags::APPEND)),
        ("open to empty", open(OFlags::RDONLY | OFlags::TRUNC)),
        ("create", File::create_new(at("new")).map(drop)),
        ("mkdir", fs::create_dir(at("new"))),
        (
            "mknod",
            rustix::fs::mknodat(cwd, at("new"), FileType::Fifo, Mode::RWXU, 0).map_err(Into::into),
        ),
        ("symlink", symlink("f", at("new"))),
        ("link", fs::hard_link(at("f"), at("new"))),
        ("unlink", fs::remove_file(at("f"))),
        ("rmdir", fs::remove_dir(at("dir/sub"))),
        ("rename", fs::rename(at("f"), at("new"))),
        ("rename over", fs::rename(at("dir/g"), at("f"))),
        ("truncate", Err(truncate(&at("f")))),
        (
            "chmod",
            fs::set_permissions(at("f"), fs::Permissions::from_mode(0o600)),
        ),
        (
            "chmod of the root",
            fs::set_permissions(volume, fs::Permissions::from_mode(0o700)),
        ),
        ("chown", chown(at("f"), Some(1), Some(1))),
        (
            "times",
            rustix::fs::utimensat(cwd, at("f"), &times, rustix::fs::AtFlags::empty())
                .map_err(Into::into),
        ),
        (
            "setxattr",
            rustix::fs::setxattr(at("f"), "user.x", b"v", XattrFlags::empty()).map_err(Into::into),
        ),
        (
            "removexattr",
            rustix::fs::removexattr(at("f"), "user.k").map_err(Into::into),
        ),
    ]
}

fn truncate(path: &Path) -> io::Error {
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    nix::unistd::truncate(path.as_c_str(), 1)
        .map_or_else(Into::into, |()| io::Error::other("it was truncated"))
}

fn refuses_all(volume: &Path) {
    let before = tree(volume);
    for (what, result) in changes(volume) {
        let error = result.expect_err(what);
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{what}: {error}");
    }
    assert_eq!(tree(volume), before);
    let flag = output(Command::new("chattr").arg("+d").arg(volume.join("f")));
    let said = String::from_utf8(flag.stderr).unwrap();
    assert!(
        said.contains("Read-only file system") || said.contains("not supported"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(volume.join("link")).unwrap(), "content");
    let mut text = String::new();
    File::open(volume.join("dir/g"))
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "more");
}

fn check(create: &[&str], mount: &[&str]) {
    let mut mount = Mount::builder().args(mount).start();
    let volfs = mount.volfs();
    volfs.ok(&[&["create", "v"], create].concat());
    let volume = mount.join("v");
    fill(&volume);
    volfs.ok(&["set", "v", "--read-only"]);
    refuses_all(&volume);
    let said = fs::read_to_string(mount.join(".volfs/last_error")).unwrap();
    assert!(
        said.contains("volume \"v\" is read-only; 'volfs set v --no-read-only'"),
        "{said}"
    );
    // By another path, too, and for whoever takes over or comes back.
    let place = mount.dir().mkdir("place");
    run(Command::new("mount").arg("--bind").arg(&volume).arg(&place));
    refuses_all(&place);
    run(Command::new("umount").arg(&place));
    mount.remount();
    refuses_all(&volume);
    mount.kill();
    mount.start();
    refuses_all(&volume);
    volfs.ok(&["set", "v", "--no-read-only"]);
    for (what, result) in changes(&volume) {
        let done = match result {
            Ok(()) => true,
            Err(error) => error.raw_os_error() != Some(libc::EROFS),
        };
        assert!(done, "{what}");
    }
}

#[test]
fn nothing_changes_by_passthrough() {
    check(&[], &[]);
}

#[test]
fn nothing_changes_through_the_daemon() {
    check(&[], &["--no-passthrough"]);
}

#[test]
fn nothing_changes_under_a_limit() {
    check(&["--quota", "10M"], &[]);
}

#[test]
fn nothing_changes_in_a_disk_volume() {
    check(&["--disk", "--size", "32M"], &[]);
}

/// The pin protects the name, this the contents.
#[test]
fn rm_rf_leaves_everything() {
    let mount = Mount::new();
    let volfs = mount.volfs();
    let volume = mount.volume("v");
    fill(&volume);
    let before = tree(&volume);
    volfs.ok(&["set", "v", "--read-only", "--pin"]);
    assert!(
        !output(Command::new("rm").arg("-rf").arg(&volume))
            .status
            .success()
    );
    assert_eq!(tree(&volume), before);
    // What is not its contents changes.
    volfs.ok(&["set", "v", "--label", "k=v", "--quota", "1G", "--unpin"]);
    volfs.ok(&["mv", "v", "w"]);
    fs::rename(mount.join("w"), mount.join("v")).unwrap();
    assert_eq!(volfs.ok(&["ls", "-q", "-f", "read-only"]), "v\n");
    assert!(volfs.ok(&["ls"]).contains("(read-only) k=v"));
    volfs.ok(&["clone", "v", "copy"]);
    File::create(mount.join("copy/new")).unwrap();
    volfs.ok(&["rm", "v"]);
    volfs.ok(&["trash", "restore", "v"]);
    refuses_all(&volume);
}

fn refused(volfs: &Volfs) -> String {
    volfs.fails(1, &["set", "v", "--read-only"])
}

/// Who has a file open goes on to write, by passthrough without us: so it is refused.
fn names_writers(mount: &Mount) {
    let volfs = mount.volfs();
    let volume = mount.join("v");
    fs::write(volume.join("f"), "content").unwrap();
    let me = format!("process {}", std::process::id());
    for flags in [OFlags::WRONLY, OFlags::RDWR | OFlags::APPEND] {
        let open = rustix::fs::open(volume.join("f"), flags, Mode::empty()).unwrap();
        let said = refused(&volfs);
        assert!(
            said.contains("open for writing") && said.contains(&me),
            "{said}"
        );
        // And nothing has changed by that.
        rustix::io::write(&open, b"more").unwrap();
        File::create(volume.join("other")).unwrap();
    }
    let reader = File::open(volume.join("f")).unwrap();
    volfs.ok(&["set", "v", "--read-only"]);
    assert!(File::create(volume.join("new")).is_err());
    volfs.ok(&["set", "v", "--no-read-only"]);
    drop(reader);

    // Mapped, and closed.
    let mapped = |writable: bool, flags: OFlags| {
        let file = rustix::fs::open(volume.join("f"), flags, Mode::empty()).unwrap();
        Map::new(&file, 5, Sharing::Shared, writable).unwrap()
    };
    let writable = mapped(true, OFlags::RDWR);
    assert!(refused(&volfs).contains(&me));
    drop(writable);
    let may_become = mapped(false, OFlags::RDWR);
    assert!(refused(&volfs).contains(&me));
    drop(may_become);
    let for_reading = mapped(false, OFlags::RDONLY);
    volfs.ok(&["set", "v", "--read-only"]);
    drop(for_reading);
}

#[test]
fn who_writes_is_named() {
    let mount = Mount::new();
    mount.volume("v");
    names_writers(&mount);
    mount.volfs().ok(&["create", "--quota", "10M", "w"]);
    mount.volfs().ok(&["set", "v", "--no-read-only"]);
    mount.volfs().ok(&["mv", "v", "old"]);
    mount.volfs().ok(&["mv", "w", "v"]);
    names_writers(&mount);
}

/// When the command says that it is done, nothing changes any more.
#[test]
fn nothing_slips_by() {
    let mount = Mount::new();
    let volfs = mount.volfs();
    let volume = mount.volume("v");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for n in 0..3 {
            let (volume, stop) = (&volume, &stop);
            scope.spawn(move || {
                let (file, dir) = (volume.join(format!("f{n}")), volume.join(format!("d{n}")));
                while !stop.load(Ordering::Relaxed) {
                    let mut append = OpenOptions::new();
                    if let Ok(mut file) = append.append(true).create(true).open(&file) {
                        let _ = file.write_all(b"x");
                    }
                    let _ = fs::create_dir(&dir);
                    let _ = fs::remove_dir(&dir);
                }
            });
        }
        for _ in 0..10 {
            while volfs.run(&["set", "v", "--read-only"]).code != Some(0) {}
            let before = tree(&volume);
            for _ in 0..5 {
                volfs.ok(&["ls"]);
            }
            assert_eq!(tree(&volume), before);
            volfs.ok(&["set", "v", "--no-read-only"]);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_catalogue_made_anew_keeps_it() {
    let mut mount = Mount::new();
    let volume = mount.volume("v");
    fill(&volume);
    mount.volfs().ok(&["set", "v", "--read-only"]);
    mount.stop();
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(mount.store().join(format!("meta.db{suffix}")));
    }
    mount.volfs().ok(&["doctor", "--rebuild-catalogue"]);
    mount.start();
    refuses_all(&volume);
}
