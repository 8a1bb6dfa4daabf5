//! Disk volumes where the kernel cannot mount images: without root, and without
//! loop devices. The image can be attached; its files are had through fuse2fs,
//! or read-only where that is missing.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::busy::{BusyProcessors, rest_under_load};
use crate::support::cli::binary;
use crate::support::dir::TestDir;
use crate::support::proc::{loop_devices_under, processes_naming};
use crate::support::{Volfs, poll, wait_for};
use crate::{assert_clean, names};

/// A daemon of root in a mount namespace of its own, in which some things are
/// missing. Its mount is reached through its process.
struct Sandbox {
    daemon: Child,
    store: PathBuf,
    mountpoint: PathBuf,
    dir: TestDir,
}

impl Sandbox {
    /// `hide` is what the shell does in the namespace before the daemon starts.
    fn start(hide: &str) -> Self {
        let dir = TestDir::new();
        let store = dir.mkdir("store");
        let mountpoint = dir.mkdir("mnt");
        let daemon = Self::spawn(hide, &store, &mountpoint, &dir);
        let sandbox = Self {
            daemon,
            store,
            mountpoint,
            dir,
        };
        sandbox.wait_until_mounted();
        sandbox
    }

    fn spawn(hide: &str, store: &Path, mountpoint: &Path, dir: &TestDir) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("daemon.err"))
            .unwrap();
        let script =
            format!("set -e; {hide}; exec \"$0\" mount --foreground --store \"$1\" \"$2\"");
        Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .arg(binary())
            .args([store, mountpoint])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn wait_until_mounted(&self) {
        wait_for("the mount", || self.join(".volfs/version").exists());
    }

    fn join(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.daemon.id()));
        let below = self.mountpoint.strip_prefix("/").unwrap();
        root.join(below).join(name)
    }

    fn volfs(&self) -> Volfs {
        Volfs::new(&self.store)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("daemon.err")).unwrap()
    }

    fn last_error(&self) -> String {
        fs::read_to_string(self.join(".volfs/last_error")).unwrap()
    }

    fn stop(&mut self) {
        kill(
            Pid::from_raw(self.daemon.id().cast_signed()),
            Signal::SIGTERM,
        )
        .unwrap();
        let ended = poll(Duration::from_secs(20), || self.daemon.try_wait().unwrap());
        assert!(
            ended.is_some_and(|status| status.success()),
            "{}",
            self.log()
        );
    }

    fn kill(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the daemon said ---\n{}---", self.log());
        }
        // Its mounts go with its namespace.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        poll(Duration::from_secs(10), || {
            processes_naming(&self.store).is_empty().then_some(())
        });
    }
}

/// A container without loop devices: a /dev with little in it.
const NO_LOOP: &str = "mount -t tmpfs none /dev && mknod -m 666 /dev/fuse c 10 229 && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9";
/// And without fuse2fs.
const NO_FUSE2FS: &str = "mount --bind /dev/null \"$(command -v fuse2fs)\"";

fn doctor(volfs: &Volfs) -> String {
    let answer = volfs.run(&["doctor"]);
    answer.out + &answer.err
}

#[test]
fn fuse2fs_serves_the_files() {
    let mut sandbox = Sandbox::start(NO_LOOP);
    sandbox
        .volfs()
        .ok(&["create", "db", "--disk", "--size", "64M"]);
    let dir = sandbox.join("db");
    // Looked at before it is attached, and while it is: it is one directory.
    let inside = fs::metadata(&dir)
        .map(|_| File::open(&dir).unwrap())
        .unwrap();
    uses(&dir);
    let list = Command::new("ls").arg("-l").arg(sandbox.join(".")).output();
    assert!(list.unwrap().status.success());
    let up = format!("/proc/self/fd/{}/c/up", inside.as_raw_fd());
    assert_eq!(fs::read_to_string(up).unwrap(), "deep");
    drop(inside);
    assert_eq!(loop_devices_under(&sandbox.store), [""; 0]);
    let servers = processes_naming(&sandbox.store.join("volumes"));
    assert_eq!(servers.len(), 1, "one fuse2fs");
    assert!(servers[0].command.contains("fuse2fs"));
    // In no mount table, like one that the kernel mounts.
    let table = fs::read_to_string(format!("/proc/{}/mountinfo", sandbox.daemon.id())).unwrap();
    assert!(!table.contains("fuse2fs"), "{table}");
    let said = doctor(&sandbox.volfs());
    assert!(
        said.contains("disk volumes") && said.contains("fuse2fs"),
        "{said}"
    );

    // The image is free for whoever opens it, and the other way round.
    let image = sandbox.join(".volfs/disks/db.raw");
    let held = File::open(dir.join("file")).unwrap();
    assert_eq!(
        File::open(&image).unwrap_err().kind(),
        ErrorKind::ResourceBusy
    );
    drop(held);
    let raw = poll(Duration::from_secs(10), || File::open(&image).ok()).unwrap();
    assert!(processes_naming(&sandbox.store.join("volumes")).is_empty());
    let busy = names(&dir).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
    drop(raw);
    let text = poll(Duration::from_secs(10), || {
        fs::read_to_string(dir.join("file")).ok()
    });
    assert_eq!(text.unwrap(), "text");

    // Not while it is in use, but then.
    let held = OpenOptions::new()
        .append(true)
        .open(dir.join("file"))
        .unwrap();
    let busy = sandbox.volfs().fails(1, &["set", "db", "--size", "128M"]);
    assert!(busy.contains("in use"), "{busy}");
    drop(held);
    sandbox.volfs().ok(&["set", "db", "--size", "128M"]);
    let figures = nix::sys::statvfs::statvfs(&dir).unwrap();
    assert!(figures.blocks() * figures.fragment_size() > 100 << 20);
    sandbox.stop();
    assert!(processes_naming(&sandbox.store).is_empty());
    assert_clean(&sandbox.store);
}

/// A process that is stopped until this is dropped.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: i32) -> Self {
        let pid = Pid::from_raw(pid);
        kill(pid, Signal::SIGSTOP).unwrap();
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

#[test]
fn a_server_that_does_not_answer_keeps_nobody_else_waiting() {
    let mut sandbox = Sandbox::start(NO_LOOP);
    others_go_on(&sandbox, || {});
    sandbox.stop();
    assert_clean(&sandbox.store);
}

/// Most threads that serve rest then.
#[test]
fn nor_does_it_on_a_busy_machine() {
    let mut sandbox = Sandbox::start(NO_LOOP);
    let _busy = BusyProcessors::new();
    others_go_on(&sandbox, || rest_under_load(&sandbox.join("."), 0));
    sandbox.stop();
    assert_clean(&sandbox.store);
}

/// `many_wait` is when as many wait as there are threads that serve.
fn others_go_on(sandbox: &Sandbox, many_wait: impl Fn()) {
    let volfs = sandbox.volfs();
    volfs.ok(&["create", "db", "--disk", "--size", "64M"]);
    volfs.ok(&["create", "honest"]);
    let (db, honest) = (sandbox.join("db"), sandbox.join("honest"));
    fs::write(db.join("file"), "text").unwrap();
    let servers = processes_naming(&sandbox.store.join("volumes"));
    let stopped = Stopped::new(servers[0].pid);

    // More than there are threads that serve. The kernel looks for several names
    // in a directory at once, and makes one after the other.
    let ask = |arguments: &[&str], about: PathBuf| {
        let mut command = Command::new(arguments[0]);
        command.args(&arguments[1..]).arg(about);
        let silent = command.stdout(Stdio::null()).stderr(Stdio::null());
        silent.spawn().unwrap()
    };
    let mut waiting: Vec<_> = (0..40)
        .map(|i| ask(&["cat"], db.join(format!("x{i}"))))
        .collect();
    wait_for("all of them to wait for an answer", || {
        waiting.iter().all(|child| {
            let wchan = fs::read_to_string(format!("/proc/{}/wchan", child.id()));
            wchan.is_ok_and(|wchan| wchan == "request_wait_answer")
        })
    });
    many_wait();
    waiting.push(ask(&["mkdir"], db.join("made")));
    waiting.push(ask(&["touch"], db.join("touched")));
    // The list of all volumes, of which it is one.
    let whole = sandbox.join(".");
    waiting.extend((0..20).map(|_| ask(&["ls", "-l"], whole.clone())));

    for i in 0..100 {
        let file = honest.join(format!("file{i}"));
        let made = Command::new("timeout")
            .arg("20")
            .arg("touch")
            .arg(&file)
            .status();
        assert!(
            made.unwrap().success(),
            "{file:?} is not made while others wait"
        );
    }
    drop(stopped);
    for child in &mut waiting {
        let ended = poll(Duration::from_secs(20), || child.try_wait().unwrap());
        assert!(ended.is_some(), "it waits for ever");
    }
    assert!(db.join("made").is_dir() && db.join("touched").is_file());
}

/// What people do with files.
fn uses(dir: &Path) {
    fs::write(dir.join("file"), "text").unwrap();
    fs::create_dir_all(dir.join("a/b")).unwrap();
    fs::write(dir.join("a/b/deep"), "deep").unwrap();
    fs::rename(dir.join("a/b/deep"), dir.join("a/up")).unwrap();
    fs::rename(dir.join("a"), dir.join("c")).unwrap();
    assert_eq!(fs::read_to_string(dir.join("c/up")).unwrap(), "deep");
    symlink("c/up", dir.join("link")).unwrap();
    assert_eq!(fs::read_to_string(dir.join("link")).unwrap(), "deep");
    fs::hard_link(dir.join("file"), dir.join("hard")).unwrap();
    assert_eq!(fs::metadata(dir.join("hard")).unwrap().nlink(), 2);
    fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(
        fs::metadata(dir.join("file")).unwrap().mode() & 0o7777,
        0o640
    );
    let mut file = File::create(dir.join("large")).unwrap();
    for block in 0..64_u8 {
        file.write_all(&[block; 65536]).unwrap();
    }
    file.sync_all().unwrap();
    file.set_len(3 << 20).unwrap();
    drop(file);
    let large = fs::read(dir.join("large")).unwrap();
    assert_eq!(large.len(), 3 << 20);
    assert!(
        large
            .chunks(65536)
            .enumerate()
            .all(|(n, part)| part.iter().all(|&byte| byte == n as u8))
    );
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["c", "file", "hard", "large", "link"]);
    fs::remove_file(dir.join("hard")).unwrap();
    fs::remove_file(dir.join("large")).unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
    fs::remove_dir(dir.join("empty")).unwrap();
    let reserved = fs::create_dir(dir.join("lost+found")).unwrap_err();
    assert_eq!(reserved.raw_os_error(), Some(libc::EPERM));
}

#[test]
fn a_server_that_dies_is_replaced() {
    let mut sandbox = Sandbox::start(NO_LOOP);
    sandbox
        .volfs()
        .ok(&["create", "db", "--disk", "--size", "64M"]);
    sandbox
        .volfs()
        .ok(&["create", "other", "--disk", "--size", "64M"]);
    let dir = sandbox.join("db");
    let mut file = File::create(dir.join("file")).unwrap();
    file.write_all(b"text").unwrap();
    file.sync_all().unwrap();
    fs::write(sandbox.join("other/file"), "other").unwrap();
    let image = sandbox
        .volfs()
        .list()
        .into_iter()
        .find(|info| info["name"] == "db")
        .unwrap();
    let image = PathBuf::from(image["disk"]["path"].as_str().unwrap());
    let servers = processes_naming(&image);
    crate::support::proc::kill(servers[0].pid);
    // A file that was open leads nowhere; the volume is served anew.
    let text = poll(Duration::from_secs(20), || {
        fs::read_to_string(dir.join("file")).ok()
    });
    assert_eq!(text.as_deref(), Some("text"), "{}", sandbox.log());
    assert!(file.write_all(b"more").is_err());
    drop(file);
    assert!(
        sandbox.log().contains("fuse2fs has ended"),
        "{}",
        sandbox.log()
    );
    assert_eq!(
        fs::read_to_string(sandbox.join("other/file")).unwrap(),
        "other"
    );
    fs::write(dir.join("new"), "new").unwrap();
    sandbox.stop();
    assert_clean(&sandbox.store);
}

#[test]
fn a_killed_daemon_leaves_no_server() {
    let mut sandbox = Sandbox::start(NO_LOOP);
    sandbox
        .volfs()
        .ok(&["create", "db", "--disk", "--size", "64M"]);
    let mut file = File::create(sandbox.join("db/file")).unwrap();
    file.write_all(b"text").unwrap();
    file.sync_all().unwrap();
    sandbox.kill();
    drop(file);
    wait_for("fuse2fs ends", || {
        processes_naming(&sandbox.store).is_empty()
    });
    assert_clean(&sandbox.store);
    sandbox.daemon = Sandbox::spawn(NO_LOOP, &sandbox.store, &sandbox.mountpoint, &sandbox.dir);
    sandbox.wait_until_mounted();
    assert_eq!(fs::read_to_string(sandbox.join("db/file")).unwrap(), "text");
    sandbox.stop();
}

#[test]
fn without_either_files_are_read_only_and_it_is_said_why() {
    let mut sandbox = Sandbox::start("true");
    sandbox
        .volfs()
        .ok(&["create", "db", "--disk", "--size", "64M"]);
    fs::write(sandbox.join("db/file"), "text").unwrap();
    sandbox.stop();
    let hide = format!("{NO_LOOP}; {NO_FUSE2FS}");
    sandbox.daemon = Sandbox::spawn(&hide, &sandbox.store, &sandbox.mountpoint, &sandbox.dir);
    sandbox.wait_until_mounted();
    let dir = sandbox.join("db");
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");
    let refused = fs::write(dir.join("new"), "text").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    let why = sandbox.last_error();
    assert!(
        why.contains("/dev/loop-control") && why.contains("apt install fuse2fs"),
        "{why}"
    );
    let said = doctor(&sandbox.volfs());
    assert!(
        said.contains("read-only") && said.contains("apt install fuse2fs"),
        "{said}"
    );
    // The image can be had nevertheless, also to write, and grow.
    let image = sandbox.join(".volfs/disks/db.raw");
    let raw = poll(Duration::from_secs(10), || {
        OpenOptions::new().write(true).read(true).open(&image).ok()
    });
    let raw = raw.unwrap();
    raw.write_all_at(&[0; 512], 0).unwrap();
    drop(raw);
    sandbox.volfs().ok(&["disk", "trust", "db"]);
    sandbox.volfs().ok(&["set", "db", "--size", "128M"]);
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "text");
    sandbox.stop();
    assert_clean(&sandbox.store);
}

/// No device is left although there is a control device: seen only when one is
/// wanted.
#[test]
fn no_loop_device_to_be_had() {
    // Nothing can be made in this /dev, and no loop device is there.
    let none_left =
        format!("{NO_LOOP} && mknod -m 600 /dev/loop-control c 10 237 && mount -o remount,ro /dev");
    let mut sandbox = Sandbox::start(&none_left);
    sandbox
        .volfs()
        .ok(&["create", "db", "--disk", "--size", "64M"]);
    fs::write(sandbox.join("db/file"), "text").unwrap();
    assert!(
        sandbox.log().contains("no loop device can be had"),
        "{}",
        sandbox.log()
    );
    sandbox.stop();
    let nothing = format!(
        "{NO_LOOP} && mknod -m 600 /dev/loop-control c 10 237; {NO_FUSE2FS}; mount -o remount,ro /dev"
    );
    sandbox.daemon = Sandbox::spawn(&nothing, &sandbox.store, &sandbox.mountpoint, &sandbox.dir);
    sandbox.wait_until_mounted();
    let refused = fs::write(sandbox.join("db/file"), "more").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    assert!(
        sandbox.last_error().contains("no loop device can be had"),
        "{}",
        sandbox.last_error()
    );
    assert_eq!(fs::read_to_string(sandbox.join("db/file")).unwrap(), "text");
    sandbox.stop();
}
