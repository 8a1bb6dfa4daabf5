//! Who uses a volume that has another name by now: what is mounted goes on to
//! be the volume's, under whatever name the kernel shows it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Mount, proc, run, wait_for};
use crate::{Guest, NAMESPACES, Unmount, assert_free, assert_refused, how};

/// A jail that has `volume` bound to /tmp/data.
fn jail(volume: &Path) -> Guest {
    let mut bwrap = Command::new("bwrap");
    bwrap
        .args(["--ro-bind", "/", "/", "--tmpfs", "/tmp"])
        .args(["--dir", "/tmp/data", "--bind"])
        .arg(volume)
        .args(["/tmp/data", "--unshare-all", "--die-with-parent"])
        .args(["sh", "-c", "read end"]);
    Guest::start(&mut bwrap)
}

fn bind(mount: &Mount, from: &Path, name: &str) -> PathBuf {
    let place = mount.dir().mkdir(name);
    run(Command::new("mount").arg("--bind").arg(from).arg(&place));
    place
}

/// The volume `a` becomes `b`, and another one is made as `a`.
fn take_its_name(mount: &Mount) {
    mount.volfs().ok(&["mv", "a", "b"]);
    mount.volume("a");
}

/// Only the volume `b` is in use.
fn assert_b_is_held(mount: &Mount, words: &[&str]) {
    // First of all without a look at the new name through the mount, which lets
    // the kernel know of it.
    let said = mount.volfs().fails(1, &["rm", "--purge", "b"]);
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    assert_refused(mount, "b", words);
    assert_eq!(how(&mount.volfs().holders("a")), [""; 0]);
    mount.volfs().ok(&["rm", "--purge", "a"]);
}

#[test]
fn a_jail_keeps_its_volume() {
    let _in_turn = NAMESPACES.read();
    let mount = Mount::new();
    let volume = mount.volume("a");
    fs::write(volume.join("f"), "data of the jail").unwrap();
    let guest = jail(&volume);
    wait_for("it is bound", || !mount.volfs().holders("a").is_empty());
    take_its_name(&mount);
    assert_b_is_held(&mount, &["a bind mount on /tmp/data"]);
    let text = fs::read_to_string(mount.join("b/f")).unwrap();
    assert_eq!(text, "data of the jail");
    // Also a part of it, and once it is called otherwise by the kernel's doing.
    guest.end();
    fs::create_dir(mount.join("b/part")).unwrap();
    let guest = jail(&mount.join("b/part"));
    wait_for("it is bound", || !mount.volfs().holders("b").is_empty());
    fs::rename(mount.join("b"), mount.join("a")).unwrap();
    take_its_name(&mount);
    assert_b_is_held(&mount, &["a bind mount on /tmp/data"]);
    guest.end();
    assert_free(&mount, "b");
}

#[test]
fn names_that_were_exchanged() {
    let _in_turn = NAMESPACES.read();
    let mount = Mount::new();
    let guest = jail(&mount.volume("a"));
    mount.volume("b");
    wait_for("it is bound", || !mount.volfs().holders("a").is_empty());
    for (from, to) in [("a", "x"), ("b", "a"), ("x", "b")] {
        mount.volfs().ok(&["mv", from, to]);
    }
    assert_b_is_held(&mount, &["a bind mount on /tmp/data"]);
    guest.end();
    assert_free(&mount, "b");
}

#[test]
fn force_detaches_what_is_of_the_volume_and_nothing_else() {
    let _in_turn = NAMESPACES.write();
    let mount = Mount::new();
    let volfs = mount.volfs();
    let volume = mount.volume("a");
    fs::create_dir(volume.join("sub")).unwrap();
    let places = [
        bind(&mount, &volume, "whole"),
        bind(&mount, &volume.join("sub"), "part"),
    ];
    let unmount = places.each_ref().map(|place| Unmount(place));
    take_its_name(&mount);
    let on = |place: &PathBuf| format!("a bind mount on {}", place.display());
    let said = volfs.fails(1, &["rm", "--purge", "b"]);
    assert!(said.contains(&on(&places[0])), "{said}");
    assert!(said.contains(&on(&places[1])), "{said}");

    // Of the other volume there is nothing to detach.
    assert_eq!(volfs.ok(&["rm", "--force", "a"]), "a\n");
    for place in &places {
        assert!(proc::mount_on(place).is_some(), "{place:?}");
    }
    mount.volume("a");
    let said = volfs.ok(&["rm", "--force", "b"]);
    for place in &places {
        assert!(said.contains(&place.display().to_string()), "{said}");
        assert!(proc::mount_on(place).is_none(), "{place:?}");
    }
    drop(unmount);
    assert_free(&mount, "a");
}

/// What cannot be looked at may be of each volume that had the name.
#[test]
fn a_mount_below_another_is_of_all_that_had_the_name() {
    let _in_turn = NAMESPACES.write();
    let mount = Mount::new();
    let place = bind(&mount, &mount.volume("a"), "place");
    let bound = Unmount(&place);
    take_its_name(&mount);
    run(Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs"])
        .arg(&place));
    let over = Unmount(&place);
    mount.volume("never-called-so");
    for name in ["a", "b"] {
        let word = format!("a bind mount on {}", place.display());
        assert_refused(&mount, name, &[&word]);
    }
    assert_eq!(proc::mount_on(&place).unwrap().0, "tmpfs");
    assert_free(&mount, "never-called-so");
    drop(over);
    assert_free(&mount, "a");
    assert_eq!(proc::mount_on(&place).unwrap().0, "fuse.volfs");
    drop(bound);
    assert_free(&mount, "b");
}

#[test]
fn a_mount_twice_on_one_place() {
    let _in_turn = NAMESPACES.write();
    let mount = Mount::new();
    let volume = mount.volume("a");
    let place = bind(&mount, &volume, "place");
    run(Command::new("mount").arg("--bind").arg(&volume).arg(&place));
    let _unmount = [Unmount(&place), Unmount(&place)];
    take_its_name(&mount);
    mount.volfs().ok(&["rm", "--force", "b"]);
    assert_eq!(proc::mount_on(&place), None);
    assert_free(&mount, "a");
}

#[test]
fn an_overlay_keeps_its_volume() {
    let _in_turn = NAMESPACES.write();
    for by_kernel in [false, true] {
        let mount = Mount::new();
        let volume = mount.volume("a");
        fs::create_dir(volume.join("low")).unwrap();
        let (merged, empty) = (mount.dir().mkdir("merged"), mount.dir().mkdir("empty"));
        let low = volume.join("low");
        let options = format!("lowerdir={}:{}", low.display(), empty.display());
        run(Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&merged));
        let unmount = Unmount(&merged);
        if by_kernel {
            fs::rename(&volume, mount.join("b")).unwrap();
            mount.volume("a");
        } else {
            take_its_name(&mount);
        }
        // All that is known of a layer is a path, from whenever.
        for name in ["a", "b"] {
            let said = mount.volfs().fails(1, &["rm", "--force", name]);
            assert!(said.contains("an overlay mount on"), "{name}: {said}");
        }
        drop(unmount);
        assert_free(&mount, "a");
        assert_free(&mount, "b");
    }
}

#[test]
fn the_image_of_a_disk_in_a_jail() {
    let _in_turn = NAMESPACES.read();
    let mount = Mount::new();
    mount
        .volfs()
        .ok(&["create", "a", "--disk", "--size", "16M"]);
    let mut bwrap = Command::new("bwrap");
    bwrap
        .args(["--ro-bind", "/", "/", "--tmpfs", "/tmp", "--bind"])
        .arg(mount.join(".volfs/disks/a.raw"))
        .args(["/tmp/disk", "--unshare-all", "--die-with-parent"])
        .args(["sh", "-c", "read end"]);
    let guest = Guest::start(&mut bwrap);
    wait_for("it is bound", || !mount.volfs().holders("a").is_empty());
    take_its_name(&mount);
    let said = mount.volfs().fails(1, &["rm", "--purge", "b"]);
    assert!(said.contains("a bind mount on /tmp/disk"), "{said}");
    assert_free(&mount, "a");
    guest.end();
    assert_free(&mount, "b");
}

#[test]
fn after_another_process_has_taken_over() {
    let _in_turn = NAMESPACES.write();
    let mount = Mount::builder().supervised().start();
    let place = bind(&mount, &mount.volume("a"), "place");
    let bound = Unmount(&place);
    take_its_name(&mount);
    run(Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs"])
        .arg(&place));
    let over = Unmount(&place);
    for _ in 0..2 {
        let old = mount.serving_pid();
        mount.kill_serving();
        wait_for("another process", || {
            mount.serving_pid().is_some_and(|pid| Some(pid) != old)
                && crate::support::mount::answers(mount.path()).is_ok()
        });
    }
    for name in ["a", "b"] {
        let said = mount.volfs().fails(1, &["rm", "--purge", name]);
        assert!(said.contains("a bind mount on"), "{name}: {said}");
    }
    drop(over);
    assert_b_is_held(&mount, &["a bind mount on"]);
    drop(bound);
    assert_free(&mount, "b");
}
