//! No command waits without a word, and none without end, for a process that is
//! stopped or that nobody told of: each names it and the way out.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Place;
use super::support::cli::Answer;
use super::support::mount::answers;
use super::support::{proc, wait_for};

/// No command may take longer, with a processor that others use too.
const BOUND: Duration = Duration::from_secs(60);

/// A process that is stopped, until this is dropped.
struct Stopped(i32);

impl Stopped {
    fn new(pid: i32) -> Self {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        wait_for("it is stopped", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit(')').next().unwrap().starts_with(" T")
        });
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0), Signal::SIGCONT);
    }
}

/// The process that the supervisor `daemon` has serve.
fn serving(daemon: i32) -> i32 {
    let file = format!("/proc/{daemon}/task/{daemon}/children");
    let children = fs::read_to_string(file).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

/// Runs a command, which must end within [`BOUND`].
fn within(place: &Place, arguments: &[&str]) -> Answer {
    let start = Instant::now();
    let mut child = place
        .volfs
        .command(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > BOUND {
            let _ = child.kill();
            panic!("{arguments:?} has not ended after {BOUND:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let out = child.wait_with_output().unwrap();
    Answer {
        code: out.status.code(),
        out: String::from_utf8_lossy(&out.stdout).into_owned(),
        err: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

fn fails_naming(place: &Place, arguments: &[&str], what: &str) {
    let answer = within(place, arguments);
    assert_eq!(answer.code, Some(1), "{arguments:?}: {}", answer.err);
    let said = answer.out + &answer.err;
    assert!(said.contains(what), "{arguments:?}: {said}");
}

#[test]
fn commands_name_a_stopped_daemon_and_the_way_out() {
    let place = Place::new();
    let daemon = place.mount(&[]);
    place.volfs.ok(&["create", "a"]);
    let pid = serving(daemon);
    let stopped = Stopped::new(pid);
    let who = format!("process {pid} is stopped; let it go on with 'kill -CONT {pid}'");
    let archive = place.dir.join("a.tar");
    let second = place.dir.mkdir("second");
    let commands: [&[&str]; 16] = [
        &["ls"],
        &["create", "b"],
        &["rm", "a"],
        &["config", "trash.retention", "7d"],
        &["path", "a"],
        &["events", "--follow"],
        &["top", "-n", "1"],
        &["stats"],
        &["metrics"],
        &["doctor"],
        &["upgrade"],
        &["export", "a", "-o", archive.to_str().unwrap()],
        &["clone", "a", "c"],
        &["umount", place.at()],
        &["mount", place.at()],
        &["mount", second.to_str().unwrap()],
    ];
    std::thread::scope(|scope| {
        for command in commands {
            scope.spawn(|| fails_naming(&place, command, &who));
        }
    });
    let log = place.log();
    assert!(log.contains("was stopped by SIGSTOP"), "{log}");
    drop(stopped);
    // Nobody who gave up is served later.
    assert_eq!(place.volfs.names(), ["a"]);
    place.umount();
}

#[test]
fn who_is_stopped_in_the_backlog_is_named_too() {
    let place = Place::new();
    let pid = serving(place.mount(&[]));
    let _stopped = Stopped::new(pid);
    let socket = place.volfs.store().join("control.sock");
    let flags = nix::sys::socket::SockFlag::SOCK_NONBLOCK;
    let address = nix::sys::socket::UnixAddr::new(&socket).unwrap();
    let mut waiting = Vec::new();
    loop {
        let fd = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Unix,
            nix::sys::socket::SockType::Stream,
            flags,
            None,
        );
        let fd = fd.unwrap();
        let connected = nix::sys::socket::connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &address);
        waiting.push(fd);
        match connected {
            Ok(()) => assert!(waiting.len() < 10_000),
            Err(errno) => break assert_eq!(errno, nix::errno::Errno::EAGAIN),
        }
    }
    let who = format!("process {pid} is stopped; let it go on with 'kill -CONT {pid}'");
    fails_naming(&place, &["ls"], &who);
}

#[test]
fn a_stopped_daemon_is_detached_from_and_ended() {
    let place = Place::new();
    let daemon = place.mount(&[]);
    let stopped = Stopped::new(serving(daemon));
    let answer = within(&place, &["umount", "--lazy", place.at()]);
    assert_eq!(answer.code, Some(0), "{}", answer.err);
    let said = "is detached, but its daemon does not answer and ends only when it goes on";
    assert!(answer.err.contains(said), "{}", answer.err);
    assert!(!place.is_mounted());
    drop(stopped);
    wait_for("the daemon ends", || !proc::is_alive(daemon));

    let daemon = place.mount(&[]);
    let pid = serving(daemon);
    let stopped = Stopped::new(pid);
    let answer = within(&place, &["umount", "--force", place.at()]);
    assert_eq!(answer.code, Some(0), "{}", answer.err);
    assert!(!place.is_mounted() && !proc::is_alive(pid) && !proc::is_alive(daemon));
    drop(stopped);
    place.mount(&[]);
    place.umount();
}

#[test]
fn a_stopped_supervisor_is_named() {
    let place = Place::new();
    let daemon = place.mount(&[]);
    let pid = serving(daemon);
    let stopped = Stopped::new(daemon);
    assert_eq!(place.volfs.names(), Vec::<String>::new());
    let who = format!("process {daemon} is stopped; let it go on with 'kill -CONT {daemon}'");
    fails_naming(&place, &["upgrade"], &who);
    // Nobody starts the next process.
    proc::kill(pid);
    wait_for("it has ended", || !proc::is_alive(pid));
    let who = format!("the supervisor that is to start the next, process {daemon}, is stopped");
    fails_naming(&place, &["stats"], &who);
    drop(stopped);
    wait_for("another process serves", || {
        place.volfs.run(&["stats"]).code == Some(0)
    });
    let _stopped = Stopped::new(daemon);
    fails_naming(
        &place,
        &["umount", place.at()],
        "its daemon does not end: process",
    );
}

#[test]
fn sigterm_also_ends_a_stopped_daemon() {
    let place = Place::new();
    let daemon = place.mount(&[]);
    let _stopped = Stopped::new(serving(daemon));
    kill(Pid::from_raw(daemon), Signal::SIGTERM).unwrap();
    wait_for("it ends", || !proc::is_alive(daemon));
    assert!(!place.is_mounted());
}

/// A process with a copy of the mount of a place, in a mount namespace of its own.
struct Copy(Child);

impl Copy {
    fn of(place: &Place) -> Self {
        // Of this mount alone: other tests unmount theirs meanwhile.
        let script = format!(
            "awk '$3 == \"fuse.volfs\" && $2 != \"{0}\" {{ print $2 }}' /proc/self/mounts | xargs -r umount -l; exec sleep 1000",
            place.at()
        );
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .spawn()
            .unwrap();
        let pid = child.id();
        let comm = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        wait_for("a process in a namespace of its own", || {
            comm() == "sleep\n"
        });
        Self(child)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_copy_in_another_namespace_is_said_by_all_alike() {
    let place = Place::new();
    let daemon = place.mount(&[]);
    fs::create_dir(place.mountpoint.join("a")).unwrap();
    let copy = Copy::of(&place);
    let pid = copy.0.id();
    let who = format!(
        "{} is unmounted here, but process {pid} (sleep) has a copy of it in a mount namespace of its own, and the daemon (process {daemon}) serves that until it is gone",
        place.at()
    );
    fails_naming(&place, &["umount", place.at()], &who);
    assert!(!place.is_mounted());
    let seen_by_guest = format!("/proc/{pid}/root{}/a", place.at());
    assert!(fs::metadata(&seen_by_guest).unwrap().is_dir());
    fails_naming(&place, &["umount", place.at()], &who);
    fails_naming(&place, &["mount", place.at()], &who);
    // Also where the store is not named.
    let mut elsewhere = place.volfs.command(&["umount", "--lazy", place.at()]);
    elsewhere.env("VOLFS_STORE", place.dir.join("other"));
    let answer = elsewhere.output().unwrap();
    assert!(answer.status.success(), "{answer:?}");
    assert!(
        String::from_utf8_lossy(&answer.stderr).contains(&who),
        "{answer:?}"
    );
    assert!(fs::metadata(&seen_by_guest).unwrap().is_dir());
    let answer = within(&place, &["umount", "--force", place.at()]);
    assert_eq!(answer.code, Some(0), "{}", answer.err);
    assert!(!proc::is_alive(daemon));
    let answer = answers(std::path::Path::new(&seen_by_guest));
    assert_eq!(answer, Err(rustix::io::Errno::NOTCONN));
    place.mount(&[]);
    place.umount();
}

#[test]
fn one_sigterm_ends_what_is_already_unmounted() {
    let place = Place::new();
    let daemon = place.mount(&[]);
    let _copy = Copy::of(&place);
    place.volfs.ok(&["umount", "--lazy", place.at()]);
    assert!(proc::is_alive(daemon));
    kill(Pid::from_raw(daemon), Signal::SIGTERM).unwrap();
    wait_for("it ends", || !proc::is_alive(daemon));
}

#[test]
fn the_first_sigterm_tells_of_a_copy_of_the_mount() {
    let place = Place::new();
    let daemon = place.mount(&[]);
    let copy = Copy::of(&place);
    kill(Pid::from_raw(daemon), Signal::SIGTERM).unwrap();
    let who = format!(
        "unmounted here, and serving on for process {} (sleep), which has a copy of the mount in a mount namespace of its own; a second signal ends",
        copy.0.id()
    );
    wait_for("the log names it", || place.log().contains(&who));
    drop(copy);
    wait_for("it ends with the copy", || !proc::is_alive(daemon));
}
