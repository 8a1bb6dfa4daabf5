//! The processes behind a mount, as the commands that end or replace them see
//! them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use volfs::control::{Client, SUPERVISOR, answering};
use volfs::sys::halted;
use volfs::sys::process::command_of;

/// How often it is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(5);

/// A process, told apart from a later one with the same id.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its id in this pid namespace.
    pub pid: i32,
    directory: PathBuf,
    started: Option<String>,
}

impl Process {
    /// The one that has this id now.
    pub fn of(pid: i32) -> Self {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let started = state_and_start(&directory).map(|(_, started)| started);
        Self {
            pid,
            directory,
            started,
        }
    }

    /// Its parent, where that is its supervisor.
    pub fn supervisor(&self) -> Option<Self> {
        let parent = halted::parent(self.pid)?;
        (command_of(parent)? == SUPERVISOR).then(|| Self::of(parent))
    }

    /// Whether it still runs. A zombie has given up its locks and files when
    /// its last thread has ended.
    pub fn is_running(&self) -> bool {
        match state_and_start(&self.directory) {
            Some((_, started)) if Some(&started) != self.started.as_ref() => false,
            Some((state, _)) if state == "Z" || state == "X" => {
                std::fs::read_dir(self.directory.join("task"))
                    .is_ok_and(|threads| threads.count() > 1)
            }
            Some(_) => true,
            None => false,
        }
    }

    fn signal(&self, signal: Signal) {
        if self.is_running() {
            // One that ends just now needs none.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// Fields 3 and 22 of `/proc/PID/stat` (proc_pid_stat(5)); the command in
/// field 2 may hold anything but ends with the last parenthesis.
fn state_and_start(directory: &Path) -> Option<(String, String)> {
    let text = std::fs::read_to_string(directory.join("stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.to_owned();
    let started = fields.nth(18)?.to_owned();
    Some((state, started))
}

/// The process that serves a mount, and its supervisor where it has one.
#[derive(Clone, Debug)]
pub struct DaemonProcesses {
    all: Vec<Process>,
}

impl DaemonProcesses {
    /// Those of a daemon, as far as they can be seen from this pid namespace.
    pub fn of(daemon: &Client) -> volfs::volume::Result<Self> {
        Ok(Self::serving(daemon.pid()?))
    }

    /// Those of the process that serves.
    pub fn serving(pid: Option<i32>) -> Self {
        let serving = pid.map(Process::of);
        let supervisor = serving.as_ref().and_then(Process::supervisor);
        Self {
            all: supervisor.into_iter().chain(serving).collect(),
        }
    }

    /// Those of a daemon that this process has started, which may be a supervisor.
    pub fn started_as(pid: i32) -> Self {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        let children = children.unwrap_or_default();
        let children = children.split_whitespace().filter_map(|it| it.parse().ok());
        Self {
            all: std::iter::once(pid)
                .chain(children)
                .map(Process::of)
                .collect(),
        }
    }

    /// Whether any of them runs.
    pub fn is_running(&self) -> bool {
        self.all.iter().any(Process::is_running)
    }

    /// The one that is kept from running, what keeps it, and what to do.
    pub fn why_halted(&self) -> Option<String> {
        self.all.iter().find_map(|process| {
            let pid = process.pid;
            let halted = halted::halted(pid)?;
            Some(format!("process {pid} {halted}; {}", halted.way_out(pid)))
        })
    }

    /// `process N`, the one that signals are for.
    pub fn named(&self) -> String {
        let first = self.all.first();
        first.map_or_else(
            || "its process, which cannot be seen from here".to_owned(),
            |process| format!("process {}", process.pid),
        )
    }

    /// Ends them: by a signal that they can act on, and where they do not, for
    /// instance because they are stopped, by one that nobody can ignore.
    /// Returns whether they have ended.
    pub fn end(&self) -> bool {
        /// How long they may take to settle the store.
        const ORDERLY: Duration = Duration::from_secs(10);
        /// How long the kernel may take.
        const KILLED: Duration = Duration::from_secs(5);
        if self.why_halted().is_none() {
            if let Some(first) = self.all.first() {
                first.signal(Signal::SIGTERM);
            }
            if self.wait(ORDERLY) {
                return true;
            }
        }
        // The supervisor first, which would start another.
        for process in &self.all {
            process.signal(Signal::SIGKILL);
        }
        self.wait(KILLED)
    }

    fn wait(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        true
    }
}

/// Says so when the daemon of the store is stopped, for a command that reads and
/// writes through the mount: it is the kernel that waits then, until the daemon
/// goes on.
pub fn watch_daemon(store: &Path) {
    const LOOK: Duration = Duration::from_secs(1);
    const HALTED_LOOKS: u32 = 3;
    let daemon = Client::connect(store).ok().flatten();
    let Some(pid) = daemon.and_then(|daemon| daemon.pid().ok().flatten()) else {
        return;
    };
    let watch = move || {
        let mut looks = 0;
        loop {
            std::thread::sleep(LOOK);
            match answering::why_it_does_not_run(pid) {
                None => looks = 0,
                Some(why) => {
                    looks += 1;
                    if looks == HALTED_LOOKS {
                        log::warn!("waiting for the daemon: {why}");
                    }
                }
            }
        }
    };
    // Without it nothing is said, and all else is the same.
    let _ = std::thread::Builder::new()
        .name("watch".into())
        .spawn(watch);
}
