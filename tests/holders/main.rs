//! Who uses a volume: each is listed as what it is, with what it runs in, and
//! a removal is refused or done accordingly. `rm --force` detaches what nobody
//! uses, and nothing else.

#[path = "../support/mod.rs"]
mod support;

mod by_path;
mod containers;
mod inside;
mod renamed;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use support::map::{Map, Sharing};
use support::{Mount, run, wait_for};

/// A mount namespace is made with what is mounted at that moment, and holds on
/// to it: what makes one waits for what takes mounts away, and the other way.
static NAMESPACES: parking_lot::RwLock<()> = parking_lot::RwLock::new(());

/// A process that is ended with the test.
pub struct Guest(Child);

impl Guest {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::piped()).spawn().unwrap())
    }

    /// A shell that runs `script` and then waits to be told to end.
    fn shell(script: &str) -> Self {
        Self::start(Command::new("sh").args(["-euc", &format!("{script}; read end || true")]))
    }

    fn pid(&self) -> i64 {
        self.0.id().into()
    }

    /// Ends it, and waits for that.
    pub fn end(mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the volume has holders, and returns them.
fn holders(mount: &Mount, name: &str) -> Vec<Value> {
    let volfs = mount.volfs();
    wait_for("somebody holds the volume", || {
        !volfs.holders(name).is_empty()
    });
    volfs.holders(name)
}

/// The ways in which it is held, each once.
pub fn how(holders: &[Value]) -> Vec<&str> {
    let mut all: Vec<_> = holders
        .iter()
        .map(|it| it["how"].as_str().unwrap())
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The volume is in use, by `rmdir`, by `rm` and by `rm --force` too, and
/// `last_error` says by whom.
pub fn assert_refused(mount: &Mount, name: &str, words: &[&str]) {
    let error = fs::remove_dir(mount.join(name)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{name}");
    let told = fs::read_to_string(mount.join(".volfs/last_error")).unwrap();
    for how in [
        &["rm", name][..],
        &["rm", "--purge", name],
        &["rm", "--force", name],
    ] {
        let said = mount.volfs().fails(1, how);
        for word in words {
            assert!(said.contains(word), "{how:?} without {word:?}: {said}");
        }
        if how[1] == "--force" {
            assert!(said.contains("nothing was detached"), "{said}");
        }
    }
    for word in words {
        assert!(told.contains(word), "last_error without {word:?}: {told}");
    }
    let text = mount.volfs().ok(&["inspect", name]);
    assert!(text.contains("In use by:"), "{text}");
}

/// Nobody has the volume any more; it is removed.
pub fn assert_free(mount: &Mount, name: &str) {
    let volfs = mount.volfs();
    wait_for("nobody holds the volume", || volfs.holders(name).is_empty());
    volfs.ok(&["rm", "--purge", name]);
}

#[test]
fn a_shell_with_its_working_directory_inside() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    let guest = Guest::shell(&format!("cd {}", volume.display()));
    let found = holders(&mount, "v");
    assert_eq!(how(&found), ["working-directory"]);
    assert_eq!(found[0]["pid"], guest.pid());
    assert_eq!(found[0]["command"], "sh");
    assert_refused(
        &mount,
        "v",
        &[
            &format!("process {} (sh)", guest.pid()),
            "its working directory",
        ],
    );
    guest.end();
    assert_free(&mount, "v");
}

#[test]
fn an_open_file_a_mapped_one_and_a_process_that_has_exited() {
    let mount = Mount::new();
    for (name, quota) in [("free", "none"), ("limited", "1M")] {
        let volume = mount.volume(name);
        mount.volfs().ok(&["set", name, "--quota", quota]);
        fs::write(volume.join("f"), vec![1; 8192]).unwrap();
        let guest = Guest::shell(&format!("exec 5< {}", volume.join("f").display()));
        let found = holders(&mount, name);
        assert_eq!(how(&found), ["open-file"]);
        assert_eq!(
            (found[0]["pid"].as_i64(), found.len()),
            (Some(guest.pid()), 1)
        );
        assert_refused(
            &mount,
            name,
            &[&format!("process {} (sh)", guest.pid()), "an open file"],
        );
        guest.end();

        let file = File::open(volume.join("f")).unwrap();
        let map = Map::new(&file, 4096, Sharing::Shared, false).unwrap();
        drop(file);
        let found = holders(&mount, name);
        assert_eq!(how(&found), ["mapping"], "{name}");
        assert_eq!(found[0]["pid"], i64::from(std::process::id()));
        assert_refused(&mount, name, &["a mapped file"]);
        drop(map);

        // What has exited holds nothing, however it was.
        let mut gone = Guest::shell(&format!("cd {0}; exec 5> {0}/g", volume.display()));
        assert!(!holders(&mount, name).is_empty());
        gone.0.kill().unwrap();
        gone.0.wait().unwrap();
        assert_free(&mount, name);
    }
}

/// The first thread of a process has ended, which then has nothing; another one
/// goes on.
#[test]
fn a_process_whose_first_thread_has_ended() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    let script = "import ctypes; libc = ctypes.CDLL(None)\n\
                  import threading; threading.Thread(target=libc.pause).start()\n\
                  libc.pthread_exit(None)";
    let mut python = Command::new("python3");
    let guest = Guest::start(python.args(["-c", script]).current_dir(&volume));
    let stat = || fs::read_to_string(format!("/proc/{}/stat", guest.pid())).unwrap();
    wait_for("its first thread has ended", || stat().contains(") Z "));
    let found = mount.volfs().holders("v");
    assert_eq!(how(&found), ["working-directory"]);
    assert_eq!(found[0]["pid"], guest.pid());
    assert_refused(&mount, "v", &["its working directory"]);
    drop(guest);
    assert_free(&mount, "v");
}

#[test]
fn a_sandbox_that_has_the_volume_bound() {
    let _in_turn = NAMESPACES.read();
    let mount = Mount::new();
    let volume = mount.volume("v");
    let mut bwrap = Command::new("bwrap");
    bwrap
        .args([
            "--ro-bind",
            "/",
            "/",
            "--tmpfs",
            "/tmp",
            "--dir",
            "/tmp/data",
            "--bind",
        ])
        .arg(&volume)
        .args([
            "/tmp/data",
            "--unshare-all",
            "--die-with-parent",
            "sh",
            "-c",
            "read end",
        ]);
    let guest = Guest::start(&mut bwrap);
    let found = holders(&mount, "v");
    assert_eq!(how(&found), ["bind-mount"]);
    let place = found.iter().find(|it| it["mountpoint"] == "/tmp/data");
    assert!(place.is_some(), "{found:?}");
    assert!(
        ["bwrap", "sh"].contains(&found[0]["command"].as_str().unwrap()),
        "{found:?}"
    );
    assert_refused(&mount, "v", &["a bind mount on /tmp/data"]);
    // Only a part of it is bound, and under another name by now.
    fs::create_dir_all(volume.join("a/b")).unwrap();
    guest.end();
    let mut bwrap = Command::new("bwrap");
    bwrap
        .args([
            "--ro-bind",
            "/",
            "/",
            "--tmpfs",
            "/tmp",
            "--dir",
            "/tmp/data",
            "--ro-bind",
        ])
        .arg(volume.join("a/b"))
        .args([
            "/tmp/data",
            "--unshare-all",
            "--die-with-parent",
            "sh",
            "-c",
            "read end",
        ]);
    let guest = Guest::start(&mut bwrap);
    holders(&mount, "v");
    fs::rename(&volume, mount.join("renamed")).unwrap();
    assert_refused(&mount, "renamed", &["a bind mount on /tmp/data"]);
    guest.end();
    assert_free(&mount, "renamed");
}

#[test]
fn an_overlay_on_a_volume() {
    let _in_turn = NAMESPACES.write();
    let mount = Mount::new();
    for (name, layer) in [("upper", "up"), ("lower", "low")] {
        let volume = mount.volume(name);
        for part in ["up", "work", "low"] {
            fs::create_dir(volume.join(part)).unwrap();
        }
        let dir = mount.dir().mkdir(&format!("merged-{name}"));
        let tmp = mount.dir().mkdir(&format!("tmp-{name}"));
        let options = match layer {
            "low" => format!(
                "lowerdir={}:{}",
                volume.join("low").display(),
                tmp.display()
            ),
            // Overlay does not take a FUSE file system to write to; an upper
            // layer elsewhere does.
            _ => {
                let upper = mount.dir().mkdir("upperdir");
                let work = mount.dir().mkdir("workdir");
                format!(
                    "lowerdir={},upperdir={},workdir={}",
                    volume.join("low").display(),
                    upper.display(),
                    work.display()
                )
            }
        };
        run(Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&dir));
        let found = mount.volfs().holders(name);
        let _unmount = Unmount(&dir);
        assert_eq!(how(&found), ["overlay"], "{found:?}");
        assert_eq!(found[0]["mountpoint"], dir.to_str().unwrap());
        fs::create_dir(volume.join("x")).unwrap();
        let said = mount.volfs().fails(1, &["rm", "--force", name]);
        assert!(said.contains("an overlay mount on"), "{said}");
        drop(_unmount);
        assert_free(&mount, name);
    }
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn force_detaches_what_nobody_uses_and_says_so() {
    let _in_turn = NAMESPACES.write();
    let mount = Mount::new();
    let volfs = mount.volfs();
    let volume = mount.volume("v");
    fs::create_dir(volume.join("sub")).unwrap();
    fs::write(volume.join("f"), "kept in the trash").unwrap();
    let bind = |from: &Path, name: &str| {
        let place = mount.dir().join(name);
        fs::create_dir_all(&place).unwrap();
        run(Command::new("mount").arg("--bind").arg(from).arg(&place));
        place
    };
    let whole = bind(&volume, "whole");
    let part = bind(&volume.join("sub"), "part of it");
    let said = volfs.fails(1, &["rm", "v"]);
    assert!(
        said.contains(&format!("a bind mount on {}", whole.display())),
        "{said}"
    );

    // Somebody works in one of them: both stay.
    let guest = Guest::shell(&format!("cd {}", whole.display()));
    wait_for("it is there", || {
        how(&volfs.holders("v")).contains(&"working-directory")
    });
    let said = volfs.fails(1, &["rm", "--force", "v"]);
    assert!(
        said.contains("its working directory") && said.contains("nothing was detached"),
        "{said}"
    );
    assert!(whole.join("f").exists() && support::proc::mount_on(&part).is_some());
    guest.end();
    // Something else is mounted on top: it is not ours to take away.
    run(Command::new("mount")
        .args(["-t", "tmpfs", "tmpfs"])
        .arg(whole.join("sub")));
    let said = volfs.fails(1, &["rm", "--force", "v"]);
    assert!(
        said.contains("sub") && said.contains("nothing was detached"),
        "{said}"
    );
    run(Command::new("umount").arg(whole.join("sub")));
    // A pinned volume is not even begun with.
    volfs.ok(&["pin", "v"]);
    assert!(volfs.fails(1, &["rm", "--force", "v"]).contains("pinned"));
    assert!(support::proc::mount_on(&whole).is_some());
    volfs.ok(&["unpin", "v"]);

    let said = volfs.ok(&["rm", "--force", "v"]);
    assert!(
        said.contains(&format!(
            "v: detached the bind mount on {}",
            whole.display()
        )),
        "{said}"
    );
    assert!(said.contains("part of it"), "{said}");
    assert!(support::proc::mount_on(&whole).is_none() && support::proc::mount_on(&part).is_none());
    volfs.ok(&["trash", "restore", "v"]);
    assert_eq!(
        fs::read_to_string(volume.join("f")).unwrap(),
        "kept in the trash"
    );
    // Without anything to detach it is as without --force.
    assert_eq!(volfs.ok(&["rm", "--force", "v"]), "v\n");
}

#[test]
fn a_unit_by_its_control_group() {
    let mount = Mount::new();
    let volume = mount.volume("v");
    let unit = format!("volfs-test-{}.service", std::process::id());
    // Where systemd would keep its units, with or without it.
    let hierarchy = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup"]
        .into_iter()
        .map(Path::new)
        .find(|it| it.join("cgroup.procs").exists())
        .expect("control groups are mounted");
    let group = Group(hierarchy.join(&unit));
    fs::create_dir(&group.0).unwrap();
    let guest = Guest::shell(&format!("cd {}", volume.display()));
    fs::write(group.0.join("cgroup.procs"), guest.pid().to_string()).unwrap();
    let found = holders(&mount, "v");
    assert_eq!(found[0]["within"]["unit"], unit.as_str(), "{found:?}");
    assert_refused(
        &mount,
        "v",
        &[&format!(
            "process {} (sh) in unit {unit}, by its working directory",
            guest.pid()
        )],
    );
    guest.end();
    drop(group);
    assert_free(&mount, "v");
}

struct Group(std::path::PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        wait_for("the control group is empty", || {
            fs::remove_dir(&self.0).is_ok()
        });
    }
}
