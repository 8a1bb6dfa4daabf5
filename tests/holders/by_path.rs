//! Who uses a volume by its path in the store: bind mounts, overlays, open and
//! mapped files, shells and jails, in any mount namespace, with a daemon and
//! without one. Nothing of theirs is deleted.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::map::{Map, Sharing};
use super::support::{Mount, OwnFs, Volfs, poll, run, wait_for};
use super::{Guest, NAMESPACES, Unmount, how};

/// A store with the volume `v` that holds a file, and where that is in it.
struct Stored {
    // Before the mount, which has its directory.
    place: PathBuf,
    mount: Mount,
}

impl Stored {
    fn new(mut mount: Mount, mounted: bool) -> Self {
        let volume = mount.volume("v");
        fs::create_dir(volume.join("sub")).unwrap();
        fs::write(volume.join("sub/f"), "precious").unwrap();
        let place = mount.host_path("v");
        if !mounted {
            mount.stop();
        }
        Self { place, mount }
    }

    fn volfs(&self) -> Volfs {
        self.mount.volfs()
    }

    /// Waits until the volume is used in this way alone, and sees to it that
    /// nothing removes it.
    fn is_held(&self, by: &str, words: &str) {
        let volfs = self.volfs();
        wait_for("somebody holds the volume", || {
            how(&volfs.holders("v")) == [by]
        });
        for command in [&["rm", "v"][..], &["rm", "--purge", "v"]] {
            let said = volfs.fails(1, command);
            assert!(
                said.contains("is in use by") && said.contains(words),
                "{command:?}: {said}"
            );
        }
        let used = volfs.ok(&["ls", "-q", "--filter", "in-use"]);
        assert_eq!(used.trim(), "v");
        volfs.ok(&["prune", "--filter", "unused"]);
        assert_eq!(volfs.names(), ["v"]);
        assert_eq!(
            fs::read_to_string(self.place.join("sub/f")).unwrap(),
            "precious"
        );
    }

    /// Nobody uses it any more; it goes to the trash and is deleted for good.
    fn is_free(&self) {
        let volfs = self.volfs();
        wait_for("nobody holds the volume", || volfs.holders("v").is_empty());
        volfs.ok(&["rm", "v"]);
        volfs.ok(&["trash", "empty", "--wait", "--yes"]);
        assert!(!self.place.exists());
    }
}

/// Runs `check` with a daemon and without one.
fn both(check: impl Fn(&Stored)) {
    for mounted in [true, false] {
        let stored = Stored::new(Mount::new(), mounted);
        check(&stored);
        stored.is_free();
    }
}

fn bind(from: &Path, to: &Path) {
    run(Command::new("mount").arg("--bind").arg(from).arg(to));
}

#[test]
fn a_bind_mount_of_the_store() {
    let _in_turn = NAMESPACES.write();
    both(|stored| {
        let at = stored.mount.dir().mkdir("bound");
        for part in ["", "sub"] {
            bind(&stored.place.join(part), &at);
            let bound = Unmount(&at);
            stored.is_held("bind-mount", &format!("a bind mount on {}", at.display()));
            drop(bound);
        }
        // A file, and the volume's own directory with all that is in it.
        let file = stored.mount.dir().join("file");
        File::create(&file).unwrap();
        bind(&stored.place.join("sub/f"), &file);
        let bound = Unmount(&file);
        stored.is_held("bind-mount", "a bind mount on");
        drop(bound);
        bind(stored.place.parent().unwrap(), &at);
        let bound = Unmount(&at);
        stored.is_held("bind-mount", "a bind mount on");
        drop(bound);
        // Of all volumes: no one's.
        bind(stored.mount.store(), &at);
        let _bound = Unmount(&at);
        // Others may have copied the mounts of before, with their mount namespace.
        wait_for("nobody holds it", || stored.volfs().holders("v").is_empty());
    });
}

#[test]
fn a_sandbox_in_its_own_mount_namespace() {
    let _in_turn = NAMESPACES.write();
    both(|stored| {
        let mut bwrap = Command::new("bwrap");
        bwrap
            .args(["--ro-bind", "/", "/", "--tmpfs", "/tmp", "--bind"])
            .arg(&stored.place)
            .args(["/tmp/data", "--unshare-all", "--die-with-parent"])
            .args(["sh", "-c", "read end"]);
        let guest = Guest::start(&mut bwrap);
        stored.is_held("bind-mount", "a bind mount on /tmp/data");
        let said = stored.volfs().fails(1, &["rm", "--force", "v"]);
        assert!(said.contains("nothing was detached"), "{said}");
        guest.end();
    });
}

/// The mount has no process that sees it: the namespace is kept by a file, as
/// `ip netns` and some container engines do.
#[test]
fn a_mount_namespace_that_no_process_is_in() {
    let _in_turn = NAMESPACES.write();
    for mounted in [true, false] {
        let stored = Stored::new(Mount::new(), mounted);
        let dir = stored.mount.dir().mkdir("kept");
        run(Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&dir));
        let unmount = Unmount(&dir);
        run(Command::new("mount").arg("--make-private").arg(&dir));
        let namespace = dir.join("ns");
        File::create(&namespace).unwrap();
        let places = if mounted {
            vec![stored.place.clone(), stored.mount.join("v")]
        } else {
            vec![stored.place.clone()]
        };
        for place in places {
            let script = format!("mount --bind {} /mnt", place.display());
            run(Command::new("unshare")
                .arg(format!("--mount={}", namespace.display()))
                .args(["sh", "-euc", &script]));
            let kept = Unmount(&namespace);
            stored.is_held("bind-mount", "which no process is in");
            drop(kept);
        }
        drop(unmount);
        stored.is_free();
    }
}

#[test]
fn an_overlay_with_a_layer_in_the_store() {
    let _in_turn = NAMESPACES.write();
    both(|stored| {
        let merged = stored.mount.dir().mkdir("merged");
        let other = stored.mount.dir().mkdir("other");
        let bound = stored.mount.dir().mkdir("bound");
        let overlay = |lower: &Path| {
            let layers = format!("lowerdir={}:{}", lower.display(), other.display());
            run(Command::new("mount")
                .args(["-t", "overlay", "overlay", "-o", &layers])
                .arg(&merged));
        };
        overlay(&stored.place.join("sub"));
        let mounted = Unmount(&merged);
        let words = format!("an overlay mount on {}", merged.display());
        stored.is_held("overlay", &words);
        drop(mounted);
        // By way of a bind mount of the store.
        bind(stored.mount.store(), &bound);
        let below = stored.place.strip_prefix(stored.mount.store()).unwrap();
        overlay(&bound.join(below));
        let mounted = Unmount(&merged);
        stored.is_held("overlay", &words);
        drop(mounted);
        drop(Unmount(&bound));
    });
}

#[test]
fn something_mounted_on_a_directory_in_the_store() {
    let _in_turn = NAMESPACES.write();
    both(|stored| {
        let at = stored.place.join("inside");
        fs::create_dir(&at).unwrap();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(&at));
        fs::write(at.join("other"), "somebody else's").unwrap();
        let mounted = Unmount(&at);
        stored.is_held("mount-inside", "a mount inside it on");
        assert!(at.join("other").exists());
        drop(mounted);
    });
}

fn processes(stored: &Stored) {
    let file = stored.place.join("sub/f");
    let sub = stored.place.join("sub");
    let mut shell = Command::new("sh");
    let guest = Guest::start(shell.args(["-c", "read end"]).current_dir(&sub));
    stored.is_held("working-directory", "its working directory");
    guest.end();

    let open = File::open(&file).unwrap();
    stored.is_held("open-file", "an open file");
    let map = Map::new(&open, 8, Sharing::Shared, false).unwrap();
    drop(open);
    stored.is_held("mapping", "a mapped file");
    drop(map);

    let busybox = stored.place.join("busybox");
    fs::copy("/bin/busybox", &busybox).unwrap();
    let mut jail = Command::new("chroot");
    jail.arg(&stored.place).args(["/busybox", "sleep", "1000"]);
    let guest = Guest::start(&mut jail);
    let volfs = stored.volfs();
    wait_for("it is in the jail", || {
        let holders = volfs.holders("v");
        holders.iter().any(|it| it["how"] == "root-directory")
    });
    let said = volfs.fails(1, &["rm", "v"]);
    assert!(said.contains("its root directory"), "{said}");
    drop(guest);
}

#[test]
fn processes_that_go_by_the_path_in_the_store() {
    let _in_turn = NAMESPACES.read();
    both(processes);
}

/// Handles and device numbers differ by file system.
#[test]
fn on_every_file_system() {
    let _in_turn = NAMESPACES.write();
    let file_systems: [(&[&str], u64); 2] = [
        (&["mkfs.btrfs", "-q"], 256 << 20),
        (&["mkfs.xfs", "-q"], 512 << 20),
    ];
    for (mkfs, size) in file_systems {
        let own = OwnFs::new(mkfs, size);
        for mounted in [true, false] {
            let stored = Stored::new(Mount::builder().parent(own.path()).start(), mounted);
            processes(&stored);
            let at = stored.mount.dir().mkdir("bound");
            bind(&stored.place.join("sub"), &at);
            let bound = Unmount(&at);
            stored.is_held("bind-mount", "a bind mount on");
            drop(bound);
            stored.is_free();
        }
    }
}

#[test]
fn an_empty_volume_is_not_removed_under_its_users() {
    let _in_turn = NAMESPACES.write();
    let mount = Mount::new();
    let volume = mount.volume("v");
    let place = mount.host_path("v");
    let at = mount.dir().mkdir("bound");
    let busy = || {
        let error = fs::remove_dir(&volume).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    };
    bind(&place, &at);
    let bound = Unmount(&at);
    busy();
    drop(bound);
    let mut shell = Command::new("sh");
    let guest = Guest::start(shell.args(["-c", "read end"]).current_dir(&place));
    busy();
    guest.end();
    let open = File::open(&place).unwrap();
    busy();
    drop(open);
    fs::remove_dir(&volume).unwrap();
}

#[test]
fn what_is_in_the_trash_is_kept_for_its_users() {
    let _in_turn = NAMESPACES.write();
    for mounted in [true, false] {
        let mut stored = Stored::new(Mount::new(), true);
        let volfs = stored.volfs();
        volfs.ok(&["create", "other"]);
        volfs.ok(&["rm", "v", "other"]);
        if !mounted {
            stored.mount.stop();
        }
        let trash: serde_json::Value =
            serde_json::from_str(&volfs.ok(&["trash", "ls", "--json"])).unwrap();
        let mut all = trash.as_array().unwrap().iter().map(|it| &it["info"]);
        let v = all.find(|it| it["name"] == "v").unwrap();
        stored.place = v["path"].as_str().unwrap().into();
        let at = stored.mount.dir().mkdir("bound");
        bind(&stored.place, &at);
        let bound = Unmount(&at);
        let said = volfs.fails(1, &["trash", "empty", "v"]);
        assert!(said.contains("removed volume \"v\" is in use by"), "{said}");
        // The other is deleted.
        let said = volfs.fails(1, &["trash", "empty", "--wait", "--yes"]);
        assert!(
            said.contains("stays in the trash; 1 were deleted") && said.contains("a bind mount on"),
            "{said}"
        );
        assert_eq!(fs::read_to_string(at.join("sub/f")).unwrap(), "precious");
        if mounted {
            volfs.ok(&["config", "trash.retention", "1s"]);
            let log = || {
                stored
                    .mount
                    .daemon_log()
                    .contains("is kept while it is in use by")
            };
            wait_for("its time is over", log);
            assert_eq!(fs::read_to_string(at.join("sub/f")).unwrap(), "precious");
        }
        drop(bound);
        if mounted {
            wait_for("it is deleted then", || !stored.place.exists());
        } else {
            // Others may have copied the mount, with their mount namespace.
            wait_for("it is deleted then", || {
                volfs.run(&["trash", "empty", "--yes"]).code == Some(0)
            });
            assert!(!stored.place.exists());
        }
    }
}

#[test]
fn force_detaches_bind_mounts_of_the_store() {
    let _in_turn = NAMESPACES.write();
    for mounted in [true, false] {
        let stored = Stored::new(Mount::new(), mounted);
        let at = stored.mount.dir().mkdir("bound");
        bind(&stored.place, &at);
        let mut shell = Command::new("sh");
        let guest = Guest::start(shell.args(["-c", "read end"]).current_dir(&at));
        let said = stored.volfs().fails(1, &["rm", "--force", "v"]);
        assert!(said.contains("its working directory"), "{said}");
        assert!(at.join("sub/f").exists());
        guest.end();
        let gone = || stored.volfs().run(&["rm", "--force", "v"]).code == Some(0);
        let removed = poll(std::time::Duration::from_secs(5), || gone().then_some(()));
        assert!(removed.is_some());
        assert!(!at.join("sub").exists());
        assert_eq!(stored.volfs().names(), [""; 0]);
    }
}

/// Who has an image by its path in the store has it as surely as who has it
/// by the mount.
#[test]
fn an_image_that_is_open_by_its_path() {
    let mut mount = Mount::new();
    let volfs = mount.volfs();
    volfs.ok(&["create", "d", "--disk", "--size", "16M"]);
    let list = volfs.list();
    let image = PathBuf::from(list[0]["disk"]["path"].as_str().unwrap());
    for mounted in [true, false] {
        if !mounted {
            mount.stop();
        }
        let open = File::options().write(true).open(&image).unwrap();
        for command in [
            &["rm", "d"][..],
            &["disk", "check", "d"],
            &["clone", "d", "e"],
            &["set", "d", "--size", "32M"],
        ] {
            let said = volfs.fails(1, command);
            assert!(
                said.contains("is in use by") && said.contains("an open file"),
                "{command:?}: {said}"
            );
        }
        if mounted {
            let error = fs::metadata(mount.join("d/lost+found")).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
            let told = fs::read_to_string(mount.join(".volfs/last_error")).unwrap();
            assert!(told.contains("open for writing"), "{told}");
        }
        drop(open);
        volfs.ok(&["disk", "check", "d"]);
    }
    volfs.ok(&["rm", "--purge", "d"]);
}
