//! Whether a file is open for writing anywhere, by a lease (fcntl(2), "Leases").

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

use super::check;

/// Whether somebody, in any process, has the file open for writing or mapped so;
/// `file` is open for reading alone. `false` where the file system has no leases,
/// and for files of others without CAP_LEASE.
#[must_use]
pub fn is_open_for_writing(file: impl AsFd) -> bool {
    let fd = file.as_fd().as_raw_fd();
    // Whoever opens it in this moment waits for the lease to be given back, and we
    // are told by a signal: one that is ignored.
    // SAFETY: a live descriptor and numbers.
    let quiet = check(unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) });
    if quiet.is_err() {
        return false;
    }
    // SAFETY: a live descriptor and numbers.
    let taken = check(unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) });
    if taken.is_ok() {
        // SAFETY: a live descriptor and numbers.
        unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
    }
    taken == Err(Errno::EAGAIN)
}

/// `linux/fcntl.h` (asm-generic).
const F_SETSIG: libc::c_int = 10;

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn writers_are_seen_and_readers_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let writer = File::create(&path).unwrap();
        let file = File::open(&path).unwrap();
        assert!(is_open_for_writing(&file));
        drop(writer);
        let _reader = File::open(&path).unwrap();
        assert!(!is_open_for_writing(&file));
        // Nothing of it stays.
        File::create(&path).unwrap();
    }
}
