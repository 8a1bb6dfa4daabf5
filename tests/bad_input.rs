//! Bad input: each a clear error, and nothing changed.

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Mount, TestDir, Volfs, proc, run};

/// The error is about `about`, fits on a few lines and is no debug output.
#[track_caller]
fn is_clear(complaint: &str, about: &[&str]) {
    for part in about {
        assert!(complaint.contains(part), "{part:?} is not in: {complaint}");
    }
    let starts = ["volfs: ", "error: "]
        .iter()
        .any(|s| complaint.starts_with(s));
    assert!(starts, "{complaint}");
    assert!(complaint.lines().count() <= 4, "{complaint}");
    for ugly in ["panicked", "Err(", "Error {", "unwrap", "os error 0"] {
        assert!(!complaint.contains(ugly), "{ugly:?} is in: {complaint}");
    }
}

/// Everything in a store that can be compared, without what a daemon or SQLite
/// keeps for itself.
fn picture(store: &Path) -> String {
    run(Command::new("find")
        .arg(store)
        .args(["-path", "*/volumes*", "-o", "-path", "*/trash*"]))
}

const BAD_NAMES: &[&[u8]] = &[
    b"with space",
    b".hidden",
    b"..x",
    b"-dash",
    b"_x",
    b"a*b",
    b"a:b",
    b"new\nline",
    b"\x7f",
    "\u{e9}t\u{e9}".as_bytes(),
    b"\xff\xfe",
    b"a\x80",
];

#[test]
fn names_on_the_mount() {
    let mount = Mount::new();
    mount.volume("good");
    let before = picture(mount.store());
    for name in BAD_NAMES {
        let name = OsStr::from_bytes(name);
        let error = fs::create_dir(mount.join(name)).unwrap_err();
        let errno = error.raw_os_error().unwrap();
        assert!(
            [libc::EINVAL, libc::EPERM].contains(&errno),
            "{name:?}: {error}"
        );
        let error = fs::rename(mount.join("good"), mount.join(name)).unwrap_err();
        let errno = error.raw_os_error().unwrap();
        assert!(
            [libc::EINVAL, libc::EPERM].contains(&errno),
            "{name:?}: {error}"
        );
        assert!(fs::metadata(mount.join(name)).is_err());
        let explained = fs::read_to_string(mount.join(".volfs/last_error")).unwrap();
        assert!(explained.contains("name"), "{explained}");
    }
    let longest = "n".repeat(255);
    fs::create_dir(mount.join(&longest)).unwrap();
    fs::remove_dir(mount.join(&longest)).unwrap();
    for length in [256, 300, 4000] {
        let error = fs::create_dir(mount.join("n".repeat(length))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG));
    }
    let error = fs::create_dir(mount.join("good")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
    assert_eq!(picture(mount.store()), before);
}

#[test]
fn names_on_the_command_line() {
    let mut mount = Mount::new();
    mount.volume("good");
    // With a daemon, and without.
    for online in [true, false] {
        if !online {
            mount.stop();
        }
        let volfs = mount.volfs();
        let before = picture(mount.store());
        for name in BAD_NAMES {
            let name = OsStr::from_bytes(name);
            let create = [OsStr::new("create"), OsStr::new("--"), name];
            is_clear(&volfs.fails(2, &create), &["name"]);
            let mv = [OsStr::new("mv"), OsStr::new("--"), OsStr::new("good"), name];
            is_clear(&volfs.fails(2, &mv), &["name"]);
        }
        let long = "n".repeat(256);
        is_clear(&volfs.fails(2, &["create", &long]), &["255"]);
        is_clear(&volfs.fails(2, &["create", ""]), &["name"]);
        is_clear(
            &volfs.fails(1, &["create", "good"]),
            &["good", "already exists"],
        );
        is_clear(
            &volfs.fails(1, &["rm", "missing"]),
            &["missing", "volfs ls"],
        );
        is_clear(&volfs.fails(1, &["mv", "missing", "x"]), &["missing"]);
        is_clear(&volfs.fails(1, &["inspect", "missing"]), &["missing"]);
        is_clear(&volfs.fails(1, &["path", "missing"]), &["missing"]);
        is_clear(
            &volfs.fails(1, &["trash", "restore", "missing"]),
            &["missing"],
        );
        is_clear(&volfs.fails(2, &["create", "x", "--quota", "0"]), &[]);
        is_clear(&volfs.fails(2, &["create", "x", "--quota", "-5"]), &[]);
        is_clear(
            &volfs.fails(2, &["create", "x", "--quota", "lots"]),
            &["lots"],
        );
        is_clear(&volfs.fails(2, &["create", "x", "--mode", "999"]), &["999"]);
        let owner = ["create", "x", "--owner", "no-such-user"];
        assert!([1, 2].contains(&volfs.run(&owner).code.unwrap()));
        assert_eq!(picture(mount.store()), before);
        assert_eq!(volfs.names(), ["good"]);
    }
}

#[test]
fn usage_errors_end_with_2() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.mkdir("store"));
    for wrong in [
        &["no-such-command"][..],
        &["create"],
        &["mount"],
        &["mount", "--no-such-option", "/mnt"],
        &["mount", "--rmdir", "sometimes", "/mnt"],
        &["mount", "--root-mode", "rwx", "/mnt"],
        &["mount", "-o", "no_such_option", "/mnt"],
        &["mv", "a"],
        &["umount"],
    ] {
        volfs.fails(2, wrong);
    }
    assert_eq!(fs::read_dir(volfs.store()).unwrap().count(), 0);
}

#[test]
fn mountpoints_that_cannot_be_used() {
    let mount = Mount::new();
    let dir = mount.dir();
    let volfs = Volfs::new(&dir.mkdir("other-store"));
    let refused = |mountpoint: &Path, about: &[&str]| {
        let before = proc::mounts_under(dir.path());
        for how in [&["mount"][..], &["mount", "--foreground"]] {
            let arguments: Vec<&Path> = how.iter().map(Path::new).chain([mountpoint]).collect();
            let complaint = volfs.fails(1, &arguments);
            // In the foreground the log may say something before.
            let last = complaint.lines().last().unwrap();
            is_clear(last, about);
        }
        assert_eq!(proc::mounts_under(dir.path()), before);
    };
    refused(&dir.join("missing"), &["missing", "exist"]);
    let full = dir.mkdir("full");
    fs::write(full.join("f"), "").unwrap();
    refused(&full, &["full", "not empty"]);
    refused(&full.join("f"), &["f", "directory"]);
    refused(mount.path(), &["already mounted"]);
    // Inside a volume, or the store itself: a loop.
    let own = volfs.store().to_owned();
    refused(&own, &[own.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(full.join("f")).unwrap(), "");
}

#[test]
fn umount_of_what_is_not_mounted() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.mkdir("store"));
    let plain = dir.mkdir("plain");
    for path in [plain, dir.join("missing"), PathBuf::from("/proc")] {
        let complaint = volfs.fails(1, &[Path::new("umount"), &path]);
        is_clear(&complaint, &[path.to_str().unwrap()]);
    }
    assert!(Path::new("/proc/self").exists());
}

#[test]
fn stores_that_cannot_be_used() {
    let dir = TestDir::new();
    let mnt = dir.mkdir("mnt");
    let file = dir.join("file");
    fs::write(&file, "not a store").unwrap();
    let foreign = dir.mkdir("foreign");
    fs::write(foreign.join("precious"), "data").unwrap();
    for store in [&file, &foreign] {
        let volfs = Volfs::new(store);
        for command in [&["create", "x"][..], &["mount", mnt.to_str().unwrap()]] {
            is_clear(&volfs.fails(1, command), &[store.to_str().unwrap()]);
        }
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "not a store");
    assert_eq!(
        fs::read_dir(&foreign).unwrap().count(),
        1,
        "something was made there"
    );
    assert_eq!(proc::mount_on(&mnt), None);
}

#[test]
fn a_damaged_catalogue_is_named_and_left_alone() {
    let mut mount = Mount::new();
    fs::write(mount.volume("v").join("f"), "kept").unwrap();
    let data = mount.host_path("v");
    mount.stop();
    let db = mount.store().join("meta.db");
    let whole = fs::read(&db).unwrap();
    let mut torn = whole.clone();
    for byte in torn.iter_mut().skip(100).step_by(7) {
        *byte ^= 0x55;
    }
    let mut newer = whole.clone();
    // user_version is at offset 60 of the header, big endian.
    newer[60..64].copy_from_slice(&9999_u32.to_be_bytes());
    for (what, bytes) in [
        (
            "text",
            b"this is not a database, and never was one".repeat(100),
        ),
        ("torn", torn),
        ("a newer version", newer),
        ("half", whole[..whole.len() / 2].to_vec()),
    ] {
        fs::write(&db, &bytes).unwrap();
        let volfs = mount.volfs();
        for command in [
            &["ls"][..],
            &["create", "x"],
            &["mount", mount.path().to_str().unwrap()],
        ] {
            let answer = volfs.run(command);
            assert_eq!(
                answer.code,
                Some(1),
                "{what}, {command:?}: {}{}",
                answer.out,
                answer.err
            );
            let store = mount.store().to_str().unwrap();
            is_clear(answer.err.lines().last().unwrap(), &[store, "catalogue"]);
        }
        assert_eq!(fs::read(&db).unwrap(), bytes, "{what}: it was written to");
        assert_eq!(proc::mount_on(mount.path()), None);
        assert_eq!(fs::read_to_string(data.join("f")).unwrap(), "kept");
    }
    fs::write(&db, &whole).unwrap();
    mount.start();
    assert_eq!(fs::read_to_string(mount.join("v/f")).unwrap(), "kept");
}

#[test]
fn a_lost_catalogue_is_rebuilt_and_nothing_is_lost() {
    let mut mount = Mount::new();
    for name in ["a", "b"] {
        fs::write(mount.volume(name).join("f"), name).unwrap();
    }
    mount.volfs().ok(&["set", "a", "--label", "k=v"]);
    mount.stop();
    for name in ["meta.db", "meta.db-wal", "meta.db-shm"] {
        let _ = fs::remove_file(mount.store().join(name));
    }
    // Never by itself: a store that has lost its catalogue is not an empty one.
    for command in [&["ls"][..], &["create", "x"]] {
        let complaint = mount.volfs().fails(1, command);
        is_clear(
            complaint.lines().last().unwrap(),
            &["meta.db", "--rebuild-catalogue"],
        );
    }
    mount.volfs().ok(&["doctor", "--rebuild-catalogue"]);
    mount.start();
    assert_eq!(mount.volfs().names(), ["a", "b"]);
    for name in ["a", "b"] {
        assert_eq!(
            fs::read_to_string(mount.join(name).join("f")).unwrap(),
            name
        );
    }
    assert!(
        mount
            .volfs()
            .ok(&["inspect", "a", "--json"])
            .contains("\"k\"")
    );
}

#[test]
fn a_volume_whose_directory_was_removed_by_hand() {
    let mut mount = Mount::new();
    for name in ["gone", "fine"] {
        fs::write(mount.volume(name).join("f"), name).unwrap();
    }
    let data = mount.host_path("gone");
    let away = mount.dir().join("away");
    let healthy = |mount: &Mount| {
        let fine = fs::read_to_string(mount.join("fine/f")).unwrap();
        assert_eq!(fine, "fine");
        // The catalogue is the truth about names.
        assert_eq!(mount.volfs().names(), ["fine", "gone"]);
    };

    // While it is mounted: what is shown is the directory that was there.
    fs::rename(&data, &away).unwrap();
    let _ = fs::write(mount.join("gone/new"), "x");
    assert!(!data.exists(), "made anew without being asked");
    healthy(&mount);

    // From the start.
    mount.remount();
    // Opening a directory may cost no request; reading it does.
    let read = fs::read_dir(mount.join("gone")).and_then(|mut all| all.next().transpose());
    let error = read.unwrap_err();
    let errno = error.raw_os_error().unwrap();
    assert!(
        [libc::EIO, libc::ESTALE, libc::ENOENT].contains(&errno),
        "{error}"
    );
    is_clear(
        &mount.volfs().fails(1, &["rm", "gone"]),
        &["gone", "missing"],
    );
    assert!(!data.exists(), "made anew without being asked");
    healthy(&mount);

    // Put back, all is well again.
    fs::rename(&away, &data).unwrap();
    mount.remount();
    assert_eq!(fs::read_to_string(mount.join("gone/f")).unwrap(), "gone");
    healthy(&mount);

    // Deleted while it is mounted: nothing else is shown in its place.
    fs::remove_dir_all(&data).unwrap();
    assert!(fs::read_to_string(mount.join("gone/f")).is_err());
    assert!(fs::write(mount.join("gone/new"), "x").is_err());
    healthy(&mount);

    // Given up as the message says.
    mount.remount();
    mount.volfs().ok(&["rm", "--purge", "gone"]);
    assert_eq!(mount.volfs().names(), ["fine"]);
}

/// A small file system in memory that is unmounted at the end.
struct Small(PathBuf);

impl Small {
    fn new(dir: &TestDir, options: &str) -> Self {
        let path = dir.mkdir("small");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "small"])
            .arg(&path));
        Self(path)
    }

    fn remount(&self, options: &str) {
        run(Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(&self.0));
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_store_on_a_read_only_file_system() {
    let dir = TestDir::new();
    let small = Small::new(&dir, "size=4m");
    let mnt = dir.mkdir("mnt");
    let store = small.0.join("store");
    let volfs = Volfs::new(&store);
    volfs.ok(&["create", "v"]);
    small.remount("ro");
    for command in [
        &["create", "x"][..],
        &["rm", "v"],
        &["mv", "v", "w"],
        &["mount", mnt.to_str().unwrap()],
    ] {
        let complaint = volfs.fails(1, command);
        is_clear(complaint.lines().last().unwrap(), &["read-only"]);
    }
    assert_eq!(proc::mount_on(&mnt), None);
    // What only looks works.
    assert_eq!(volfs.names(), ["v"]);
    small.remount("rw");
    assert_eq!(volfs.names(), ["v"]);
    // A store that is not there yet cannot be made there.
    small.remount("ro");
    let new = Volfs::new(&small.0.join("new"));
    is_clear(
        new.fails(1, &["create", "x"]).lines().last().unwrap(),
        &["new"],
    );
}

#[test]
fn a_store_on_a_full_file_system() {
    let dir = TestDir::new();
    let small = Small::new(&dir, "size=8m");
    let mut mount = Mount::builder().parent(&small.0).start();
    let volume = mount.volume("v");
    fs::write(volume.join("f"), "kept").unwrap();
    // Fill it to the last byte, by the volume itself.
    let fill = |path: &Path| {
        let file = fs::File::create(path).unwrap();
        let block = vec![b'x'; 4096];
        let mut offset = 0;
        loop {
            match std::os::unix::fs::FileExt::write_at(&file, &block, offset) {
                Ok(n) => offset += n as u64,
                Err(error) => return error,
            }
        }
    };
    let error = fill(&volume.join("fill"));
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    let error = fs::create_dir(mount.join("new")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
    let complaint = mount.volfs().fails(1, &["create", "new"]);
    is_clear(&complaint, &["space"]);
    assert_eq!(mount.volfs().names(), ["v"]);
    assert_eq!(fs::read_to_string(volume.join("f")).unwrap(), "kept");
    // Removing works when it is full, and then there is room again.
    // The kernel tells of a file's last close without waiting for the answer.
    fs::remove_file(volume.join("fill")).unwrap();
    support::wait_for("there is room again", || {
        fs::create_dir(mount.join("new")).is_ok()
    });
    fill(&volume.join("fill"));
    fs::remove_dir(mount.join("new")).unwrap();
    mount.volfs().ok(&["rm", "--purge", "v"]);
    assert!(mount.volfs().names().is_empty());
    fs::create_dir(mount.join("again")).unwrap();
    mount.stop();
    drop(mount);
    drop(small);
}

/// Without the device in a mount namespace of its own, so that no other test
/// misses it.
fn without_device(volfs: &Volfs, prepare: &str, mountpoint: &Path) -> String {
    let script = format!("{prepare}; exec \"$0\" mount \"$1\"");
    let out = Command::new("unshare")
        .args(["--mount", "sh", "-euc", &script])
        .arg(support::cli::binary())
        .arg(mountpoint)
        .env("VOLFS_STORE", volfs.store())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{text}");
    text
}

#[test]
fn the_fuse_device_is_missing() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.mkdir("store"));
    let mnt = dir.mkdir("mnt");
    let hide = "mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3";
    let complaint = without_device(&volfs, hide, &mnt);
    is_clear(complaint.lines().last().unwrap(), &["/dev/fuse"]);
    // A file in its place is no device.
    let file = dir.join("no-device");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let cover = format!("mount --bind {} /dev/fuse", file.display());
    let complaint = without_device(&volfs, &cover, &mnt);
    is_clear(complaint.lines().last().unwrap(), &["/dev/fuse"]);
    assert_eq!(proc::mount_on(&mnt), None);
}
