//! What may be done at the root of the mount, and what may not.

mod support;

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, RenameFlags, mknodat, renameat_with};
use support::user::{ALICE, BOB, as_user};
use support::{Mount, Volfs, run, wait_for};

#[track_caller]
fn refused<T>(result: io::Result<T>, errno: i32) {
    match result {
        Ok(_) => panic!("should be refused with {errno}"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(errno), "{error}"),
    }
}

#[test]
fn only_volumes_can_be_made_there() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    fs::write(volume.join("f"), "x").unwrap();
    let at = |name: &str| mount.join(name);
    refused(fs::write(at("file"), "x"), libc::EPERM);
    refused(fs::File::create_new(at("file")), libc::EPERM);
    refused(symlink("target", at("link")), libc::EPERM);
    for kind in [
        FileType::Fifo,
        FileType::Socket,
        FileType::CharacterDevice,
        FileType::RegularFile,
    ] {
        let made = mknodat(CWD, at("node"), kind, 0o600.into(), 0);
        refused(made.map_err(Into::into), libc::EPERM);
    }
    // A file cannot come in either: mv tries to copy then, and is told so.
    refused(fs::rename(volume.join("f"), at("f")), libc::EXDEV);
    refused(fs::hard_link(volume.join("f"), at("f")), libc::EPERM);
    refused(fs::remove_file(at("v")), libc::EISDIR);
    refused(fs::remove_file(at("missing")), libc::ENOENT);
    refused(fs::remove_dir(at("missing")), libc::ENOENT);
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 1);
    assert_eq!(mount.volfs().names(), ["v"]);
}

#[test]
fn mkdir_makes_a_volume_of_the_caller() {
    let mount = Mount::builder().args(&["--root-mode", "1777"]).start();
    as_user(ALICE, || {
        rustix::process::umask(0o027.into());
        fs::create_dir(mount.join("alice")).unwrap();
    });
    let stat = fs::metadata(mount.join("alice")).unwrap();
    assert_eq!((stat.uid(), stat.gid()), (1000, 1000));
    assert_eq!(stat.mode() & 0o7777, 0o750);
    as_user(ALICE, || fs::write(mount.join("alice/f"), "mine").unwrap());
    as_user(BOB, || {
        refused(fs::read_dir(mount.join("alice")), libc::EACCES);
        // Sticky: only one's own.
        refused(
            fs::rename(mount.join("alice"), mount.join("bob")),
            libc::EPERM,
        );
        refused(fs::remove_dir(mount.join("alice")), libc::EPERM);
        fs::create_dir(mount.join("bob")).unwrap();
        // Over another's, the sticky bit speaks first.
        refused(
            fs::rename(mount.join("bob"), mount.join("alice")),
            libc::EPERM,
        );
        fs::rename(mount.join("bob"), mount.join("bobs")).unwrap();
        fs::remove_dir(mount.join("bobs")).unwrap();
    });
    fs::remove_file(mount.join("alice/f")).unwrap();
    as_user(ALICE, || fs::remove_dir(mount.join("alice")).unwrap());
    refused(fs::create_dir(mount.join("bad name")), libc::EINVAL);
}

#[test]
fn a_root_of_0755_is_for_root_alone() {
    let mount = Mount::new();
    mount.volume("v");
    let stat = fs::metadata(mount.path()).unwrap();
    assert_eq!(
        (stat.uid(), stat.gid(), stat.mode() & 0o7777),
        (0, 0, 0o755)
    );
    as_user(ALICE, || {
        refused(fs::create_dir(mount.join("alice")), libc::EACCES);
        refused(fs::remove_dir(mount.join("v")), libc::EACCES);
        refused(fs::rename(mount.join("v"), mount.join("w")), libc::EACCES);
        assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 1);
    });
}

#[test]
fn rmdir_removes_empty_volumes_only() {
    let mount = Mount::new();
    for (name, thing) in [("file", 'f'), ("dir", 'd'), ("link", 'l'), ("hidden", 'h')] {
        let volume = mount.volume(name);
        match thing {
            'f' => fs::write(volume.join("x"), "").unwrap(),
            'd' => fs::create_dir(volume.join("x")).unwrap(),
            'l' => symlink("nowhere", volume.join("x")).unwrap(),
            _ => fs::write(volume.join(".x"), "").unwrap(),
        }
        refused(fs::remove_dir(&volume), libc::ENOTEMPTY);
    }
    assert_eq!(mount.volfs().names().len(), 4);
    fs::remove_file(mount.join("file/x")).unwrap();
    fs::remove_dir(mount.join("file")).unwrap();
    assert!(!mount.join("file").exists());
    refused(fs::remove_dir(mount.join("file")), libc::ENOENT);
    // The name can be used again at once, and is another volume.
    let volume = mount.volume("file");
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
}

#[test]
fn rmdir_can_mean_the_trash() {
    let mount = Mount::builder().args(&["--rmdir", "trash"]).start();
    fs::write(mount.volume("full").join("f"), "kept").unwrap();
    fs::remove_dir(mount.join("full")).unwrap();
    assert!(!mount.join("full").exists());
    mount.volfs().ok(&["trash", "restore", "full"]);
    assert_eq!(fs::read_to_string(mount.join("full/f")).unwrap(), "kept");
    let run = std::process::Command::new("rm")
        .arg("-rf")
        .arg(mount.join("full"))
        .status();
    assert!(run.unwrap().success());
    assert!(mount.volfs().names().is_empty());
}

#[test]
fn mv_renames_a_volume_also_in_use() {
    let mount = Mount::new();
    let old = mount.volume("old");
    fs::write(old.join("f"), "content").unwrap();
    let open = fs::File::open(old.join("f")).unwrap();
    let ino = fs::metadata(&old).unwrap().ino();
    fs::rename(&old, mount.join("new")).unwrap();
    assert!(!old.exists());
    assert_eq!(fs::metadata(mount.join("new")).unwrap().ino(), ino);
    assert_eq!(fs::read_to_string(mount.join("new/f")).unwrap(), "content");
    assert_eq!(open.metadata().unwrap().len(), 7);
    assert_eq!(mount.volfs().names(), ["new"]);

    // An existing name is never replaced, full or empty.
    let other = mount.volume("other");
    refused(fs::rename(mount.join("new"), &other), libc::EEXIST);
    let rename = |from: &str, to: &str, flags| {
        let result = renameat_with(CWD, mount.join(from), CWD, mount.join(to), flags);
        result.map_err(io::Error::from)
    };
    refused(rename("new", "other", RenameFlags::NOREPLACE), libc::EEXIST);
    rename("new", "third", RenameFlags::NOREPLACE).unwrap();
    rename("third", "other", RenameFlags::EXCHANGE).unwrap();
    assert!(mount.join("other/f").exists());
    assert!(!mount.join("third/f").exists());
    refused(
        rename("third", "missing", RenameFlags::EXCHANGE),
        libc::ENOENT,
    );
    refused(rename("missing", "x", RenameFlags::empty()), libc::ENOENT);
    for bad in ["bad name", "-x", "a*"] {
        refused(rename("third", bad, RenameFlags::empty()), libc::EINVAL);
    }
    refused(
        rename("third", ".hidden", RenameFlags::empty()),
        libc::EPERM,
    );
    let long = "n".repeat(256);
    refused(
        rename("third", &long, RenameFlags::empty()),
        libc::ENAMETOOLONG,
    );
    assert_eq!(mount.volfs().names(), ["other", "third"]);
}

#[test]
fn nothing_crosses_between_volumes() {
    let mount = Mount::new();
    let (a, b) = (mount.volume("a"), mount.volume("b"));
    fs::write(a.join("f"), "x").unwrap();
    fs::create_dir(a.join("dir")).unwrap();
    refused(fs::rename(a.join("f"), b.join("f")), libc::EXDEV);
    refused(fs::rename(a.join("dir"), b.join("dir")), libc::EXDEV);
    refused(fs::hard_link(a.join("f"), b.join("f")), libc::EXDEV);
    let both = (a.join("f"), b.join("f"));
    fs::write(&both.1, "y").unwrap();
    let exchange = renameat_with(CWD, &both.0, CWD, &both.1, RenameFlags::EXCHANGE);
    refused(exchange.map_err(Into::into), libc::EXDEV);
    // A directory of a volume does not become one, a volume no directory.
    refused(fs::rename(a.join("dir"), mount.join("dir")), libc::EXDEV);
    refused(fs::rename(mount.join("b"), a.join("dir/b")), libc::EXDEV);
    refused(fs::rename(mount.join("a"), a.join("dir/a")), libc::EINVAL);
    assert_eq!(mount.volfs().names(), ["a", "b"]);
    assert_eq!(fs::read_dir(&a).unwrap().count(), 2);
}

#[test]
fn attributes_of_a_volumes_root_are_kept() {
    let mut mount = Mount::new();
    let volume = mount.volume("v");
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o2770)).unwrap();
    std::os::unix::fs::chown(&volume, Some(1000), Some(2000)).unwrap();
    run(std::process::Command::new("setfattr")
        .args(["-n", "user.a", "-v", "b"])
        .arg(&volume));
    mount.remount();
    let stat = fs::metadata(&volume).unwrap();
    assert_eq!(
        (stat.uid(), stat.gid(), stat.mode() & 0o7777),
        (1000, 2000, 0o2770)
    );
    let value = run(std::process::Command::new("getfattr")
        .args(["--only-values", "-n", "user.a"])
        .arg(&volume));
    assert_eq!(value, "b");
    // The root of the mount itself takes no changes.
    assert!(fs::set_permissions(mount.path(), fs::Permissions::from_mode(0o777)).is_err());
}

#[test]
fn the_control_directory_can_be_entered_but_is_not_listed() {
    let mount = Mount::new();
    mount.volume("v");
    let names: Vec<_> = fs::read_dir(mount.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(names, ["v"]);
    let control = mount.join(".volfs");
    assert!(control.is_dir());
    let version = fs::read_to_string(control.join("version")).unwrap();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let volumes: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(control.join("volumes.json")).unwrap()).unwrap();
    assert!(volumes.to_string().contains("\"v\""), "{volumes}");
    for act in [
        fs::write(control.join("version"), "x"),
        fs::write(control.join("new"), "x"),
        fs::create_dir(control.join("dir")),
        fs::remove_file(control.join("version")),
        fs::rename(&control, mount.join("x")),
        fs::remove_dir(&control),
    ] {
        let error = act.unwrap_err();
        let errno = error.raw_os_error().unwrap();
        let expected = [libc::EPERM, libc::EACCES, libc::EROFS];
        assert!(expected.contains(&errno), "{error}");
    }
    // rm -rf of everything shown leaves it alone.
    let all = format!("rm -rf {}/*", mount.path().display());
    run(std::process::Command::new("sh").args(["-euc", &all]));
    assert!(control.join("version").exists());
}

/// `rmdir` and `volfs rm` of a volume that something holds: EBUSY, by whom.
fn held(mount: &Mount, volume: &Path, how: &str, hold: impl FnOnce() -> Box<dyn FnOnce()>) {
    let name = volume.file_name().unwrap().to_str().unwrap();
    let release = hold();
    refused(fs::remove_dir(volume), libc::EBUSY);
    let volfs: Volfs = mount.volfs();
    for command in [&["rm", name][..], &["rm", "--purge", name]] {
        let complaint = volfs.fails(1, command);
        assert!(
            complaint.contains("in use") && complaint.contains(how),
            "{complaint}"
        );
    }
    let explained = fs::read_to_string(mount.join(".volfs/last_error")).unwrap();
    assert!(explained.contains(name), "{explained}");
    release();
    wait_for("the volume is free", || fs::remove_dir(volume).is_ok());
}

#[test]
fn an_open_file_blocks_rmdir() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    held(&mount, &volume, "open", || {
        let file = fs::File::create(volume.join("f")).unwrap();
        fs::remove_file(volume.join("f")).unwrap();
        Box::new(|| drop(file))
    });
    let volume = mount.volume("w");
    held(&mount, &volume, "open", || {
        let dir = fs::File::open(&volume).unwrap();
        Box::new(|| drop(dir))
    });
}

#[test]
fn a_working_directory_blocks_rmdir() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    held(&mount, &volume, "working directory", || {
        let mut process = std::process::Command::new("cat")
            .current_dir(&volume)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        Box::new(move || {
            drop(process.stdin.take());
            process.wait().unwrap();
        })
    });
}

#[test]
fn a_bind_mount_blocks_rmdir() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    let target = mount.dir().mkdir("bind");
    held(&mount, &volume, "bind mount", || {
        run(std::process::Command::new("mount")
            .arg("--bind")
            .args([&volume, &target]));
        let target = target.clone();
        Box::new(move || {
            run(std::process::Command::new("umount").arg(target));
        })
    });
    // Also in another mount namespace, where it is not seen from here.
    let volume = mount.volume("w");
    held(&mount, &volume, "bind mount", || {
        let mut process = std::process::Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-euc",
                "mount --bind \"$0\" \"$1\"; echo; cat > /dev/null",
            ])
            .args([&volume, &target])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0];
        io::Read::read_exact(process.stdout.as_mut().unwrap(), &mut line).unwrap();
        Box::new(move || {
            drop(process.stdin.take());
            process.wait().unwrap();
        })
    });
}

#[test]
fn a_pinned_volume_is_not_removed() {
    let mount = Mount::new();
    mount.volume("v");
    mount.volfs().ok(&["set", "v", "--pin"]);
    refused(fs::remove_dir(mount.join("v")), libc::EPERM);
    mount.volfs().fails(1, &["rm", "v"]);
    mount.volfs().ok(&["set", "v", "--unpin"]);
    fs::remove_dir(mount.join("v")).unwrap();
}

#[test]
fn commands_and_the_mount_agree_at_once() {
    let mount = Mount::new();
    let volfs = mount.volfs();
    assert!(!mount.join("by-command").exists());
    volfs.ok(&[
        "create",
        "by-command",
        "--owner",
        "1000:2000",
        "--mode",
        "2770",
    ]);
    let stat = fs::metadata(mount.join("by-command")).unwrap();
    assert_eq!(
        (stat.uid(), stat.gid(), stat.mode() & 0o7777),
        (1000, 2000, 0o2770)
    );
    volfs.ok(&["mv", "by-command", "renamed"]);
    assert!(!mount.join("by-command").exists());
    fs::write(mount.join("renamed/f"), "x").unwrap();
    volfs.ok(&["rm", "renamed"]);
    assert!(!mount.join("renamed").exists());
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 0);
    volfs.ok(&["trash", "restore", "renamed"]);
    assert_eq!(fs::read_to_string(mount.join("renamed/f")).unwrap(), "x");
    volfs.ok(&["rm", "--purge", "renamed"]);
    assert!(!mount.join("renamed").exists());
    let path = volfs.run(&["path", "renamed"]);
    assert_eq!(path.code, Some(1));
}

#[test]
fn who_may_not_list_the_root_learns_no_names_from_the_control_tree() {
    for (mode, may_list) in [
        ("711", false),
        ("750", false),
        ("751", false),
        ("755", true),
    ] {
        let mount = Mount::builder().args(&["--root-mode", mode]).start();
        mount.volume("secret");
        let control = mount.join(".volfs");
        let enters = !mode.ends_with('0');
        as_user(ALICE, || {
            assert_eq!(fs::read_dir(mount.path()).is_ok(), may_list);
            for name in ["volumes.json", "stats.json", "events.jsonl"] {
                let read = fs::read(control.join(name)).map(|text| text.len());
                assert_eq!(read.is_ok(), may_list, "{mode} {name}: {read:?}");
            }
            assert_eq!(fs::read_dir(control.join("disks")).is_ok(), may_list);
            for name in ["version", "last_error"] {
                let read = fs::read(control.join(name)).map(|text| text.len());
                assert_eq!(read.is_ok(), enters, "{mode} {name}: {read:?}");
            }
        });
        let text = fs::read_to_string(control.join("volumes.json")).unwrap();
        assert!(text.contains("secret"));
    }
}
