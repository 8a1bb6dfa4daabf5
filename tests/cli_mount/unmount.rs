//! `volfs umount`, and other ways in which a mount ends.

use std::fs;
use std::process::{Child, Command, Stdio};

use super::Place;
use super::support::{self, proc, wait_for};

/// A process whose working directory is in the mount; killed in the end.
struct Guest(Child);

impl Guest {
    fn in_volume(place: &Place) -> Self {
        let volume = place.mountpoint.join("a");
        fs::create_dir(&volume).unwrap();
        Self::in_volume_of(&volume)
    }

    fn in_volume_of(volume: &std::path::Path) -> Self {
        let child = Command::new("sleep")
            .arg("1000")
            .current_dir(volume)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_busy_mount_stays_and_the_error_says_who_uses_it() {
    let place = Place::new();
    place.mount(&[]);
    let guest = Guest::in_volume(&place);
    let said = place.volfs.fails(1, &["umount", place.at()]);
    let who = format!("process {} (sleep)", guest.0.id());
    assert!(said.contains(&who), "{said}");
    assert!(said.contains(", by its working directory"), "{said}");
    assert!(said.contains("--lazy"), "what to do: {said}");
    assert!(place.is_mounted());
    let said = place.volfs.fails(1, &["rm", "a"]);
    assert!(said.contains(&who), "{said}");
    drop(guest);
    place.umount();
    assert!(!place.is_mounted());
}

/// Something is mounted on a directory of a volume: the kernel says busy, and
/// no process uses anything.
#[test]
fn what_is_mounted_inside_is_named() {
    let place = Place::new();
    place.mount(&[]);
    let volume = place.mountpoint.join("a");
    let inside = volume.join("in side");
    fs::create_dir_all(&inside).unwrap();
    let inside = Inside::tmpfs(&inside);
    // On the volume itself, too.
    let other = place.mountpoint.join("b");
    fs::create_dir(&other).unwrap();
    let over = Inside::tmpfs(&other);
    let said = place.volfs.fails(1, &["umount", place.at()]);
    for place in [&inside.0, &over.0] {
        let wanted = format!("a mount inside it on {} (tmpfs)", place.display());
        assert!(said.contains(&wanted), "{said}");
    }
    assert!(
        said.contains("; unmount that first, or use --lazy"),
        "{said}"
    );
    assert!(place.is_mounted());
    drop(over);
    let guest = Guest::in_volume_of(&volume);
    let said = place.volfs.fails(1, &["umount", place.at()]);
    assert!(said.contains("; end and unmount that first"), "{said}");
    assert!(!said.contains(&*other.to_string_lossy()), "{said}");
    drop(guest);
    drop(inside);
    place.umount();
    assert!(!place.is_mounted());
}

/// A mount on a directory, until it is dropped.
struct Inside(std::path::PathBuf);

impl Inside {
    fn tmpfs(dir: &std::path::Path) -> Self {
        support::run(
            Command::new("mount")
                .args(["-t", "tmpfs", "tmpfs"])
                .arg(dir),
        );
        Self(dir.to_owned())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_lazy_unmount_lets_who_uses_it_finish() {
    let place = Place::new();
    let daemon = place.mount(&[]);
    let guest = Guest::in_volume(&place);
    let inside = format!("/proc/{}/cwd/f", guest.0.id());
    place.volfs.ok(&["umount", "--lazy", place.at()]);
    assert!(!place.is_mounted());
    fs::write(&inside, "still served").unwrap();
    assert_eq!(fs::read(&inside).unwrap(), b"still served");
    assert!(proc::is_alive(daemon));
    drop(guest);
    wait_for("the daemon ends with its last user", || {
        !proc::is_alive(daemon)
    });
    assert_eq!(place.volfs.names(), ["a"]);
}

#[test]
fn umount_and_mount_can_follow_each_other_at_once() {
    let place = Place::new();
    for round in 0..10 {
        let daemon = place.mount(&[]);
        fs::create_dir(place.mountpoint.join(format!("v{round}"))).unwrap();
        place.umount();
        assert!(!proc::is_alive(daemon), "the daemon has ended");
        assert!(!place.volfs.store().join("control.sock").exists());
    }
    assert_eq!(place.volfs.names().len(), 10);
}

#[test]
fn umount_8_ends_the_daemon_too() {
    let place = Place::new();
    let daemon = place.mount(&[]);
    fs::create_dir(place.mountpoint.join("a")).unwrap();
    support::run(Command::new("umount").arg(&place.mountpoint));
    wait_for("the daemon ends", || !proc::is_alive(daemon));
    assert!(
        place.log().trim_end().ends_with("unmounted"),
        "{}",
        place.log()
    );
    assert_eq!(place.volfs.names(), ["a"]);
}

#[test]
fn a_mount_that_a_killed_daemon_left_is_cleaned_by_the_next() {
    let place = Place::new();
    let daemon = place.mount(&[]);
    fs::create_dir(place.mountpoint.join("a")).unwrap();
    proc::kill(daemon);
    // The process that it supervises dies with it.
    wait_for("it is dead", || {
        support::mount::answers(&place.mountpoint) == Err(rustix::io::Errno::NOTCONN)
    });
    assert_eq!(place.volfs.names(), ["a"], "commands work meanwhile");
    let doctor = place.volfs.ok(&["doctor"]);
    assert!(doctor.contains("its daemon has died"), "{doctor}");
    place.mount(&[]);
    assert!(place.mountpoint.join("a").is_dir());
    place.umount();
    assert!(!place.is_mounted(), "one mount, not two on each other");
}

#[test]
fn a_mount_that_a_killed_daemon_left_can_be_unmounted() {
    let place = Place::new();
    let daemon = place.mount(&[]);
    proc::kill(daemon);
    wait_for("it is dead", || !proc::is_alive(daemon));
    place.umount();
    assert!(!place.is_mounted());
}

#[test]
fn a_place_inside_or_beside_a_mount_is_none() {
    let place = Place::new();
    place.mount(&[]);
    let inside = place.mountpoint.join("a");
    fs::create_dir(&inside).unwrap();
    let said = place.volfs.fails(1, &["umount", inside.to_str().unwrap()]);
    assert!(
        said.contains(&format!("the mount of volfs on {}", place.at())),
        "{said}"
    );
    let bound = place.dir.mkdir("bound");
    support::run(Command::new("mount").arg("--bind").args([&inside, &bound]));
    let said = place.volfs.fails(1, &["umount", place.at()]);
    assert!(said.contains("in use"), "{said}");
    place.volfs.ok(&["umount", bound.to_str().unwrap()]);
    assert!(place.is_mounted(), "only the bind mount is gone");
    assert!(proc::mount_on(&bound).is_none());
    support::run(
        Command::new("mount")
            .arg("--bind")
            .args([&place.mountpoint, &bound]),
    );
    let said = place.volfs.fails(1, &["umount", place.at()]);
    assert!(said.contains(bound.to_str().unwrap()), "{said}");
    place.volfs.ok(&["umount", bound.to_str().unwrap()]);
    place.umount();
}
