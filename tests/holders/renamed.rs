//! Who uses a volume that has another name by now: what is mounted goes on to
//! be the volume's, under whatever name the kernel shows it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

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

fn tmpfs(place: &Path) {
    run(Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs"])
        .arg(place));
}

fn overlay(low: &Path, place: &Path, empty: &Path) {
    let options = format!("lowerdir={}:{}", low.display(), empty.display());
    run(Command::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(place));
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

/// It is the volume's all the same, and comes to light again.
#[test]
fn a_mount_below_another() {
    let _in_turn = NAMESPACES.write();
    let mount = Mount::new();
    let volume = mount.volume("a");
    let place = bind(&mount, &volume, "place");
    let bound = Unmount(&place);
    tmpfs(&place);
    let over = Unmount(&place);
    let on = format!("a bind mount on {}", place.display());
    take_its_name(&mount);
    let said = mount.volfs().fails(1, &["rm", "--force", "b"]);
    assert!(said.contains(&on), "{said}");
    mount.volfs().ok(&["rm", "--purge", "a"]);
    assert_eq!(proc::mount_on(&place).unwrap().0, "tmpfs");
    drop(over);
    assert_eq!(proc::mount_on(&place).unwrap().0, "fuse.volfs");
    let said = mount.volfs().fails(1, &["rm", "--purge", "b"]);
    assert!(said.contains(&on), "{said}");
    drop(bound);
    assert_free(&mount, "b");
}

#[test]
fn what_is_mounted_in_it_stays_and_so_does_who_works_there() {
    let _in_turn = NAMESPACES.write();
    let mount = Mount::new();
    let volume = mount.volume("a");
    fs::create_dir(volume.join("in")).unwrap();
    let place = bind(&mount, &volume, "place");
    let bound = Unmount(&place);
    let inner = [volume.join("in"), place.join("in")];
    inner.iter().for_each(|place| tmpfs(place));
    let guest = Guest::shell(&format!("cd {}", place.display()));
    mount.volfs().ok(&["mv", "a", "b"]);
    let inner = [mount.join("b/in"), place.join("in")];
    let unmount = inner.each_ref().map(|place| Unmount(place));
    for place in &unmount {
        assert_eq!(proc::mount_on(place.0).unwrap().0, "tmpfs", "{:?}", place.0);
    }
    let cwd = format!("/proc/{}/cwd", guest.pid());
    assert_eq!(fs::read_link(cwd).unwrap(), place);
    assert_eq!(mount.volfs().names(), ["b"]);
    drop(unmount);
    guest.end();
    drop(bound);
    fs::remove_dir(mount.join("b/in")).unwrap();
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
        let link = mount.dir().join("link");
        std::os::unix::fs::symlink(&volume, &link).unwrap();
        let low = if by_kernel { &link } else { &volume }.join("low");
        overlay(&low, &merged, &empty);
        let unmount = Unmount(&merged);
        if by_kernel {
            fs::rename(&volume, mount.join("b")).unwrap();
            mount.volume("a");
        } else {
            take_its_name(&mount);
        }
        let said = mount.volfs().fails(1, &["rm", "--force", "b"]);
        assert!(said.contains("an overlay mount on"), "{said}");
        // It was mounted before the other one had the name.
        assert_eq!(how(&mount.volfs().holders("a")), [""; 0]);
        fs::remove_dir(mount.join("a")).unwrap();
        mount.volume("a");
        drop(unmount);
        assert_free(&mount, "a");
        assert_free(&mount, "b");
    }
}

/// Of two overlays by one name each keeps the volume that had it then, or all
/// that may have had it.
#[test]
fn overlays_from_before_and_after() {
    let _in_turn = NAMESPACES.write();
    let mount = Mount::new();
    let volfs = mount.volfs();
    let low = |name: &str| {
        let low = mount.join(name).join("low");
        fs::create_dir(&low).unwrap();
        low
    };
    let place = |name: &str| mount.dir().mkdir(name);
    let (empty, before, after) = (place("empty"), place("before"), place("after"));
    mount.volume("a");
    overlay(&low("a"), &before, &empty);
    let of_before = Unmount(&before);
    // A mount of it that is made later, in another mount namespace, is still of
    // the same overlay.
    take_its_name(&mount);
    let guest = Guest::start(Command::new("unshare").args(["--mount", "sh", "-c", "read end"]));
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    wait_for("it has a namespace of its own", || {
        namespace(&guest.pid().to_string()) != namespace("self")
    });
    assert_eq!(how(&volfs.holders("a")), [""; 0]);
    assert_eq!(how(&volfs.holders("b")), ["overlay"]);
    // With the one from before gone, it may have been mounted whenever.
    drop(of_before);
    assert_eq!(how(&volfs.holders("a")), ["overlay"]);
    assert_eq!(how(&volfs.holders("b")), ["overlay"]);
    guest.end();
    wait_for("it is unmounted", || volfs.holders("b").is_empty());

    overlay(&low("a"), &after, &empty);
    let of_after = Unmount(&after);
    let found = volfs.holders("a");
    assert_eq!(how(&found), ["overlay"]);
    assert_eq!(found[0]["by_name"], "a");
    volfs.fails(1, &["rm", "--purge", "a"]);
    // A third one by the name.
    for (from, to) in [("a", "c"), ("b", "a"), ("a", "b")] {
        volfs.ok(&["mv", from, to]);
    }
    mount.volume("a");
    assert_eq!(how(&volfs.holders("a")), [""; 0]);
    assert_eq!(how(&volfs.holders("c")), ["overlay"]);
    // Something is mounted over it: it cannot be looked at.
    tmpfs(&after);
    let over = Unmount(&after);
    assert_eq!(how(&volfs.holders("a")), ["overlay"]);
    drop(over);
    assert_eq!(how(&volfs.holders("a")), [""; 0]);
    drop(of_after);
    for name in ["a", "b", "c"] {
        assert_free(&mount, name);
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

/// How names change hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Command,
    Kernel,
    Exchange,
}

impl Way {
    /// The volume `a` ends as `c`, and another one has its name.
    fn go(self, mount: &Mount, between: impl Fn()) {
        let to = |from: &str, to: &str| match self {
            Self::Command => drop(mount.volfs().ok(&["mv", from, to])),
            _ => fs::rename(mount.join(from), mount.join(to)).unwrap(),
        };
        if self == Self::Exchange {
            mount.volume("c");
            between();
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            let here = rustix::fs::CWD;
            rustix::fs::renameat_with(here, mount.join("a"), here, mount.join("c"), flags).unwrap();
        } else {
            to("a", "b");
            between();
            mount.volume("a");
            to("b", "c");
        }
        between();
    }
}

/// A bind mount, an overlay, an open file and a working directory, each by
/// itself, while names go from hand to hand and processes die.
#[test]
fn whatever_becomes_of_the_names() {
    let _in_turn = NAMESPACES.write();
    for way in [Way::Command, Way::Kernel, Way::Exchange] {
        let mount = Mount::builder().supervised().start();
        let volfs = mount.volfs();
        for how_held in ["bind-mount", "overlay", "open-file", "working-directory"] {
            let volume = mount.volume("a");
            fs::create_dir(volume.join("low")).unwrap();
            fs::write(volume.join("f"), how_held).unwrap();
            let place = mount.dir().mkdir(how_held);
            let mut unmount = None;
            let mut guest = None;
            let shell = |script: String| Some(Guest::shell(&script));
            match how_held {
                "bind-mount" => {
                    run(Command::new("mount").arg("--bind").arg(&volume).arg(&place));
                    unmount = Some(Unmount(&place));
                }
                "overlay" => {
                    overlay(&volume.join("low"), &place, &mount.dir().mkdir("empty"));
                    unmount = Some(Unmount(&place));
                }
                "open-file" => guest = shell(format!("exec 5< {}/f", volume.display())),
                _ => guest = shell(format!("cd {}/low", volume.display())),
            }
            wait_for("it is held", || !volfs.holders("a").is_empty());
            way.go(&mount, || take_over(&mount));
            assert_eq!(how(&volfs.holders("c")), [how_held], "{way:?}");
            volfs.fails(1, &["rm", "--purge", "c"]);
            // All that is known of an overlay's layer is a path, from whenever.
            if how_held == "overlay" {
                let said = volfs.fails(1, &["rm", "--purge", "a"]);
                assert!(said.contains("by the name a; volumes have"), "{said}");
            } else {
                assert_eq!(how(&volfs.holders("a")), [""; 0], "{way:?}");
                volfs.ok(&["rm", "--purge", "a"]);
            }
            assert_eq!(fs::read_to_string(mount.join("c/f")).unwrap(), how_held);
            drop(unmount);
            drop(guest);
            assert_free(&mount, "c");
            if how_held == "overlay" {
                assert_free(&mount, "a");
            }
        }
    }
}

/// Kills the process that serves, and waits for the next.
fn take_over(mount: &Mount) {
    let old = mount.serving_pid();
    mount.kill_serving();
    wait_for("another process", || {
        mount.serving_pid().is_some_and(|pid| Some(pid) != old)
            && crate::support::mount::answers(mount.path()).is_ok()
    });
}

/// Nobody is to blame for what is mounted in the host's mount namespace; in
/// another, a process that is in it is, if it is the daemon itself.
#[test]
fn whose_mount_it_is() {
    let _in_turn = NAMESPACES.write();
    let mount = Mount::new();
    let place = bind(&mount, &mount.volume("a"), "place");
    let bound = Unmount(&place);
    let found = mount.volfs().holders("a");
    assert_eq!(how(&found), ["bind-mount"]);
    // Process 1 can have more capabilities than a test may look at; 2 is a
    // thread of the kernel where the host's processes are seen.
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    if namespace("1").or_else(|| namespace("2")) == namespace("self") {
        assert_eq!(found.len(), 1);
        assert!(found[0].get("pid").is_none_or(Value::is_null), "{found:?}");
        let said = mount.volfs().fails(1, &["rm", "a"]);
        assert!(
            said.contains("the host's mount namespace, by a bind"),
            "{said}"
        );
    }
    drop(bound);
    assert_free(&mount, "a");

    let (store, mnt) = (mount.dir().mkdir("store2"), mount.dir().mkdir("mnt2"));
    let daemon = Guest::start(
        Command::new("unshare")
            .args(["--mount", "--propagation", "private"])
            .arg(crate::support::cli::binary())
            .arg("--store")
            .arg(&store)
            .args(["mount", "--foreground", "--no-supervisor"])
            .arg(&mnt),
    );
    let volfs = crate::support::Volfs::new(&store);
    wait_for("it serves", || volfs.run(&["stats"]).code == Some(0));
    volfs.ok(&["create", "a"]);
    let within = |command: &[&str]| {
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--target", &daemon.pid().to_string(), "--mount"]);
        run(nsenter.args(command));
    };
    let place = place.to_str().unwrap();
    within(&["mount", "--bind", mnt.join("a").to_str().unwrap(), place]);
    let found = volfs.holders("a");
    assert_eq!(how(&found), ["bind-mount"]);
    assert_eq!(found[0]["pid"], daemon.pid());
    let said = volfs.fails(1, &["rm", "a"]);
    assert!(
        said.contains("(volfs)") && said.contains("by a bind mount on"),
        "{said}"
    );
    assert!(volfs.ok(&["rm", "--force", "a"]).contains(place));
}
