//! What a service manager is told (`sd_notify(3)`): ready, how it goes, that
//! the end has come; and the watchdog, which lives from answers of the mount
//! itself. Without a service manager (`NOTIFY_SOCKET` is not set) nothing
//! happens.

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use sd_notify::NotifyState;

/// The mount can be used.
pub fn ready(store: &Path, mountpoint: &Path) {
    ready_as(&format!("{} on {}", store.display(), mountpoint.display()));
}

/// What was started can be used, and this is said of it.
pub fn ready_as(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The mount goes on, and this is said of it.
pub fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// The daemon is about to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("the service manager cannot be told {state:?}: {error}");
    }
}

/// Tells the service manager at half its interval that the mount answers. When
/// it does not, nothing is told, and the service manager acts.
#[derive(Debug)]
pub struct Watchdog {
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts when the service manager asks for it (`WATCHDOG_USEC`).
    pub fn start(mountpoint: &Path) -> Option<Self> {
        let interval = interval()?;
        let (stop, stopped) = mpsc::channel();
        let mountpoint = mountpoint.to_owned();
        let thread = std::thread::Builder::new()
            .name("watchdog".into())
            .spawn(move || watch(&mountpoint, interval, &stopped))
            .inspect_err(|error| log::error!("there will be no watchdog: {error}"))
            .ok()?;
        Some(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Ends it. One that waits for a mount that does not answer is left.
    pub fn end(mut self) {
        // Fails only when it has ended by itself.
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take().filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

/// How often the service manager is told: half of what it waits. It means its
/// own child, or what that has started to serve.
fn interval() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let waits = number("WATCHDOG_USEC").filter(|&waits| waits > 0)?;
    let meant = number("WATCHDOG_PID").is_none_or(|pid| {
        [std::process::id(), std::os::unix::process::parent_id()]
            .map(u64::from)
            .contains(&pid)
    });
    meant.then(|| Duration::from_micros(waits) / 2)
}

fn watch(mountpoint: &Path, interval: Duration, stopped: &mpsc::Receiver<()>) {
    loop {
        // Always a request: the kernel keeps no answer to statfs(2).
        match statvfs(mountpoint) {
            Ok(_) => tell(&[NotifyState::Watchdog]),
            // A mount that is just ending is no reason to be killed.
            Err(Errno::ENOTCONN) => return,
            Err(errno) => log::warn!("the mount {mountpoint:?} does not answer well: {errno}"),
        }
        if stopped.recv_timeout(interval) != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
    }
}
