//! A file system that finds errors in itself: noticed, told and shown, and
//! nobody else is affected.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::support::{Mount, poll};
use crate::{assert_clean, create, last_error};

/// The image of a volume in the store.
fn in_store(mount: &Mount, name: &str) -> PathBuf {
    let list = mount.volfs().list();
    let info = list.iter().find(|info| info["name"] == name).unwrap();
    PathBuf::from(info["disk"]["path"].as_str().unwrap())
}

fn state(mount: &Mount, name: &str) -> String {
    let list = mount.volfs().list();
    let info = list.iter().find(|info| info["name"] == name).unwrap();
    info["disk"]["state"].as_str().unwrap().to_owned()
}

#[test]
fn an_error_at_run_time_is_noticed_told_and_mended() {
    let mut mount = Mount::new();
    let dir = create(&mount, "db", "64M");
    let other = create(&mount, "other", "64M");
    fs::create_dir(dir.join("victim")).unwrap();
    for number in 0..50 {
        fs::write(dir.join(format!("victim/{number}")), "text").unwrap();
    }
    fs::write(dir.join("file"), "text").unwrap();
    fs::write(other.join("file"), "text").unwrap();
    // So that the kernel has to read the directory anew.
    mount.stop();
    let image = in_store(&mount, "db");
    let said = Command::new("debugfs")
        .args(["-R", "blocks victim"])
        .arg(&image)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let block: u64 = said.split_whitespace().next().unwrap().parse().unwrap();
    mount.start();
    assert_eq!(state(&mount, "db"), "clean");
    let held = OpenOptions::new()
        .append(true)
        .open(dir.join("file"))
        .unwrap();

    // The disk below rots.
    let raw = OpenOptions::new().write(true).open(&image).unwrap();
    raw.write_all_at(&[0x55; 4096], block * 4096).unwrap();
    raw.sync_all().unwrap();
    drop(raw);
    let read =
        fs::read_dir(dir.join("victim")).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    assert!(read.is_err(), "{read:?}");
    // Noticed although nobody asks.
    let told = poll(Duration::from_secs(20), || {
        mount.daemon_complaints().contains("\"db\"").then_some(())
    });
    assert!(told.is_some(), "{}", mount.daemon_log());
    assert!(
        last_error(&mount).contains("disk check --repair db"),
        "{}",
        last_error(&mount)
    );
    assert_eq!(state(&mount, "db"), "damaged");
    let row = mount.volfs().ok(&["ls"]);
    assert!(row.contains("(has errors)"), "{row}");
    let inspected = mount.volfs().ok(&["inspect", "db"]);
    assert!(inspected.contains("has errors"), "{inspected}");
    let refused = fs::write(dir.join("new"), "text").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    // What is not damaged can be read, and other volumes go on.
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");
    fs::write(other.join("more"), "text").unwrap();
    assert_eq!(state(&mount, "other"), "in-use");
    drop(held);

    // It stays like that, also when it is attached anew.
    mount.remount();
    assert_eq!(state(&mount, "db"), "damaged");
    let refused = fs::write(dir.join("new"), "text").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    assert!(
        last_error(&mount).contains("has errors"),
        "{}",
        last_error(&mount)
    );
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");

    let found = mount.volfs().run(&["disk", "check", "--json", "db"]);
    let found: serde_json::Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!(
        (&found["clean"], &found["trusted"]),
        (&false.into(), &true.into())
    );
    assert!(
        found["said"].as_str().unwrap().contains("Pass 2"),
        "{found}"
    );
    let damaged = mount.volfs().fails(1, &["disk", "check", "db"]);
    assert!(damaged.contains("--repair db"), "{damaged}");
    mount.volfs().ok(&["disk", "check", "--repair", "db"]);
    assert_eq!(state(&mount, "db"), "clean");
    fs::write(dir.join("new"), "text").unwrap();
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");
    // Nothing but the names is lost.
    assert_eq!(fs::read_dir(dir.join("lost+found")).unwrap().count(), 50);
    mount.stop();
    assert_clean(mount.store());
}

#[test]
fn an_image_that_was_not_unmounted_says_so_and_recovers() {
    let mut mount = Mount::new();
    let dir = create(&mount, "db", "64M");
    let mut synced = File::create(dir.join("synced")).unwrap();
    std::io::Write::write_all(&mut synced, b"text").unwrap();
    synced.sync_all().unwrap();
    drop(synced);
    mount.kill();
    nix::mount::umount2(mount.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    crate::support::wait_for("the kernel lets go", || {
        crate::support::proc::loop_devices_under(mount.store()).is_empty()
    });
    // Killed without a chance to unmount: on a machine that lost its power the
    // superblock says what it says here.
    let image = in_store(&mount, "db");
    let dirty = Command::new("debugfs")
        .args(["-w", "-R", "feature needs_recovery"])
        .arg(&image)
        .output()
        .unwrap();
    assert!(dirty.status.success());
    assert_eq!(state(&mount, "db"), "not-unmounted");
    assert!(mount.volfs().ok(&["ls"]).contains("(needs recovery)"));
    // Where nothing may be written it is read without the kernel.
    let before = fs::read(&image).unwrap();
    mount.set_args(&["--read-only"]);
    mount.start();
    assert_eq!(fs::read_to_string(dir.join("synced")).unwrap(), "text");
    assert_eq!(
        fs::write(dir.join("new"), "").unwrap_err().kind(),
        ErrorKind::ReadOnlyFilesystem
    );
    mount.stop();
    mount.set_args(&[]);
    assert!(fs::read(&image).unwrap() == before);
    mount.start();
    assert_eq!(fs::read_to_string(dir.join("synced")).unwrap(), "text");
    assert_eq!(state(&mount, "db"), "in-use");
    mount.stop();
    assert_eq!(state(&mount, "db"), "clean");
}
