//! What programs in a volume gain when they are executed: nothing, unless the
//! mount was asked for it. Root in a sandbox that has a volume makes set-user-id
//! programs, and any user of the host may execute them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Place;
use super::support::user::{ALICE, command_as};
use super::support::{output, run};

/// `vfs_cap_data`, revision 2, with CAP_DAC_OVERRIDE permitted and in effect.
const MAY_READ_ALL: [u8; 20] = [1, 0, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Whether set-user-id bits, and whether file capabilities work in the mount.
fn gains(place: &Place) -> (bool, bool) {
    let volume = place.mountpoint.join("v");
    fs::create_dir_all(&volume).unwrap();
    let secret = place.dir.join("secret");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();

    let id = volume.join("id");
    fs::copy("/usr/bin/id", &id).unwrap();
    fs::set_permissions(&id, fs::Permissions::from_mode(0o4755)).unwrap();
    let uid = run(command_as(ALICE, &id).arg("-u"));
    let cat = volume.join("cat");
    fs::copy("/bin/cat", &cat).unwrap();
    fs::set_permissions(&cat, fs::Permissions::from_mode(0o755)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&cat, "security.capability", &MAY_READ_ALL, flags).unwrap();
    let read = output(command_as(ALICE, &cat).arg(&secret));
    (uid.trim() == "0", read.status.success())
}

#[test]
fn programs_gain_nothing_by_default() {
    let place = Place::new();
    place.mount(&[]);
    assert_eq!(gains(&place), (false, false));
    place.umount();
    // Nor through the daemon, or in a disk volume.
    place.mount(&["--no-passthrough"]);
    assert_eq!(gains(&place), (false, false));
    place.volfs.ok(&["rm", "--purge", "v"]);
    place
        .volfs
        .ok(&["create", "v", "--disk", "--size", "32M", "--mode", "755"]);
    assert_eq!(gains(&place), (false, false));
}

#[test]
fn programs_gain_what_root_asks_for() {
    let place = Place::new();
    place.mount(&["-o", "suid"]);
    assert_eq!(gains(&place), (true, true));
    place.umount();
    place.mount(&["-o", "allow_suid,nosuid"]);
    assert_eq!(gains(&place), (false, false));
}

/// A mount that an earlier version made had `suid` though nobody asked for it: the
/// next process that serves it takes that away.
#[test]
fn an_upgrade_takes_suid_away() {
    let place = Place::new();
    place.mount(&[]);
    let remount = |path: &Path, how: &str| {
        run(std::process::Command::new("mount")
            .args(["-o", how])
            .arg(path))
    };
    remount(&place.mountpoint, "remount,bind,suid,dev,noexec,relatime");
    remount(&place.mountpoint, "remount,bind,suid,dev,exec,relatime");
    assert_eq!(gains(&place), (true, true));
    place.volfs.ok(&["upgrade"]);
    super::support::wait_for("nosuid", || {
        super::helper::options(&place).contains("nosuid,nodev")
    });
    assert_eq!(gains(&place), (false, false));
    assert!(place.log().contains("has them now"), "{}", place.log());
}
