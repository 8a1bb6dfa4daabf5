//! Whether a process is kept from running: by a signal, a debugger or the
//! freezer of its control group. Knows only what `/proc` and cgroupfs say.

use std::fmt;
use std::fs::read_to_string;

/// What keeps a process from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halted {
    /// A signal, SIGSTOP or one of a terminal.
    Stopped,
    /// Another process, which traces it; its process id, 0 when that cannot be
    /// seen.
    Traced(i32),
    /// Its control group is frozen; the group's path.
    Frozen(String),
}

impl fmt::Display for Halted {
    /// What it is and the way out, as the end of a sentence about `process N`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => write!(f, "is stopped"),
            Self::Traced(0) => write!(f, "is stopped by a debugger"),
            Self::Traced(by) => write!(f, "is stopped by the debugger in process {by}"),
            Self::Frozen(group) => write!(f, "is in the frozen control group {group}"),
        }
    }
}

impl Halted {
    /// How to let the process `pid` run again, as an imperative.
    #[must_use]
    pub fn way_out(&self, pid: i32) -> String {
        match self {
            Self::Stopped => format!("let it go on with 'kill -CONT {pid}'"),
            Self::Traced(_) => "let the debugger continue or detach".to_owned(),
            Self::Frozen(_) => "thaw the group".to_owned(),
        }
    }
}

/// What keeps the process `pid` from running; `None` when nothing does, when it
/// has ended, or when it cannot be seen.
#[must_use]
pub fn halted(pid: i32) -> Option<Halted> {
    match state(pid)? {
        'T' => Some(Halted::Stopped),
        't' => Some(Halted::Traced(tracer(pid))),
        _ => frozen(pid).map(Halted::Frozen),
    }
}

/// The state of a process as `ps` shows it: the third field of `/proc/PID/stat`
/// (proc_pid_stat(5)). `None` when it has ended or cannot be seen.
#[must_use]
pub fn state(pid: i32) -> Option<char> {
    let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command before it may hold anything but ends with the last parenthesis.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

/// The parent of a process; `None` when it has ended or cannot be seen.
#[must_use]
pub fn parent(pid: i32) -> Option<i32> {
    let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn tracer(pid: i32) -> i32 {
    let status = read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    line.and_then(|pid| pid.trim().parse().ok()).unwrap_or(0)
}

/// The frozen control group of a process (cgroups(7), the freezer of both
/// versions), where they are mounted as systemd mounts them.
fn frozen(pid: i32) -> Option<String> {
    let groups = read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, group) = rest.split_once(':')?;
        let says = |file: String, what: &str| {
            read_to_string(file).is_ok_and(|text| text.lines().any(|line| line == what))
        };
        let is_frozen = match controllers {
            "" => ["", "/unified"].iter().any(|below| {
                says(
                    format!("/sys/fs/cgroup{below}{group}/cgroup.events"),
                    "frozen 1",
                )
            }),
            "freezer" => says(
                format!("/sys/fs/cgroup/freezer{group}/freezer.state"),
                "FROZEN",
            ),
            _ => false,
        };
        is_frozen.then(|| group.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[test]
    fn a_stopped_process_and_one_that_runs() {
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let pid = child.id().cast_signed();
        assert_eq!(halted(pid), None);
        assert_eq!(parent(pid), Some(std::process::id().cast_signed()));
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while halted(pid).is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let stopped = halted(pid);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(stopped, Some(Halted::Stopped));
        assert_eq!((halted(pid), state(pid)), (None, None));
    }
}
