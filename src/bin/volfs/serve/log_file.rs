//! The log of a daemon in the background: `daemon.log` in the store.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// At this size the log is moved aside at the next start.
const MOST_BYTES: u64 = 10 << 20;

/// Where the log of the store's daemon is.
pub fn path(store: &Path) -> PathBuf {
    store.join("daemon.log")
}

/// Sends standard error to the log.
///
/// # Errors
/// The log cannot be written (a read-only file system).
pub fn redirect(store: &Path) -> io::Result<()> {
    let path = path(store);
    if std::fs::metadata(&path).is_ok_and(|log| log.len() > MOST_BYTES) {
        std::fs::rename(&path, path.with_extension("log.old"))?;
    }
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)?;
    nix::unistd::dup2_stderr(&log)?;
    Ok(())
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
