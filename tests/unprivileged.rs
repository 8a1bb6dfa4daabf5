//! The same without root, by way of fusermount3: everything that the user may
//! do on the host works, the rest is refused and named.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use support::fuse_device::{DEVICE, OpenDevice, set_mode};
use support::user::{BOB, NAMED, as_user, command_as};
use support::{Mount, Volfs, output, run};

#[test]
fn a_user_mounts_and_uses_volumes() {
    let _device = OpenDevice::new();
    let mut mount = Mount::builder().user(NAMED).start();
    let path = mount.path().to_owned();
    as_user(NAMED, || {
        let volume = path.join("v");
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("f"), "content").unwrap();
        fs::create_dir(volume.join("dir")).unwrap();
        fs::rename(volume.join("f"), volume.join("dir/g")).unwrap();
        fs::hard_link(volume.join("dir/g"), volume.join("hard")).unwrap();
        std::os::unix::fs::symlink("hard", volume.join("soft")).unwrap();
        assert_eq!(fs::read_to_string(volume.join("soft")).unwrap(), "content");
        fs::set_permissions(volume.join("hard"), fs::Permissions::from_mode(0o4711)).unwrap();
        let stat = fs::metadata(volume.join("hard")).unwrap();
        assert_eq!(
            (stat.uid(), stat.gid(), stat.nlink()),
            (NAMED.uid, NAMED.gid, 2)
        );
        fs::rename(&volume, path.join("w")).unwrap();
        assert_eq!(fs::read_dir(path.join("w")).unwrap().count(), 3);
    });
    assert_eq!(mount.volfs().names(), ["w"]);
    mount.remount();
    as_user(NAMED, || {
        assert_eq!(fs::read_to_string(path.join("w/dir/g")).unwrap(), "content");
        fs::remove_dir_all(path.join("w")).unwrap();
    });
    mount.stop();
}

#[test]
fn a_users_store_takes_the_names_that_people_type() {
    let _device = OpenDevice::new();
    let mut mount = Mount::builder().user(NAMED).start();
    let path = mount.path().to_owned();
    as_user(NAMED, || fs::create_dir(path.join("New Folder")).unwrap());
    assert_eq!(mount.volfs().ok(&["config", "names"]), "any\n");
    mount.remount();
    assert_eq!(mount.volfs().names(), ["New Folder"]);
    mount.volfs().ok(&["config", "names", "portable"]);
    mount.remount();
    assert_eq!(mount.volfs().ok(&["config", "names"]), "portable\n");
    mount.stop();
}

#[test]
fn numbers_stay_the_same_there_too() {
    let _device = OpenDevice::new();
    let mut mount = Mount::builder().user(NAMED).start();
    let path = mount.path().to_owned();
    let numbers = || {
        run(command_as(NAMED, "find")
            .arg(&path)
            .args(["-printf", "%i %P\\n"]))
    };
    as_user(NAMED, || {
        fs::create_dir(path.join("v")).unwrap();
        for i in 0..50 {
            fs::create_dir(path.join(format!("v/{i}"))).unwrap();
            fs::write(path.join(format!("v/{i}/f")), "x").unwrap();
        }
    });
    let before = numbers();
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    assert_eq!(numbers(), before);
    mount.remount();
    assert_eq!(numbers(), before);
}

#[test]
fn what_is_not_the_users_is_refused() {
    let _device = OpenDevice::new();
    let mount = Mount::builder().user(NAMED).start();
    let path = mount.path().to_owned();
    as_user(NAMED, || {
        fs::create_dir(path.join("v")).unwrap();
        let file = path.join("v/f");
        fs::write(&file, "x").unwrap();
        let errno = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
        assert_eq!(
            errno(std::os::unix::fs::chown(&file, Some(1001), None)),
            Some(libc::EPERM)
        );
        assert_eq!(
            errno(std::os::unix::fs::chown(&file, None, Some(0))),
            Some(libc::EPERM)
        );
        let device = rustix::fs::mknodat(
            rustix::fs::CWD,
            path.join("v/dev"),
            rustix::fs::FileType::CharacterDevice,
            0o600.into(),
            rustix::fs::makedev(1, 3),
        );
        assert_eq!(device, Err(rustix::io::Errno::PERM));
    });
    // Others, root among them, are not let in: the kernel's rule for a mount
    // without allow_other.
    as_user(BOB, || {
        let error = fs::read_dir(&path).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    });
    // And they cannot ask the daemon either.
    let answer = Volfs::new(mount.store())
        .as_user(BOB)
        .run(&["create", "bobs"]);
    assert_eq!(answer.code, Some(1), "{}", answer.out);
    assert_eq!(mount.volfs().names(), ["v"]);
}

#[test]
fn doctor_names_what_cannot_be_had() {
    let _device = OpenDevice::new();
    let mount = Mount::builder().user(NAMED).start();
    let answer = mount.volfs().run(&["doctor"]);
    let text = format!("{}{}", answer.out, answer.err);
    assert!(text.contains("fusermount3"), "{text}");
    assert!(text.contains("capabilit"), "{text}");
    assert!(text.contains("do not last"), "{text}");
    let as_json = mount.volfs().run(&["doctor", "--json"]);
    serde_json::from_str::<serde_json::Value>(&as_json.out).unwrap();
}

#[test]
fn the_default_store_is_the_users_own() {
    let dir = support::TestDir::new();
    let home = dir.mkdir("home");
    std::os::unix::fs::chown(&home, Some(NAMED.uid), Some(NAMED.gid)).unwrap();
    let volfs = |home: &Path, arguments: &[&str]| {
        let mut command = command_as(NAMED, support::cli::copy_of_binary(dir.path()));
        command.args(arguments).env_clear().env("HOME", home);
        run(&mut command)
    };
    volfs(&home, &["create", "mine"]);
    let store: PathBuf = home.join(".local/share/volfs");
    assert!(store.join("meta.db").exists());
    assert_eq!(fs::metadata(&store).unwrap().uid(), NAMED.uid);
    assert!(volfs(&home, &["ls"]).contains("mine"));
}

#[test]
fn without_the_device_the_reason_is_told() {
    let device = OpenDevice::new();
    set_mode(0o600);
    let dir = support::TestDir::new();
    let (store, mnt) = (dir.mkdir("store"), dir.mkdir("mnt"));
    for path in [&store, &mnt] {
        std::os::unix::fs::chown(path, Some(NAMED.uid), Some(NAMED.gid)).unwrap();
    }
    let volfs = Volfs::new(&store).as_user(NAMED);
    let complaint = volfs.fails(1, &[Path::new("mount"), &mnt]);
    assert!(complaint.contains(DEVICE), "{complaint}");
    assert_eq!(support::proc::mount_on(&mnt), None);
    let doctor = output(&mut volfs.command(&["doctor"]));
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(text.contains(DEVICE), "{text}");
    drop(device);
}

#[test]
fn disk_volumes_of_a_user_are_served_by_fuse2fs() {
    let _device = OpenDevice::new();
    let mut mount = Mount::builder().user(NAMED).start();
    mount
        .volfs()
        .ok(&["create", "db", "--disk", "--size", "64M"]);
    let dir = mount.join("db");
    as_user(NAMED, || {
        fs::write(dir.join("file"), "text").unwrap();
        fs::create_dir(dir.join("a")).unwrap();
        fs::rename(dir.join("file"), dir.join("a/moved")).unwrap();
        let stat = fs::metadata(dir.join("a/moved")).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (NAMED.uid, NAMED.gid));
    });
    let doctor = mount.volfs().run(&["doctor"]).out;
    assert!(doctor.contains("fuse2fs serves their files"), "{doctor}");
    assert!(doctor.contains("CAP_SYS_ADMIN"), "{doctor}");
    mount.remount();
    as_user(NAMED, || {
        assert_eq!(fs::read_to_string(dir.join("a/moved")).unwrap(), "text");
    });
    // The image is a file like any other of hers.
    let image = mount.join(".volfs/disks/db.raw");
    let opened = support::poll(std::time::Duration::from_secs(10), || {
        as_user(NAMED, || {
            fs::File::options().read(true).write(true).open(&image)
        })
        .ok()
    });
    drop(opened.expect("attached"));
    // Written by a guest, as far as is known.
    let read = support::poll(std::time::Duration::from_secs(10), || {
        as_user(NAMED, || fs::read_to_string(dir.join("a/moved"))).ok()
    });
    assert_eq!(read.as_deref(), Some("text"));
    mount.volfs().ok(&["disk", "trust", "db"]);
    as_user(NAMED, || fs::write(dir.join("new"), "text")).unwrap();
    mount.stop();
}

#[test]
fn only_root_has_suid() {
    let _device = OpenDevice::new();
    let mut mount = Mount::builder().user(NAMED).start();
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let at = mount.path().to_str().unwrap();
    let line = table.lines().find(|line| line.contains(at)).unwrap();
    assert!(line.contains("nosuid,nodev"), "{line}");
    mount.stop();
    for option in ["suid", "dev"] {
        let refused = output(
            mount
                .volfs()
                .command(&["mount", "-o", option])
                .arg(mount.path()),
        );
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(
            said.contains("only root may mount with suid or dev"),
            "{said}"
        );
    }
}
