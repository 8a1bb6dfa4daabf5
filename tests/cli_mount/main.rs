//! `volfs mount` and `volfs umount` as people and mount(8) use them: ready when
//! the command returns, or the reason why not; and the same commands with a
//! daemon as without.

mod audit;
mod helper;
mod refused;
mod same;
mod signals;
mod suid;
#[path = "../support/mod.rs"]
mod support;
mod trust;
mod unmount;
mod waits;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use support::{TestDir, Volfs, poll, proc, wait_for};

/// A store and a mountpoint; whatever is mounted on it in the end is taken down.
struct Place {
    volfs: Volfs,
    mountpoint: PathBuf,
    dir: TestDir,
}

impl Place {
    fn new() -> Self {
        let dir = TestDir::new();
        Self {
            volfs: Volfs::new(&dir.join("store")),
            mountpoint: dir.mkdir("mnt"),
            dir,
        }
    }

    fn at(&self) -> &str {
        self.mountpoint.to_str().unwrap()
    }

    /// Mounts in the background; returns the daemon's process id.
    fn mount(&self, arguments: &[&str]) -> i32 {
        let text = self
            .volfs
            .ok(&[&["mount", "--json", self.at()], arguments].concat());
        let value: Value = serde_json::from_str(&text).unwrap();
        i32::try_from(value["pid"].as_i64().unwrap()).unwrap()
    }

    fn umount(&self) {
        self.volfs.ok(&["umount", self.at()]);
    }

    fn is_mounted(&self) -> bool {
        proc::mount_on(&self.mountpoint).is_some()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.volfs.store().join("daemon.log")).unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        while self.is_mounted() {
            let lazy = nix::mount::MntFlags::MNT_DETACH;
            if nix::mount::umount2(&self.mountpoint, lazy).is_err() {
                break;
            }
        }
        // A daemon whose mount is gone ends by itself; one that does not is
        // left for the directory's own check to find.
        let gone = || proc::processes_naming(self.dir.path()).is_empty();
        let _ = poll(Duration::from_secs(20), || gone().then_some(()));
    }
}

#[test]
fn mount_returns_when_the_mount_can_be_used() {
    let place = Place::new();
    let said = place.volfs.ok(&["mount", place.at()]);
    let expected = format!(
        "{} is mounted on {}\n",
        place.volfs.store().display(),
        place.at()
    );
    assert_eq!(said, expected);
    fs::create_dir(place.mountpoint.join("a")).unwrap();
    fs::write(place.mountpoint.join("a/f"), "x").unwrap();
    assert_eq!(place.volfs.names(), ["a"]);
    let (kind, source) = proc::mount_on(&place.mountpoint).unwrap();
    assert_eq!(kind, "fuse.volfs");
    assert_eq!(Path::new(&source), place.volfs.store());
    place.umount();
    assert!(!place.is_mounted());
    assert_eq!(place.volfs.names(), ["a"]);
}

#[test]
fn a_daemon_in_the_background_holds_nothing_of_its_starter() {
    let place = Place::new();
    let pid = place.mount(&[]);
    let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap();
    let log = place.volfs.store().join("daemon.log");
    assert_eq!(link("cwd"), Path::new("/"));
    assert_eq!(link("fd/0"), Path::new("/dev/null"));
    assert_eq!(link("fd/2"), log);
    wait_for("the daemon lets go of the pipe", || link("fd/1") == log);
    assert_eq!(
        fs::metadata(&log).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let session = stat.rsplit(')').next().unwrap().split_whitespace().nth(3);
    assert_eq!(
        session,
        Some(pid.to_string().as_str()),
        "a session of its own"
    );
    assert!(place.log().contains("serves"), "{}", place.log());
}

#[test]
fn options_reach_the_mount() {
    let place = Place::new();
    place.mount(&[
        "--rmdir",
        "trash",
        "--root-mode",
        "1777",
        "--default-quota",
        "1M",
        "-o",
        "noexec,noatime",
    ]);
    let root = fs::metadata(&place.mountpoint).unwrap();
    assert_eq!(root.mode() & 0o7777, 0o1777);
    let volume = place.mountpoint.join("a");
    fs::create_dir(&volume).unwrap();
    assert_eq!(place.volfs.list()[0]["limits"]["bytes"], 1 << 20);
    fs::write(volume.join("f"), "x").unwrap();
    fs::remove_dir(&volume).unwrap();
    assert!(place.volfs.ok(&["trash", "ls"]).contains("a "));
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table
        .lines()
        .find(|line| line.contains(place.at()))
        .unwrap();
    assert!(
        line.contains("noexec") && line.contains("noatime"),
        "{line}"
    );
    let doctor = place.volfs.ok(&["doctor"]);
    assert!(doctor.contains("rmdir=trash,root_mode=1777"), "{doctor}");
}

#[test]
fn a_read_only_mount_changes_nothing() {
    let place = Place::new();
    place.volfs.ok(&["create", "a"]);
    place.mount(&["--read-only"]);
    let error = fs::create_dir(place.mountpoint.join("b")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    let said = place.volfs.fails(1, &["create", "b"]);
    assert!(said.contains("read-only"), "{said}");
    assert_eq!(place.volfs.names(), ["a"]);
    let second = place.dir.mkdir("second");
    let second = second.to_str().unwrap();
    place.volfs.ok(&["mount", "--read-only", second]);
    place.volfs.ok(&["umount", second]);
    place.umount();
    assert!(!place.volfs.store().join("control.sock").exists());
}

#[test]
fn a_long_log_is_moved_aside() {
    let place = Place::new();
    place.volfs.ok(&["create", "a"]);
    let log = place.volfs.store().join("daemon.log");
    fs::File::create(&log)
        .unwrap()
        .set_len((10 << 20) + 1)
        .unwrap();
    place.mount(&[]);
    let old = place.volfs.store().join("daemon.log.old");
    assert!(fs::metadata(old).unwrap().len() > 10 << 20);
    wait_for("the new log begins", || place.log().contains("serves"));
    assert!(fs::metadata(&log).unwrap().len() < 1 << 20);
}

#[test]
fn paths_with_blanks_and_links_work() {
    let dir = TestDir::new();
    let store = dir.join("my \\store");
    let mountpoint = dir.mkdir("my mount point");
    let link = dir.join("link");
    std::os::unix::fs::symlink(&mountpoint, &link).unwrap();
    let place = Place {
        volfs: Volfs::new(&store),
        mountpoint,
        dir,
    };
    place.volfs.ok(&["mount", link.to_str().unwrap()]);
    fs::create_dir(place.mountpoint.join("a")).unwrap();
    let path = place.volfs.ok(&["path", "a"]);
    assert_eq!(Path::new(path.trim_end()), place.mountpoint.join("a"));
    place.volfs.ok(&["umount", link.to_str().unwrap()]);
    assert!(!place.is_mounted());
}

#[test]
fn a_user_without_root_can_mount() {
    let _device = support::fuse_device::OpenDevice::new();
    let place = Place::new();
    let alice = support::user::NAMED;
    let home = place.dir.mkdir("alice");
    std::os::unix::fs::chown(&home, Some(alice.uid), Some(alice.gid)).unwrap();
    std::os::unix::fs::chown(&place.mountpoint, Some(alice.uid), Some(alice.gid)).unwrap();
    let program = support::cli::copy_of_binary(place.dir.path());
    let as_alice = |arguments: &[&str]| {
        support::run(
            support::user::command_as(alice, &program)
                .args(arguments)
                .env("VOLFS_STORE", home.join("store")),
        )
    };
    as_alice(&["mount", place.at()]);
    support::as_user(alice, || {
        fs::create_dir(place.mountpoint.join("a")).unwrap();
        fs::write(place.mountpoint.join("a/f"), "x").unwrap();
    });
    assert!(as_alice(&["ls"]).contains("a "));
    let doctor = as_alice(&["doctor"]);
    assert!(doctor.contains("degraded"), "{doctor}");
    as_alice(&["umount", place.at()]);
    assert!(!place.is_mounted());
}

/// What a parent has set for itself: launchers ignore SIGCHLD, shells limit the
/// size of files.
#[test]
fn what_the_parent_has_set_for_itself_is_not_the_mounts() {
    let place = Place::new();
    let store = place.dir.join("store");
    let volfs = |prepare: &str, arguments: &str| {
        let script = format!(
            "{prepare}; exec timeout 20 bash -c \"trap '' CHLD; exec '{}' --store '{}' {arguments}\"",
            support::cli::BINARY,
            store.display()
        );
        let mut command = std::process::Command::new("bash");
        command.args(["-c", &script]).output().unwrap()
    };
    let full = place.dir.mkdir("full");
    fs::write(full.join("f"), "").unwrap();
    let refused = volfs("true", &format!("mount '{}'", full.display()));
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");

    let mounted = volfs("ulimit -S -f 100", &format!("mount '{}'", place.at()));
    assert!(mounted.status.success(), "{mounted:?}");
    let volume = place.mountpoint.join("v");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("f"), vec![0; 1 << 20]).unwrap();

    let all = fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let serves = |pid: &i32| {
        let command = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command.contains("--kept-by") && command.contains(place.at())
    };
    let serving: Vec<i32> = pids.filter(serves).collect();
    assert_eq!(serving.len(), 1);
    support::proc::kill(serving[0]);
    fs::create_dir(place.mountpoint.join("w")).unwrap();
    let ended = volfs("true", &format!("umount '{}'", place.at()));
    assert!(ended.status.success(), "{ended:?}");
}
