//! What the kernel says about mounts, processes and loop devices.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A running process.
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its command line.
    pub command: String,
}

/// Gives this thread, and what it starts from here on, a mount namespace of its own: its mounts are
/// nobody else's, and nobody who copies the machine's mounts keeps one of them.
pub fn own_mount_namespace() {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
}

/// The mountpoints in the mount namespace of this thread at or under `path`, in mount order.
pub fn mounts_under(path: &Path) -> Vec<PathBuf> {
    let table = fs::read("/proc/thread-self/mountinfo").unwrap();
    table
        .split(|&b| b == b'\n')
        .filter_map(|line| line.split(|&b| b == b' ').nth(4))
        .map(unescape)
        .filter(|mountpoint| mountpoint.starts_with(path))
        .collect()
}

/// In the mount namespace of this thread: type and source of what is mounted on `path`, the topmost.
pub fn mount_on(path: &Path) -> Option<(String, String)> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").ok()?;
    table.lines().rev().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mountpoint = unescape(left.split(' ').nth(4)?.as_bytes());
        let mut right = right.split(' ');
        (mountpoint == path).then_some(())?;
        Some((right.next()?.to_owned(), right.next()?.to_owned()))
    })
}

/// mountinfo writes space, tab, newline and backslash in octal.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\' && tail.len() >= 3)
            .then(|| std::str::from_utf8(&tail[..3]).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = octal {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Processes other than this one whose command line has an argument at or
/// under `path`. A zombie has no command line and is not listed.
pub fn processes_naming(path: &Path) -> Vec<Process> {
    let needle = path.as_os_str().as_bytes();
    let mut found = Vec::new();
    for pid in pids() {
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
            continue;
        };
        let names = line
            .split(|&b| b == 0)
            .any(|arg| arg.windows(needle.len()).any(|part| part == needle));
        if names && pid != std::process::id().cast_signed() {
            let command = String::from_utf8_lossy(&line).replace('\0', " ");
            found.push(Process { pid, command });
        }
    }
    found
}

/// The process ids of this pid namespace.
pub fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Loop devices whose backing file is under `path`.
pub fn loop_devices_under(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| {
            fs::read_to_string(entry.path().join("loop/backing_file"))
                .is_ok_and(|file| Path::new(file.trim_end()).starts_with(path))
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Sends SIGKILL to one process; it may be gone already.
pub fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    );
}

/// Whether a process exists and has a thread that is not a zombie: the last
/// one closes its files.
pub fn is_alive(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let zombie = stat.rsplit(')').next().is_some_and(|s| s.starts_with(" Z"));
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    !zombie || threads() > 1
}

/// Open descriptors of a process.
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Anonymous resident memory of a process, in bytes: what it has allocated,
/// without the pages of its files.
pub fn anonymous_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .expect("every process with memory has RssAnon");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}
