//! A daemon in the foreground, and signals.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Place;
use super::support::{poll, wait_for};

/// A daemon in the foreground whose log is read.
struct Foreground {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Foreground {
    /// Starts it and waits for its word that it is mounted.
    fn start(place: &Place) -> Self {
        let mut child = place
            .volfs
            .command(&["mount", "--foreground", place.at()])
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut said).unwrap();
        assert!(said.contains("is mounted on"), "{said}");
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Reads the log up to a line with this text.
    fn wait_for_line(&mut self, part: &str) -> String {
        let mut all = String::new();
        loop {
            let before = all.len();
            self.log.read_line(&mut all).unwrap();
            let line = &all[before..];
            assert!(!line.is_empty(), "the log ended without {part:?}: {all}");
            if line.contains(part) {
                return line.to_owned();
            }
        }
    }

    /// Waits for its end; returns exit code and the rest of the log.
    fn end(&mut self) -> (Option<i32>, String) {
        let ended = poll(Duration::from_secs(20), || self.child.try_wait().unwrap());
        let status = ended.expect("the daemon ends");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (status.code(), rest)
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sigterm_and_sigint_unmount() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let place = Place::new();
        let mut daemon = Foreground::start(&place);
        fs::create_dir(place.mountpoint.join("a")).unwrap();
        daemon.signal(signal);
        let (code, log) = daemon.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains(signal.as_str()), "{log}");
        assert!(!place.is_mounted());
        assert_eq!(place.volfs.names(), ["a"]);
    }
}

#[test]
fn a_busy_mount_stays_until_the_second_signal() {
    let place = Place::new();
    let mut daemon = Foreground::start(&place);
    let volume = place.mountpoint.join("a");
    fs::create_dir(&volume).unwrap();
    let held = fs::File::create(volume.join("f")).unwrap();
    daemon.signal(Signal::SIGTERM);
    let line = daemon.wait_for_line("still mounted");
    let own = format!("process {}", std::process::id());
    assert!(line.contains(&own), "it says who: {line}");
    assert!(place.is_mounted());
    assert_eq!(place.volfs.names(), ["a"], "it still serves");
    daemon.signal(Signal::SIGTERM);
    let (code, log) = daemon.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!place.is_mounted());
    drop(held);
    assert_eq!(place.volfs.names(), ["a"]);
}

#[test]
fn sighup_changes_nothing() {
    let place = Place::new();
    let mut daemon = Foreground::start(&place);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_line("SIGHUP");
    assert!(place.is_mounted());
    assert_eq!(place.volfs.names(), Vec::<String>::new());
    place.umount();
    assert_eq!(daemon.end().0, Some(0));
}

#[test]
fn a_daemon_whose_starter_is_gone_before_it_is_ready_unmounts() {
    let place = Place::new();
    // What the starter does, with a pipe that nobody reads.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut daemon = Command::new(super::support::cli::BINARY)
        .args(["--ready-on-stdout", "mount", place.at()])
        .env("VOLFS_STORE", place.volfs.store())
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("it ends", || daemon.try_wait().unwrap().is_some());
    assert!(!place.is_mounted());
    assert!(
        place.log().contains("is gone; unmounting"),
        "{}",
        place.log()
    );
}
