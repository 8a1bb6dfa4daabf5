//! The record of changes: who has asked for which, and whether it was made. In
//! the log of the daemon that made it; without a daemon at the end of the log
//! that an earlier one has left in the store.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::protocol::Call;
use super::socket::Peer;
use crate::model::Timestamp;
use crate::sys::process;

/// What lines of the record are logged as.
pub const TARGET: &str = "volfs::audit";

/// The log of the daemons of a store, in the store.
const LOG: &str = "daemon.log";

/// The most characters of a command line, and of what was asked for.
const MOST_CHARS: usize = 400;

/// Who has asked.
#[derive(Clone, Debug)]
pub struct Who {
    peer: Peer,
    command: String,
}

impl Who {
    /// The process at the other end of the control socket, as it is now.
    #[must_use]
    pub fn of(peer: Peer) -> Self {
        let file = format!("/proc/{}/cmdline", peer.pid);
        let line = std::fs::read(file).unwrap_or_default();
        let words = String::from_utf8_lossy(&line).replace('\0', " ");
        Self::called(peer, words.trim_end())
    }

    /// A process that uses the mount. Only its name is asked for: its command
    /// line is in its memory, which may be a file of the mount. The kernel names
    /// the thread.
    #[must_use]
    pub fn of_request(uid: u32, thread: u32) -> Self {
        let pid = process::of_thread(thread).unwrap_or(thread).cast_signed();
        let name = process::command_of(pid).unwrap_or_default();
        Self::called(Peer { uid, pid }, &name)
    }

    /// This process.
    #[must_use]
    pub fn this_process() -> Self {
        Self::of(Peer {
            uid: nix::unistd::geteuid().as_raw(),
            pid: std::process::id().cast_signed(),
        })
    }

    fn called(peer: Peer, command: &str) -> Self {
        Self {
            peer,
            command: shortened(&command.escape_debug().to_string()),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Peer { uid, pid } = self.peer;
        match pid {
            0 => write!(f, "user id {uid}, a process in another pid namespace"),
            _ => write!(f, "user id {uid}, process {pid} ({})", self.command),
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A change as it was asked for: the method and what it was given, as JSON.
pub(super) fn described(call: &Call) -> String {
    let mut value = serde_json::to_value(call).unwrap_or_default();
    let method = value["method"].as_str().unwrap_or_default().to_owned();
    if let Some(given) = value.as_object_mut() {
        given.remove("method");
    }
    shortened(&format!("{method} {value}"))
}

/// Records a change that a daemon was asked for. `refused` is why it was not
/// made.
pub(super) fn note(who: &Who, change: &str, refused: Option<&str>) {
    match refused {
        None => log::info!(target: TARGET, "{who}: {change}: done"),
        Some(why) => log::info!(target: TARGET, "{who}: {change}: refused: {why}"),
    }
}

/// Records a change that this process was to make by itself in the store in
/// `store`, if that has a log.
pub fn note_without_daemon(store: &Path, call: &Call, refused: Option<&dyn fmt::Display>) {
    let log = OpenOptions::new()
        .append(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(store.join(LOG));
    let Ok(mut log) = log else {
        return;
    };
    let outcome = refused.map_or_else(|| "done".to_owned(), |why| format!("refused: {why}"));
    // One write: lines of several processes do not mix.
    let line = format!(
        "[{} INFO  {TARGET}] {}, without a daemon: {}: {}\n",
        Timestamp::now(),
        Who::this_process(),
        described(call),
        outcome.escape_debug()
    );
    if let Err(error) = log.write_all(line.as_bytes()) {
        log::debug!("the change is not in the log: {error}");
    }
}
