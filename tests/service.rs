//! As a service manager runs it: readiness, end and watchdog, told to a socket
//! as systemd's `NOTIFY_SOCKET` is one.

#[path = "support/mod.rs"]
mod support;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{Mount, TestDir, poll};

/// A service manager's end of the notification socket.
struct Manager {
    socket: UnixDatagram,
    path: String,
    _dir: TestDir,
}

impl Manager {
    fn new() -> Self {
        let dir = TestDir::new();
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            path: path.to_str().unwrap().to_owned(),
            _dir: dir,
        }
    }

    /// The next message, if there is one.
    fn next(&self) -> Option<String> {
        let mut buffer = [0; 4096];
        let len = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..len].to_vec()).unwrap())
    }

    /// Waits for a message that has this line, and returns it whole.
    fn wait_for(&self, line: &str) -> String {
        let came = poll(Duration::from_secs(20), || {
            self.next()
                .filter(|message| message.lines().any(|l| l == line))
        });
        came.unwrap_or_else(|| panic!("{line} was not told within 20 s"))
    }

    /// Whether nothing is told for so long.
    fn is_silent_for(&self, time: Duration) -> bool {
        while self.next().is_some() {}
        let until = Instant::now() + time;
        let spoke = poll(time * 2, || match self.next() {
            Some(_) => Some(true),
            None => (Instant::now() > until).then_some(false),
        });
        spoke == Some(false)
    }
}

#[test]
fn a_service_manager_is_told_ready_and_the_end() {
    let manager = Manager::new();
    let mut mount = Mount::builder().env("NOTIFY_SOCKET", &manager.path).start();
    let ready = manager.wait_for("READY=1");
    let status = format!(
        "STATUS={} on {}",
        mount.store().display(),
        mount.path().display()
    );
    assert!(ready.lines().any(|line| line == status), "{ready}");
    mount.volume("a");
    assert!(
        manager.is_silent_for(Duration::from_millis(200)),
        "without WATCHDOG_USEC nothing more is told"
    );

    // Refused because somebody uses it: that is its status from then on.
    let file = std::fs::File::create(mount.join("a/f")).unwrap();
    kill(Pid::from_raw(mount.pid()), Signal::SIGTERM).unwrap();
    let busy = poll(Duration::from_secs(20), || manager.next()).unwrap();
    assert!(busy.starts_with("STATUS=still mounted: "), "{busy}");
    drop(file);
    mount.stop();
    manager.wait_for("STOPPING=1");
}

#[test]
fn the_watchdog_lives_from_answers_of_the_mount() {
    let manager = Manager::new();
    // The store lies on another mount, whose daemon can be stopped: every
    // answer that needs the store has to wait then.
    let below = Mount::new();
    let above = Mount::builder()
        .parent(&below.volume("stores"))
        .env("NOTIFY_SOCKET", &manager.path)
        .env("WATCHDOG_USEC", "200000")
        .start();
    manager.wait_for("READY=1");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    let below_pid = Pid::from_raw(below.pid());
    kill(below_pid, Signal::SIGSTOP).unwrap();
    let silent = poll(Duration::from_secs(20), || {
        manager
            .is_silent_for(Duration::from_millis(600))
            .then_some(())
    });
    kill(below_pid, Signal::SIGCONT).unwrap();
    assert!(silent.is_some(), "a mount that does not answer was said to");
    manager.wait_for("WATCHDOG=1");
    drop(above);
}
