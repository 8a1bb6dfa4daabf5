//! Disk volumes: their life, their two faces and that these exclude each
//! other, and what is left of them when the daemon is killed.

mod checks;
mod direct_io;
mod faces;
mod growth;
mod guests;
mod health;
mod host_full;
mod hostile;
mod lost_found;
mod many;
mod sparse;
#[path = "../support/mod.rs"]
mod support;
mod without_loop;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::proc::loop_devices_under;
use support::{Mount, poll, wait_for};

/// The images of a store.
fn images(store: &Path) -> Vec<PathBuf> {
    let volumes = fs::read_dir(store.join("volumes")).unwrap().flatten();
    let images: Vec<_> = volumes
        .map(|volume| volume.path().join("disk.raw"))
        .filter(|image| image.exists())
        .collect();
    assert!(!images.is_empty());
    images
}

/// Every image of the store, clean by e2fsck's word.
fn assert_clean(store: &Path) {
    for image in images(store) {
        let out = Command::new("e2fsck").arg("-fn").arg(&image).output();
        let out = out.unwrap();
        assert!(
            out.status.success(),
            "e2fsck {image:?}: {}",
            String::from_utf8_lossy(&out.stdout)
        );
    }
}

/// Replays journals as the next mount would, then checks.
fn assert_recovers(store: &Path) {
    for image in images(store) {
        let replay = Command::new("e2fsck")
            .args(["-y", "-E", "journal_only"])
            .arg(&image)
            .output()
            .unwrap();
        assert!(replay.status.code().is_some_and(|code| code < 4));
    }
    assert_clean(store);
}

fn create(mount: &Mount, name: &str, size: &str) -> PathBuf {
    mount
        .volfs()
        .ok(&["create", name, "--disk", "--size", size]);
    mount.join(name)
}

fn image(mount: &Mount, name: &str) -> PathBuf {
    mount.join(".volfs/disks").join(format!("{name}.raw"))
}

fn last_error(mount: &Mount) -> String {
    fs::read_to_string(mount.join(".volfs/last_error")).unwrap()
}

/// What is in a directory.
fn names(dir: &Path) -> std::io::Result<Vec<std::ffi::OsString>> {
    fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect()
}

/// Opens an image for writing, as a virtual machine does.
fn attach(mount: &Mount, name: &str) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(image(mount, name))
}

/// A close has reached the daemon when the other face can be had.
fn eventually<T>(what: &str, mut open: impl FnMut() -> std::io::Result<T>) -> T {
    poll(Duration::from_secs(10), || open().ok()).unwrap_or_else(|| panic!("{what}"))
}

#[test]
fn a_life() {
    let mut mount = Mount::new();
    let dir = create(&mount, "db", "64M");
    assert_eq!(
        loop_devices_under(mount.store()),
        [""; 0],
        "attached before use"
    );
    // Looking at it attaches nothing.
    assert!(fs::metadata(&dir).unwrap().is_dir());
    let figures = nix::sys::statvfs::statvfs(&dir).unwrap();
    let size = figures.blocks() * figures.fragment_size();
    assert!((54 << 20..64 << 20).contains(&size), "{size}");
    assert_eq!(loop_devices_under(mount.store()), [""; 0]);

    fs::write(dir.join("file"), "text").unwrap();
    assert_eq!(loop_devices_under(mount.store()).len(), 1);
    // The same figures from the kernel's mount.
    let mounted = nix::sys::statvfs::statvfs(&dir).unwrap();
    assert_eq!(mounted.blocks(), figures.blocks());
    assert_eq!(mounted.files(), figures.files());
    assert!(
        fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .all(|line| {
                !line.contains("/dev/loop") || !line.contains(mount.store().to_str().unwrap())
            })
    );
    let refused = fs::remove_dir(&dir).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DirectoryNotEmpty);
    let node = fs::metadata(dir.join("file")).unwrap().ino();
    fs::rename(&dir, mount.join("renamed")).unwrap();
    let dir = mount.join("renamed");
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");

    mount.remount();
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");
    assert_eq!(fs::metadata(dir.join("file")).unwrap().ino(), node);
    mount.volfs().ok(&["rm", "renamed"]);
    assert_eq!(loop_devices_under(mount.store()), [""; 0]);
    mount.volfs().ok(&["trash", "restore", "renamed"]);
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");
    fs::remove_file(dir.join("file")).unwrap();
    fs::remove_dir(&dir).unwrap();
    assert_eq!(mount.volfs().list().len(), 0);
    mount.stop();
    assert_eq!(mount.daemon_complaints(), "");
}

#[test]
fn wishes_that_contradict_themselves() {
    let mount = Mount::new();
    let volfs = mount.volfs();
    for (arguments, said) in [
        (&["create", "a", "--disk", "--size", "7M"][..], "at least"),
        (&["create", "a", "--disk", "--size", "9000001"], "4096"),
        (&["create", "a", "--disk", "--size", "65T"], "at most"),
        (&["create", "a", "--size", "1G"], "--disk"),
        (&["create", "a", "--disk"], "--size"),
        (
            &["create", "a", "--disk", "--size", "1G", "--quota", "1G"],
            "quota",
        ),
    ] {
        let complaint = volfs.fails(2, arguments);
        assert!(complaint.contains(said), "{arguments:?}: {complaint}");
    }
    create(&mount, "db", "64M");
    fs::write(mount.volume("plain").join("file"), "text").unwrap();
    for (arguments, said) in [
        (&["set", "db", "--size", "32M"][..], "smaller"),
        (&["set", "db", "--quota", "32M"], "no quota"),
        (&["set", "plain", "--size", "32M"], "only an empty"),
    ] {
        let complaint = volfs.fails(2, arguments);
        assert!(complaint.contains(said), "{arguments:?}: {complaint}");
    }
    let unmounted = Mount::new()
        .volfs()
        .fails(2, &["mount", "--default-kind", "disk", "/mnt"]);
    assert!(unmounted.contains("--default-size"), "{unmounted}");
}

#[test]
fn mkdir_makes_disk_volumes_for_their_owner() {
    let mount = Mount::builder()
        .args(&[
            "--default-kind",
            "disk",
            "--default-size",
            "32M",
            "--root-mode",
            "1777",
        ])
        .start();
    let alice = support::User {
        uid: 1000,
        gid: 1000,
        groups: &[],
    };
    let dir = mount.join("hers");
    support::as_user(alice, || {
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), "hers").unwrap();
    });
    let made = fs::metadata(&dir).unwrap();
    assert_eq!((made.uid(), made.gid()), (1000, 1000));
    assert_eq!(mount.volfs().list()[0]["kind"], "disk");
    support::as_user(alice, || {
        let raw = File::open(image(&mount, "hers")).unwrap_err();
        assert_eq!(raw.kind(), ErrorKind::PermissionDenied);
    });
}

#[test]
fn a_full_disk_volume_says_so_and_gives_space_back() {
    let mount = Mount::new();
    let dir = create(&mount, "db", "64M");
    let mut file = File::create(dir.join("filler")).unwrap();
    let full = std::io::copy(&mut std::io::repeat(7), &mut file).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    drop(file);
    let path = mount.volfs().list()[0]["disk"]["path"]
        .as_str()
        .unwrap()
        .to_owned();
    let allocated = || fs::metadata(&path).unwrap().blocks() * 512;
    File::open(&dir).unwrap().sync_all().unwrap();
    assert!(allocated() > 40 << 20, "{}", allocated());
    fs::remove_file(dir.join("filler")).unwrap();
    File::open(&dir).unwrap().sync_all().unwrap();
    wait_for("space is given back", || allocated() < 16 << 20);
}

#[test]
fn a_killed_daemon_leaves_no_device_and_loses_nothing_synced() {
    // Each takes about a second.
    let rounds = if std::env::var_os("VOLFS_LONG").is_some() {
        20
    } else {
        5
    };
    let mut mount = Mount::new();
    let dir = create(&mount, "db", "256M");
    for round in 0..rounds {
        let stop = AtomicBool::new(false);
        let started = Barrier::new(2);
        let synced = dir.join(format!("synced-{round}"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut first = true;
                for number in 0_u32.. {
                    let file = dir.join(format!("load-{}", number % 50));
                    let ended = fs::write(file, vec![round as u8; 100_000]).is_err();
                    if std::mem::take(&mut first) {
                        started.wait();
                    }
                    if ended || stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            started.wait();
            let mut file = File::create(&synced).unwrap();
            file.write_all(&[round as u8; 300_000]).unwrap();
            file.sync_all().unwrap();
            File::open(&dir).unwrap().sync_all().unwrap();
            drop(file);
            mount.kill();
            stop.store(true, Ordering::Relaxed);
        });
        // Files that were open for passthrough live as long as the stale mount,
        // which the next one takes away; here it is done before, every other
        // time.
        if round % 2 == 0 {
            nix::mount::umount2(mount.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
            wait_for("the kernel lets go", || {
                loop_devices_under(mount.store()).is_empty()
            });
            let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let left = mount.dir().path().to_str().unwrap();
            assert!(!table.contains(left), "{table}");
            assert_recovers(mount.store());
        }
        mount.start();
        for earlier in 0..=round {
            let path = dir.join(format!("synced-{earlier}"));
            assert!(fs::read(&path).unwrap() == vec![earlier as u8; 300_000]);
        }
        mount.volfs().ok(&["disk", "check", "db"]);
        println!("kill {round}: recovered, clean, {} files intact", round + 1);
    }
    mount.stop();
    assert_clean(mount.store());
}

#[test]
fn an_empty_directory_volume_becomes_a_disk_volume() {
    let mut mount = Mount::new();
    let dir = mount.volume("db");
    std::os::unix::fs::chown(&dir, Some(1000), Some(1000)).unwrap();
    mount.volfs().ok(&["set", "db", "--label", "a=b"]);
    let set = |value: &[u8]| {
        rustix::fs::setxattr(&dir, "volfs.size", value, rustix::fs::XattrFlags::empty())
    };
    fs::write(dir.join("file"), "text").unwrap();
    assert_eq!(set(b"64M"), Err(rustix::io::Errno::INVAL));
    assert!(
        last_error(&mount).contains("empty"),
        "{}",
        last_error(&mount)
    );
    fs::remove_file(dir.join("file")).unwrap();
    assert_eq!(set(b"1M"), Err(rustix::io::Errno::INVAL));
    set(b"64M").unwrap();
    let figures = || {
        let figures = nix::sys::statvfs::statvfs(&dir).unwrap();
        figures.blocks() * figures.fragment_size()
    };
    assert!((54 << 20..64 << 20).contains(&figures()), "{}", figures());
    let made = fs::metadata(&dir).unwrap();
    assert_eq!((made.uid(), made.gid()), (1000, 1000));
    fs::write(dir.join("file"), "text").unwrap();
    let info = &mount.volfs().list()[0];
    assert_eq!(
        (&info["kind"], &info["labels"]),
        (&"disk".into(), &serde_json::json!([["a", "b"]]))
    );
    // And grows by the same way.
    set(b"128M").unwrap();
    assert!(figures() > 100 << 20);
    mount.remount();
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");
    assert_eq!(
        fs::read_dir(mount.store().join("trash")).unwrap().count(),
        0
    );
}
