//! What is mounted on a directory of a volume would go with the volume, unasked.

use std::fs;
use std::process::Command;

use crate::support::{Mount, proc, run, wait_for};
use crate::{Guest, NAMESPACES, Unmount, assert_free, how};

#[test]
fn what_is_mounted_on_a_directory_keeps_the_volume() {
    let _in_turn = NAMESPACES.write();
    let mount = Mount::new();
    let inside = mount.volume("v").join("in");
    fs::create_dir(&inside).unwrap();
    let other = mount.volume("other");
    run(Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs"])
        .arg(&inside));
    let mounted = Unmount(&inside);
    let found = mount.volfs().holders("v");
    assert_eq!(how(&found), ["mount-inside"]);
    assert_eq!(found[0]["mountpoint"], inside.to_str().unwrap());
    assert_eq!(found[0]["fs_type"], "tmpfs");
    let words = format!("a mount inside it on {} (tmpfs)", inside.display());
    for how in [
        &["rm", "v"][..],
        &["rm", "--purge", "v"],
        &["rm", "--force", "v"],
    ] {
        let said = mount.volfs().fails(1, how);
        assert!(said.contains(&words), "{how:?}: {said}");
    }
    assert_eq!(proc::mount_on(&inside).unwrap().0, "tmpfs");
    // Known by what it is on, not by its name.
    mount.volfs().ok(&["mv", "v", "w"]);
    assert_eq!(how(&mount.volfs().holders("w")), ["mount-inside"]);
    mount.volume("v");
    assert_eq!(how(&mount.volfs().holders("v")), [""; 0]);
    fs::remove_dir(mount.join("v")).unwrap();
    fs::remove_dir(&other).unwrap();
    drop(mounted);
    let now = mount.join("w/in");
    if proc::mount_on(&now).is_some() {
        drop(Unmount(&now));
    }
    assert_free(&mount, "w");
}

/// Who hides a volume from himself does not use it.
#[test]
fn what_hides_a_volume_in_a_jail_does_not_keep_it() {
    let _in_turn = NAMESPACES.read();
    let mount = Mount::new();
    let volume = mount.volume("v");
    let done = mount.dir().join("done");
    let mut bwrap = Command::new("bwrap");
    bwrap.args(["--dev-bind", "/", "/", "--tmpfs"]).arg(&volume);
    let script = format!("touch {} && read end", done.display());
    bwrap.args(["--die-with-parent", "sh", "-c", &script]);
    let guest = Guest::start(&mut bwrap);
    wait_for("it is hidden", || done.exists());
    assert_eq!(how(&mount.volfs().holders("v")), [""; 0]);
    fs::remove_dir(&volume).unwrap();
    guest.end();
}
