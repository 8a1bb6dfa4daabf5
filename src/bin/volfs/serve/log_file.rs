//! The log of a daemon in the background: `daemon.log` in the store, moved
//! aside when it has grown too long, so that nobody else has to do that.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// At this size the log is moved aside. There are never more than two.
const MOST_BYTES: u64 = 10 << 20;

/// How much is written between two looks at the size.
const LOOK_AFTER_BYTES: usize = 64 << 10;

/// The log that standard error is, once it is one.
static OPEN: OnceLock<PathBuf> = OnceLock::new();

/// Where the log of the store's daemon is.
pub fn path(store: &Path) -> PathBuf {
    store.join("daemon.log")
}

/// Moves a log that has grown too long aside. The caller holds the store's lock.
pub fn rotate(store: &Path) {
    let path = path(store);
    if std::fs::metadata(&path).is_ok_and(|log| log.len() > MOST_BYTES)
        && let Err(error) = move_aside(&path)
    {
        log::warn!("cannot move the long log {path:?} aside: {error}");
    }
}

fn move_aside(path: &Path) -> io::Result<()> {
    std::fs::rename(path, path.with_extension("log.old"))
}

/// Sends standard error to the log; on a read-only file system there is none,
/// and what would be said is dropped.
pub fn redirect_or_drop(store: &Path) {
    let path = path(store);
    let log = open(&path).or_else(|error| {
        log::warn!("there will be no log: {path:?}: {error}");
        OpenOptions::new().write(true).open("/dev/null")
    });
    if let Ok(log) = log {
        // Fails only for a descriptor that is not open.
        let _ = nix::unistd::dup2_stderr(&log);
        let _ = OPEN.set(path);
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Opens the log anew. Does nothing when standard error is no log.
pub fn reopen() {
    if let Some(path) = OPEN.get()
        && let Ok(log) = open(path)
    {
        // Standard output is the log too; see `ready`.
        let _ = nix::unistd::dup2_stdout(&log);
        let _ = nix::unistd::dup2_stderr(&log);
    }
}

/// Standard error, as the log of a process that may live for years.
#[derive(Debug, Default)]
pub struct Log {
    written: usize,
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = io::stderr().write(bytes)?;
        self.written += written;
        if self.written >= LOOK_AFTER_BYTES {
            self.written = 0;
            if let Some(path) = OPEN.get() {
                keep_short(path, io::stderr());
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Moves a log that is too long aside, unless another process of this daemon
/// has done that, and goes on with a new one. What fails leaves it long: the
/// log is no place to say so.
fn keep_short(path: &Path, log: impl AsFd) {
    let Ok(stat) = nix::sys::stat::fstat(log) else {
        return;
    };
    if stat.st_size.unsigned_abs() <= MOST_BYTES {
        return;
    }
    let named = std::fs::metadata(path).map(|named| (named.dev(), named.ino()));
    if named.is_ok_and(|named| named == (stat.st_dev, stat.st_ino)) && move_aside(path).is_err() {
        return;
    }
    reopen();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_place() {
        let log = path(Path::new("/srv/s"));
        assert_eq!(log, Path::new("/srv/s/daemon.log"));
        assert_eq!(
            log.with_extension("log.old"),
            Path::new("/srv/s/daemon.log.old")
        );
    }

    #[test]
    fn only_a_long_log_is_moved_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        let old = path.with_extension("log.old");
        let log = open(&path).unwrap();
        log.set_len(MOST_BYTES).unwrap();
        keep_short(&path, &log);
        assert!(!old.exists());
        log.set_len(MOST_BYTES + 1).unwrap();
        keep_short(&path, &log);
        assert!(old.exists() && !path.exists());
        // A second process that has the old one open leaves the new one.
        std::fs::write(&path, "new").unwrap();
        keep_short(&path, &log);
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }
}
