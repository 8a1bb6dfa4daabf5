//! What else a mount outlives: lack of memory, a panic, its supervisor; and what
//! it does not.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;

use crate::support::cli::BINARY;
use crate::support::mount::answers;
use crate::support::{Mount, TestDir, poll, proc, wait_for};

/// Something that is open over it all, and goes on.
fn goes_on(mount: &Mount, file: &mut File, text: &mut String) {
    file.write_all(b"+").unwrap();
    text.push('+');
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut read = String::new();
    file.read_to_string(&mut read).unwrap();
    assert_eq!(read, *text);
    let path = mount.join("v/other");
    fs::write(&path, "x").unwrap();
    fs::remove_file(path).unwrap();
}

fn with_open_file(mount: &Mount) -> File {
    let path = mount.volume("v").join("f");
    File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

#[test]
fn a_panic_in_an_operation() {
    let armed = TestDir::new();
    let arm = armed.join("armed");
    let mount = Mount::builder()
        .supervised()
        .env("VOLFS_FAILPOINT_FILE", arm.to_str().unwrap())
        .start();
    let mut file = with_open_file(&mount);
    let mut text = String::new();
    for op in ["mkdir", "lookup", "unlink"] {
        let before = mount.serving_pid();
        fs::write(&arm, format!("panic {op}")).unwrap();
        fs::create_dir(mount.join("v/d")).unwrap();
        fs::remove_dir(mount.join("v/d")).unwrap();
        goes_on(&mount, &mut file, &mut text);
        assert!(!arm.exists(), "{op} did not panic");
        wait_for("another process", || mount.serving_pid() != before);
        let log = mount.daemon_log();
        assert!(log.contains(&format!("panic in {op} of node")), "{log}");
    }
    // One that kills whoever serves it is refused, and the rest goes on.
    fs::write(&arm, "panic mkdir always").unwrap();
    let refused = fs::create_dir(mount.join("v/d")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EIO));
    goes_on(&mount, &mut file, &mut text);
    fs::remove_file(&arm).unwrap();
    fs::create_dir(mount.join("v/d")).unwrap();
}

#[test]
fn no_memory_left() {
    let mount = Mount::builder().supervised().start();
    let mut file = with_open_file(&mount);
    let mut text = String::new();
    for n in 0..3 {
        let before = mount.serving_pid().unwrap();
        // All it asks for from here on is refused, and it ends.
        let limit = Command::new("prlimit")
            .args(["--pid", &before.to_string(), "--as=1048576"])
            .output()
            .unwrap();
        assert!(limit.status.success(), "{limit:?}");
        // Many names, so that it must ask.
        let dir = mount.join(format!("v/d{n}"));
        fs::create_dir(&dir).unwrap();
        let another = || mount.serving_pid().is_some_and(|pid| pid != before);
        let mut name = 0;
        while !another() {
            assert!(name < 200_000, "it has needed no memory");
            File::create(dir.join(format!("a-name-that-takes-memory-{name}"))).unwrap();
            name += 1;
        }
        goes_on(&mount, &mut file, &mut text);
    }
}

#[test]
fn a_crash_loop_ends_with_a_clean_unmount() {
    let arm = TestDir::new();
    let armed = arm.join("armed");
    let mut mount = Mount::builder()
        .supervised()
        .env("VOLFS_FAILPOINT_FILE", armed.to_str().unwrap())
        .start();
    mount.volume("v");
    fs::write(&armed, "panic start always").unwrap();
    mount.kill_serving();
    let status = mount.wait_for_daemon();
    assert_eq!(status.code(), Some(1));
    assert!(proc::mount_on(mount.path()).is_none());
    let log = mount.daemon_log();
    assert!(log.contains("giving up"), "{log}");
    fs::remove_file(&armed).unwrap();
    mount.start();
    assert!(mount.join("v").is_dir());
}

#[test]
fn without_its_supervisor_it_ends_as_any_and_the_next_cleans_up() {
    let mut mount = Mount::builder().supervised().start();
    let volume = mount.volume("v");
    fs::write(volume.join("f"), "kept").unwrap();
    let serving = mount.serving_pid().unwrap();
    mount.kill();
    wait_for("the serving process is gone", || !proc::is_alive(serving));
    assert_eq!(answers(mount.path()), Err(rustix::io::Errno::NOTCONN));
    mount.start();
    assert_eq!(fs::read_to_string(volume.join("f")).unwrap(), "kept");
}

/// A signal that comes while nobody is there to follow it is not lost.
#[test]
fn signals_while_it_dies_and_starts() {
    let mut mount = Mount::builder().supervised().start();
    mount.volume("v");
    for round in 0..12 {
        mount.kill_serving();
        std::thread::sleep(Duration::from_millis(round * 7));
        let pid = Pid::from_raw(mount.pid());
        kill(pid, Signal::SIGTERM).unwrap();
        let status = mount.wait_for_daemon();
        assert!(status.success(), "round {round}: {status}");
        assert!(proc::mount_on(mount.path()).is_none());
        mount.start();
    }
}

/// A service manager's descriptor store, as `sd_notify(3)` has it.
struct Manager {
    socket: UnixDatagram,
    stored: Vec<(String, OwnedFd)>,
}

impl Manager {
    /// Takes what has been told so far.
    fn take(&mut self) {
        loop {
            let mut bytes = [0; 4096];
            let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
            let mut space = nix::cmsg_space!([i32; 4]);
            let fd = self.socket.as_raw_fd();
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
            let Ok(message) = recvmsg::<()>(fd, &mut parts, Some(&mut space), flags) else {
                return;
            };
            let fds: Vec<i32> = message
                .cmsgs()
                .unwrap()
                .filter_map(|part| match part {
                    ControlMessageOwned::ScmRights(fds) => Some(fds),
                    _ => None,
                })
                .flatten()
                .collect();
            let len = message.bytes;
            let text = String::from_utf8(bytes[..len].to_vec()).unwrap();
            let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
            if text.contains("FDSTOREREMOVE=1") {
                self.stored
                    .retain(|(stored, _)| Some(stored.as_str()) != name);
            } else if text.contains("FDSTORE=1") {
                for fd in fds {
                    // SAFETY: the kernel has just made it for this process.
                    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                    self.stored.push((name.unwrap().to_owned(), fd));
                }
            }
        }
    }

    /// Starts the service, with what is stored.
    fn start(&mut self, dir: &TestDir) -> Child {
        self.take();
        let names: Vec<_> = self.stored.iter().map(|(name, _)| name.as_str()).collect();
        // A shell puts the descriptors where they belong and tells its own
        // process id, which the program then has.
        let mut script = String::new();
        for (n, (_, fd)) in self.stored.iter().enumerate() {
            script += &format!("exec {}<&{}; ", 3 + n, fd.as_raw_fd());
        }
        script += &format!(
            "LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={} exec {BINARY} mount -f {}",
            names.len(),
            names.join(":"),
            dir.join("mnt").display()
        );
        // Out of the way of those numbers, and inherited.
        let raise: Vec<i32> = self
            .stored
            .iter()
            .map(|(_, fd)| nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD(100)).unwrap())
            .collect();
        for (n, fd) in raise.iter().enumerate() {
            script = script.replacen(
                &format!("<&{}; ", self.stored[n].1.as_raw_fd()),
                &format!("<&{fd}; "),
                1,
            );
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .unwrap();
        let child = Command::new("bash")
            .args(["-c", &script])
            .env("VOLFS_STORE", dir.join("store"))
            .env("NOTIFY_SOCKET", dir.join("notify"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        for fd in raise {
            // SAFETY: duplicated above, and nobody else's.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        child
    }
}

#[test]
fn its_supervisor_where_a_service_manager_keeps_descriptors() {
    let dir = TestDir::new();
    dir.mkdir("store");
    let mnt = dir.mkdir("mnt");
    let socket = UnixDatagram::bind(dir.join("notify")).unwrap();
    let mut manager = Manager {
        socket,
        stored: Vec::new(),
    };
    let mut daemon = manager.start(&dir);
    wait_for("the mount", || {
        proc::mount_on(&mnt).is_some() && answers(&mnt).is_ok()
    });
    fs::create_dir(mnt.join("v")).unwrap();
    let open = |name: &str| {
        let path = mnt.join("v").join(name);
        File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
    };
    let (mut file, mut gone) = (open("f"), open("gone"));
    fs::remove_file(mnt.join("v/gone")).unwrap();
    for round in 0..4 {
        for file in [&mut file, &mut gone] {
            file.seek(SeekFrom::Start(0)).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(
                text,
                "+".repeat(round),
                "{}",
                fs::read_to_string(dir.join("log")).unwrap()
            );
            file.write_all(b"+").unwrap();
        }
        manager.take();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        daemon = manager.start(&dir);
    }
    drop((file, gone));
    let unmounted = Command::new(BINARY)
        .arg("umount")
        .arg(&mnt)
        .env("VOLFS_STORE", dir.join("store"))
        .output()
        .unwrap();
    assert!(unmounted.status.success(), "{unmounted:?}");
    let status = poll(Duration::from_secs(20), || daemon.try_wait().unwrap());
    assert!(status.unwrap().success());
    manager.take();
    assert_eq!(
        manager.stored.len(),
        0,
        "nothing is kept of a mount that is gone"
    );
    let _ = manager.socket.into_raw_fd();
}
