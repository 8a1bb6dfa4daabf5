//! A disk that fails once: the error is told as what it is, and what comes
//! after it works. The failure is that of one system call, by strace.

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::cli::BINARY;
use support::{Mount, TestDir, Volfs, poll};

const CALLS: [&str; 4] = ["pread64", "pwrite64", "fsync", "openat"];

/// strace that makes the `when`-th `call` of each thread on the catalogue fail.
fn failing(store: &Path, call: &str, when: usize, log: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:error=EIO:when={when}")])
        .arg("-P")
        .arg(store.join("meta.db"))
        .arg("-P")
        .arg(store.join("meta.db-wal"))
        .arg("-o")
        .arg(log);
    strace
}

#[track_caller]
fn is_told_as_it_is(said: &str, what: &str) {
    assert!(!said.contains("damaged:"), "{what}: {said}");
    assert!(!said.contains("rebuild-catalogue"), "{what}: {said}");
    assert!(said.contains("I/O error"), "{what}: {said}");
}

#[test]
fn of_a_command() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    volfs.ok(&["create", "a", "b"]);
    let log = dir.join("strace");
    let mut failed = 0;
    for call in CALLS {
        for when in 1..6 {
            let name = format!("{call}-{when}");
            let out = failing(volfs.store(), call, when, &log)
                .arg(BINARY)
                .args(["create", &name])
                .env("VOLFS_STORE", volfs.store())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&out.stderr);
            if !out.status.success() {
                failed += 1;
                is_told_as_it_is(&said, &name);
            }
            // There as after a success, or as if nothing had been asked for.
            let there = volfs.names().contains(&name);
            assert!(there || !out.status.success(), "{name}: {said}");
            volfs.ok(&["doctor"]);
        }
    }
    assert!(failed > 5, "{failed} commands met the error");
}

struct Tracer(Child);

impl Drop for Tracer {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

#[test]
fn of_a_daemon() {
    // More than SQLite keeps in memory, so that it has to read.
    let mount = Mount::new();
    let volfs = mount.volfs();
    let value = "x".repeat(4000);
    let labels: Vec<String> = (0..4).map(|n| format!("k{n}={value}")).collect();
    for n in 0..200 {
        let mut words = vec!["create".to_owned(), format!("big{n}")];
        for label in &labels {
            words.extend(["--label".to_owned(), label.clone()]);
        }
        volfs.ok(&words);
    }
    let lock = std::fs::read_to_string(volfs.store().join("lock")).unwrap();
    let pid = lock.split(' ').nth(1).unwrap();
    for (round, call) in ["pread64", "pwrite64", "fsync"].into_iter().enumerate() {
        let log = mount.store().join(format!("../strace-{call}"));
        let tracer = failing(volfs.store(), call, 1, &log)
            .args(["-p", pid])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let tracer = Tracer(tracer);
        let traced = || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let tracer = status.lines().find(|line| line.starts_with("TracerPid:"));
            (!tracer.unwrap().ends_with("\t0")).then_some(())
        };
        poll(Duration::from_secs(20), traced).expect("strace attaches");
        let set = |n: usize| volfs.run(&["set", &format!("big{n}"), "--label", "j=1"]);
        let answers: Vec<_> = (0..6).map(|n| set(n * 30 + round)).collect();
        drop(tracer);
        let met = std::fs::read_to_string(&log).unwrap();
        assert!(met.contains("INJECTED"), "{call}: {met}");
        for answer in answers.iter().filter(|answer| answer.code != Some(0)) {
            is_told_as_it_is(&answer.err, call);
        }
        // Once it is over all is as before.
        for n in 0..6 {
            let answer = set(n * 30 + round);
            assert_eq!(answer.code, Some(0), "{call}: {}", answer.err);
        }
        volfs.ok(&["create", &format!("after-{call}")]);
    }
    volfs.ok(&["doctor"]);
}
