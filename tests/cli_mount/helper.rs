//! mount(8) and fstab: through `/sbin/mount.fuse.volfs`, and through
//! mount.fuse3(8) where that is not installed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::Place;
use super::support::{self, proc};

/// Where mount(8) looks for helpers.
const HELPER: &str = "/sbin/mount.fuse.volfs";

/// The helper's link, removed in the end.
struct Helper;

impl Helper {
    fn install() -> Self {
        symlink(support::cli::BINARY, HELPER)
            .unwrap_or_else(|e| panic!("{HELPER} cannot be made (is volfs installed?): {e}"));
        Self
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = fs::remove_file(HELPER);
    }
}

/// mount(8), which looks for programs in the system's directories only.
fn mount(arguments: &[&str]) -> Output {
    support::output(Command::new("mount").args(arguments))
}

/// mount.fuse3(8) as mount(8) calls it, with the built program in the search
/// path, as an installed one is.
fn mount_fuse3(arguments: &[&str]) -> Output {
    let directory = Path::new(support::cli::BINARY).parent().unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", directory.display());
    support::output(
        Command::new("/sbin/mount.fuse3")
            .args(arguments)
            .env("PATH", path),
    )
}

fn mounted(place: &Place, output: &Output) {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (kind, source) = proc::mount_on(&place.mountpoint).unwrap();
    assert_eq!(kind, "fuse.volfs");
    assert_eq!(Path::new(&source), place.volfs.store());
    assert_eq!(place.volfs.names(), ["a"]);
}

/// The options of the mount.
pub fn options(place: &Place) -> String {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table
        .lines()
        .find(|line| line.contains(place.at()))
        .unwrap();
    line.split(' ').nth(5).unwrap().to_owned()
}

/// One test: the helper's link is the whole machine's.
#[test]
fn mount_8_in_all_its_ways() {
    assert!(!fs::exists(HELPER).unwrap(), "{HELPER} is there already");
    let place = Place::new();
    place.volfs.ok(&["create", "a"]);
    let store = place.volfs.store().to_str().unwrap().to_owned();
    let at = place.at().to_owned();

    // Without a helper of our own: mount.fuse3 starts `volfs STORE MNT -o …`.
    let output = mount_fuse3(&[&store, &at, "-t", "fuse.volfs", "-o", "rw"]);
    mounted(&place, &output);
    // It adds dev and suid by itself.
    assert!(options(&place).starts_with("rw,nosuid,nodev"));
    place.umount();
    let output = mount_fuse3(&[&store, &at, "-t", "fuse.volfs", "-o", "suid"]);
    mounted(&place, &output);
    assert!(options(&place).starts_with("rw,nodev"));
    place.umount();
    let source = format!("volfs#{store}");
    let output = mount_fuse3(&[&source, &at, "-o", "ro,nosuid,nodev"]);
    mounted(&place, &output);
    let flags = options(&place);
    assert!(flags.starts_with("ro,nosuid,nodev"), "{flags}");
    place.umount();
    let source = format!("{}#{store}", support::cli::BINARY);
    mounted(&place, &mount(&["-t", "fuse", &source, &at]));
    place.umount();

    let helper = Helper::install();
    mounted(
        &place,
        &mount(&["-t", "fuse.volfs", "-o", "noexec,rmdir=trash", &store, &at]),
    );
    assert!(options(&place).starts_with("rw,nosuid,nodev,noexec"));
    support::run(Command::new("umount").arg(&at));
    place.volfs.ok(&["ls"]);
    // mount(8) keeps suid and dev for itself, and passes others on.
    let asked = "allow_suid,allow_dev";
    mounted(
        &place,
        &mount(&["-t", "fuse.volfs", "-o", asked, &store, &at]),
    );
    assert!(!options(&place).contains("no"), "{}", options(&place));
    support::run(Command::new("umount").arg(&at));
    place.volfs.ok(&["ls"]);

    // As `mount -a` and systemd do it.
    let fstab: PathBuf = place.dir.join("fstab");
    let line = format!("{store} {at} fuse.volfs defaults,_netdev,nofail,x-systemd.automount 0 0\n");
    fs::write(&fstab, line).unwrap();
    mounted(&place, &mount(&["-a", "--fstab", fstab.to_str().unwrap()]));
    assert!(options(&place).starts_with("rw,nosuid,nodev"));
    let again = mount(&["-t", "fuse.volfs", &store, &at]);
    assert_eq!(again.status.code(), Some(32), "mount(8): mount failure");
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("is already mounted on"), "{said}");
    place.umount();

    let unknown = mount(&["-t", "fuse.volfs", "-o", "frobnicate", &store, &at]);
    assert_eq!(
        unknown.status.code(),
        Some(1),
        "mount(8): incorrect invocation"
    );
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        said.contains("unknown mount option \"frobnicate\""),
        "{said}"
    );
    mounted(
        &place,
        &mount(&["-t", "fuse.volfs", "-s", "-o", "frobnicate", &store, &at]),
    );
    place.umount();
    let fake = mount(&["-f", "-t", "fuse.volfs", &store, &at]);
    assert!(fake.status.success() && !place.is_mounted());
    drop(helper);
    assert!(!fs::exists(HELPER).unwrap());
}
