//! The daemon is killed between each step of every change of a volume's life.
//! Afterwards the catalogue and the directories agree, the change is done or
//! not done but never half, what had been finished before is there, and
//! nothing of anybody else's is touched.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use serde_json::Value;
use support::{Mount, Volfs};

/// A store with a past: volumes with content, one in the trash, and a
/// directory in `volumes/` that is not volfs's.
struct World {
    mount: Mount,
}

/// What a crash may leave of the change that it cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// As before it.
    Undone,
    /// As after it.
    Done,
}

impl World {
    fn new(arguments: &[&str]) -> Self {
        let mount = Mount::builder().args(arguments).start();
        for name in ["keep-1", "keep-2"] {
            let volume = mount.volume(name);
            fs::write(volume.join("f"), format!("content of {name}")).unwrap();
        }
        let gone = mount.volume("in-trash");
        fs::write(gone.join("f"), "trashed").unwrap();
        mount.volfs().ok(&["rm", "in-trash"]);
        for foreign in ["foreign", "0123456789abcdef0123456789abcdef"] {
            let dir = mount.store().join("volumes").join(foreign);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("theirs"), foreign).unwrap();
        }
        Self { mount }
    }

    /// Restarts the daemon so that it dies at a point, runs `act` against it,
    /// sees it die there, and starts it again on the stale mountpoint.
    fn crash(&mut self, point: &str, act: impl FnOnce(&Mount)) {
        self.mount.stop();
        self.mount.set_env("VOLFS_FAILPOINT", point);
        self.mount.start();
        act(&self.mount);
        let status = self.mount.wait_for_daemon();
        assert_eq!(
            status.signal(),
            Some(libc::SIGKILL),
            "{point} was not reached: the daemon ended with {status}"
        );
        let stale = support::mount::answers(self.mount.path());
        assert_eq!(stale, Err(rustix::io::Errno::NOTCONN));
        self.mount.unset_env("VOLFS_FAILPOINT");
        self.mount.start();
    }

    /// The catalogue, the mount and the store's directories say the same.
    fn check(&self, point: &str) {
        let volfs = self.mount.volfs();
        let live = volfs.list();
        let names: BTreeSet<String> = live.iter().map(|v| text(v, "name")).collect();
        assert_eq!(names.len(), live.len(), "{point}: a name twice");
        let shown: BTreeSet<String> = fs::read_dir(self.mount.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(names, shown, "{point}: catalogue and mount");

        for volume in &live {
            // Present, whole, and fit for use through the mount.
            let whole = match volume["kind"].as_str() {
                Some("disk") => Path::new(&text(&volume["disk"], "path")).is_file(),
                _ => Path::new(&text(volume, "path")).is_dir(),
            };
            assert!(whole, "{point}: {volume}");
            let probe = self.mount.join(text(volume, "name")).join("probe");
            fs::write(&probe, "x").unwrap();
            fs::remove_file(&probe).unwrap();
        }
        let on_disk = entries(&self.mount.store().join("volumes"));
        let mut wanted: BTreeSet<String> = live.iter().map(|v| text(v, "id")).collect();
        wanted.extend(on_disk.iter().filter(|n| n.len() != 32).cloned());
        assert_eq!(wanted, on_disk, "{point}: catalogue and volumes/");

        // What was cut while it was deleted goes on in the background.
        support::wait_for("all is deleted that was to be", || {
            volfs.ok(&["trash", "progress", "--json"]).trim() == "[]"
        });
        let trash: BTreeSet<String> = trash(&volfs)
            .iter()
            .map(|entry| text(&entry["info"], "id"))
            .collect();
        let in_trash = entries(&self.mount.store().join("trash"));
        let ours: BTreeSet<String> = in_trash.iter().filter(|n| n.len() == 32).cloned().collect();
        assert!(
            trash.is_superset(&ours),
            "{point}: trash/ has {ours:?}, the catalogue {trash:?}"
        );
        assert_eq!(
            entries(&self.mount.store().join("tmp")),
            BTreeSet::new(),
            "{point}: tmp/"
        );

        self.check_finished_work(point);
        self.check_foreign(point);
    }

    fn check_finished_work(&self, point: &str) {
        for name in ["keep-1", "keep-2"] {
            let content = fs::read_to_string(self.mount.join(name).join("f"));
            assert_eq!(
                content.unwrap_or_else(|e| panic!("{point}: {name} is lost: {e}")),
                format!("content of {name}")
            );
        }
    }

    /// What somebody else has put into `volumes/` is somewhere still.
    fn check_foreign(&self, point: &str) {
        for foreign in ["foreign", "0123456789abcdef0123456789abcdef"] {
            let found = find(self.mount.store(), "theirs")
                .into_iter()
                .any(|content| content == foreign);
            assert!(found, "{point}: {foreign} was removed");
        }
    }

    fn exists(&self, name: &str) -> bool {
        self.mount.volfs().names().iter().any(|n| n == name)
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
        .to_owned()
}

fn trash(volfs: &Volfs) -> Vec<Value> {
    let listing = volfs.ok(&["trash", "ls", "--json"]);
    serde_json::from_str(&listing).unwrap()
}

fn entries(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// The contents of all files of a name below a directory.
fn find(dir: &Path, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(find(&entry.path(), name));
        } else if entry.file_name() == name {
            found.push(fs::read_to_string(entry.path()).unwrap());
        }
    }
    found
}

/// Volumes that mkdir makes are disk volumes.
const DISKS: &[&str] = &["-o", "default_kind=disk,default_size=32M"];

#[test]
fn mkdir_is_cut() {
    cut_mkdir(&[]);
}

#[test]
fn mkdir_of_a_disk_volume_is_cut() {
    cut_mkdir(DISKS);
}

fn cut_mkdir(arguments: &[&str]) {
    for (point, left) in [
        ("create.built", Left::Undone),
        ("create.renamed", Left::Undone),
        ("create.committed", Left::Done),
    ] {
        let mut world = World::new(arguments);
        world.crash(point, |mount| {
            fs::create_dir(mount.join("new")).unwrap_err();
        });
        world.check(point);
        assert_eq!(world.exists("new"), left == Left::Done, "{point}");
        // The name is free or whole: never blocked.
        if left == Left::Done {
            fs::remove_dir(world.mount.join("new")).unwrap();
        }
        fs::create_dir(world.mount.join("new")).unwrap();
        fs::write(world.mount.join("new/f"), "used").unwrap();
        world.check(point);
    }
}

#[test]
fn mv_is_cut() {
    for point in ["rename.committed", "rename.manifest"] {
        let mut world = World::new(&[]);
        world.mount.volume("old");
        fs::write(world.mount.join("old/f"), "moved").unwrap();
        world.crash(point, |mount| {
            fs::rename(mount.join("old"), mount.join("new")).unwrap_err();
        });
        world.check(point);
        assert!(!world.exists("old"), "{point}");
        let content = fs::read_to_string(world.mount.join("new/f")).unwrap();
        assert_eq!(content, "moved", "{point}");
        fs::rename(world.mount.join("new"), world.mount.join("old")).unwrap();
        world.check(point);
    }
}

#[test]
fn an_exchange_is_cut() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    for point in ["rename.committed", "rename.manifest"] {
        let mut world = World::new(&[]);
        for name in ["a", "b"] {
            fs::write(world.mount.volume(name).join("f"), name).unwrap();
        }
        world.crash(point, |mount| {
            let (a, b) = (mount.join("a"), mount.join("b"));
            renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap_err();
        });
        world.check(point);
        let content = |name: &str| fs::read_to_string(world.mount.join(name).join("f")).unwrap();
        assert_eq!(
            (content("a"), content("b")),
            ("b".into(), "a".into()),
            "{point}"
        );
    }
}

#[test]
fn becoming_a_disk_volume_is_cut() {
    for (point, left) in [
        ("create.built", Left::Undone),
        ("create.renamed", Left::Undone),
        ("convert.committed", Left::Done),
        ("remove.purged", Left::Done),
    ] {
        let mut world = World::new(&[]);
        world.mount.volume("empty");
        world.crash(point, |mount| {
            let _ = mount.volfs().run(&["set", "empty", "--size", "32M"]);
        });
        world.check(point);
        let all = world.mount.volfs().list();
        let volume = all.iter().find(|it| it["name"] == "empty").unwrap();
        let is_disk = volume["kind"] == "disk";
        assert_eq!(is_disk, left == Left::Done, "{point}");
        if !is_disk {
            world.mount.volfs().ok(&["set", "empty", "--size", "32M"]);
        }
        fs::write(world.mount.join("empty/f"), "used").unwrap();
        world.check(point);
    }
}

#[test]
fn rmdir_is_cut() {
    cut_rmdir(&[]);
}

#[test]
fn rmdir_of_a_disk_volume_is_cut() {
    cut_rmdir(DISKS);
}

fn cut_rmdir(arguments: &[&str]) {
    for point in ["remove.committed", "remove.moved", "remove.purged"] {
        let mut world = World::new(arguments);
        world.mount.volume("empty");
        world.crash(point, |mount| {
            // The answer may be out already when the last step is cut.
            let _ = fs::remove_dir(mount.join("empty"));
        });
        world.check(point);
        assert!(!world.exists("empty"), "{point}");
        let again = trash(&world.mount.volfs());
        let names: Vec<_> = again.iter().map(|e| text(&e["info"], "name")).collect();
        assert!(!names.contains(&"empty".into()), "{point}: {names:?}");
        fs::create_dir(world.mount.join("empty")).unwrap();
        world.check(point);
    }
}

#[test]
fn rmdir_to_the_trash_is_cut() {
    for point in ["remove.committed", "remove.moved"] {
        let mut world = World::new(&["--rmdir", "trash"]);
        fs::write(world.mount.volume("full").join("f"), "kept").unwrap();
        world.crash(point, |mount| {
            let _ = fs::remove_dir(mount.join("full"));
        });
        world.check(point);
        assert!(!world.exists("full"), "{point}");
        world.mount.volfs().ok(&["trash", "restore", "full"]);
        let content = fs::read_to_string(world.mount.join("full/f")).unwrap();
        assert_eq!(content, "kept", "{point}");
        world.check(point);
    }
}

#[test]
fn rm_and_purge_are_cut() {
    for (point, purge) in [
        ("remove.committed", false),
        ("remove.moved", false),
        ("remove.committed", true),
        ("remove.moved", true),
        ("remove.purged", true),
    ] {
        let mut world = World::new(&[]);
        let volume = world.mount.volume("full");
        for i in 0..100 {
            fs::create_dir(volume.join(i.to_string())).unwrap();
            fs::write(volume.join(format!("{i}/f")), "x").unwrap();
        }
        world.crash(point, |mount| {
            let how: &[&str] = if purge {
                &["rm", "--purge", "full"]
            } else {
                &["rm", "full"]
            };
            let _ = mount.volfs().run(how);
        });
        world.check(point);
        assert!(!world.exists("full"), "{point}");
        let restored = world.mount.volfs().run(&["trash", "restore", "full"]);
        if purge {
            assert_eq!(restored.code, Some(1), "{point}: {}", restored.out);
        } else {
            assert_eq!(restored.code, Some(0), "{point}: {}", restored.err);
            let count = fs::read_dir(world.mount.join("full")).unwrap().count();
            assert_eq!(count, 100, "{point}");
        }
        world.check(point);
    }
}

#[test]
fn restore_and_emptying_are_cut() {
    for point in ["restore.committed", "restore.moved"] {
        let mut world = World::new(&[]);
        world.crash(point, |mount| {
            let _ = mount.volfs().run(&["trash", "restore", "in-trash"]);
        });
        world.check(point);
        let content = fs::read_to_string(world.mount.join("in-trash/f")).unwrap();
        assert_eq!(content, "trashed", "{point}");
    }
    let mut world = World::new(&[]);
    world.crash("trash.purge", |mount| {
        let _ = mount.volfs().run(&["trash", "empty", "in-trash"]);
    });
    world.check("trash.purge");
    assert!(!world.exists("in-trash"));
}

/// The same without a daemon: the command itself is killed.
#[test]
fn offline_commands_are_cut() {
    for (point, command) in [
        ("create.built", &["create", "new"][..]),
        ("create.renamed", &["create", "new"]),
        ("create.committed", &["create", "new"]),
        ("rename.committed", &["mv", "keep-1", "moved"]),
        ("rename.manifest", &["mv", "keep-1", "moved"]),
        ("remove.committed", &["rm", "spare"]),
        ("remove.moved", &["rm", "spare"]),
        ("remove.committed", &["rm", "--purge", "spare"]),
        ("remove.purged", &["rm", "--purge", "spare"]),
        ("restore.committed", &["trash", "restore", "in-trash"]),
        ("restore.moved", &["trash", "restore", "in-trash"]),
    ] {
        let mut world = World::new(&[]);
        world.mount.volume("spare");
        world.mount.stop();
        let cut = world.mount.volfs().env("VOLFS_FAILPOINT", point);
        let status = cut.command(command).output().unwrap().status;
        assert_eq!(
            status.signal(),
            Some(libc::SIGKILL),
            "{point} in {command:?}: {status}"
        );
        // The next command finds a whole store, and so does the next mount.
        let names = world.mount.volfs().names();
        world.mount.start();
        assert_eq!(names, world.mount.volfs().names(), "{point} in {command:?}");
        if names.contains(&"moved".into()) {
            fs::rename(world.mount.join("moved"), world.mount.join("keep-1")).unwrap();
        }
        world.check(point);
    }
}

/// Two crashes in a row, the second while the first is being put right.
#[test]
fn a_crash_after_a_crash() {
    for first in ["create.renamed", "create.committed"] {
        let mut world = World::new(&[]);
        for second in ["create.built", "create.renamed", "create.committed"] {
            world.crash(first, |mount| {
                let _ = fs::create_dir(mount.join(format!("{second}-1")));
            });
            world.crash(second, |mount| {
                let _ = fs::create_dir(mount.join(format!("{second}-2")));
            });
            world.check(second);
        }
    }
}

/// SIGKILL at any moment, without a failpoint, under load.
#[test]
fn killed_in_the_middle_of_work() {
    let mut world = World::new(&[]);
    for round in 0..5 {
        let finished = std::sync::Mutex::new(Vec::new());
        let mount_path = world.mount.path().to_owned();
        std::thread::scope(|scope| {
            let finished = &finished;
            let mount_path = &mount_path;
            for worker in 0..2 {
                scope.spawn(move || {
                    for i in 0.. {
                        let name = format!("w{worker}-r{round}-{i}");
                        let volume = mount_path.join(&name);
                        if fs::create_dir(&volume).is_err() {
                            return;
                        }
                        finished.lock().unwrap().push(name.clone());
                        if i % 3 == 0 {
                            // In doubt from here on.
                            finished.lock().unwrap().retain(|n| *n != name);
                            if fs::remove_dir(&volume).is_err() {
                                return;
                            }
                        }
                    }
                });
            }
            support::wait_for("some work", || {
                finished.lock().unwrap().len() > 6 * (round + 1)
            });
            world.mount.kill();
        });
        world.mount.start();
        world.check(&format!("round {round}"));
        for name in finished.into_inner().unwrap() {
            assert!(world.exists(&name), "{name} had been made and is lost");
        }
    }
}
