//! The log of a daemon in the background: `daemon.log` in the store.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// At this size the log is moved aside at the next start.
const MOST_BYTES: u64 = 10 << 20;

/// Where the log of the store's daemon is.
pub fn path(store: &Path) -> PathBuf {
    store.join("daemon.log")
}

/// Moves a log that has grown too long aside. The caller holds the store's lock.
pub fn rotate(store: &Path) {
    let path = path(store);
    if std::fs::metadata(&path).is_ok_and(|log| log.len() > MOST_BYTES)
        && let Err(error) = std::fs::rename(&path, path.with_extension("log.old"))
    {
        log::warn!("cannot move the long log {path:?} aside: {error}");
    }
}

/// Sends standard error to the log; on a read-only file system there is none,
/// and what would be said is dropped.
pub fn redirect_or_drop(store: &Path) {
    let path = path(store);
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .or_else(|error| {
            log::warn!("there will be no log: {path:?}: {error}");
            OpenOptions::new().write(true).open("/dev/null")
        });
    if let Ok(log) = log {
        // Fails only for a descriptor that is not open.
        let _ = nix::unistd::dup2_stderr(&log);
    }
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
}
