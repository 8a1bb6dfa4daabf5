//! The store's lock: one process that writes, or several that only look.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::{Error, Result};
use crate::sys::named_file;

/// The lock, held until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct StoreLock {
    file: File,
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Closing is not enough: flock(2) belongs to the open file, and a child
        // that another thread forks just now has it until it executes its
        // program. So a process that has opened a store must not fork and
        // leave it to the child.
        if let Err(error) = self.file.unlock() {
            log::warn!("cannot unlock the store: {error}");
        }
    }
}

impl StoreLock {
    /// Takes the lock for writing and notes who has it.
    ///
    /// # Errors
    /// [`Error::Locked`]; [`Error::BadStore`] when the lock cannot be written.
    pub(super) fn exclusive(store: &Path, path: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|error| cannot_write(store, path, &error))?;
        take(store, path, &file, file.try_lock())?;
        let lock = Self { file };
        lock.note();
        Ok(lock)
    }

    /// Notes who has it.
    fn note(&self) {
        let mut writer = &self.file;
        let note = format!("{}\n", this_process());
        let written = self
            .file
            .set_len(0)
            .and_then(|()| writer.rewind())
            .and_then(|()| writer.write_all(note.as_bytes()));
        if let Err(error) = written {
            // The note only serves the message of the next one who comes.
            log::warn!("cannot note the holder in the store's lock: {error}");
        }
    }

    /// Goes on with a lock that an earlier process had, by its descriptor.
    pub(super) fn inherited(fd: std::os::fd::OwnedFd) -> Self {
        let lock = Self { file: fd.into() };
        lock.note();
        lock
    }

    /// The descriptor that has the lock.
    pub(super) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.file.as_fd()
    }

    /// Takes the lock for reading, writing nothing. `None` when there is no
    /// lock file: nobody has ever opened this store for writing.
    ///
    /// # Errors
    /// [`Error::Locked`] when somebody writes.
    pub(super) fn shared(store: &Path, path: &Path) -> Result<Option<Self>> {
        let file = match named_file::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::unusable(store, path, &error)),
        };
        take(store, path, &file, file.try_lock_shared())?;
        Ok(Some(Self { file }))
    }
}

fn take(
    store: &Path,
    path: &Path,
    file: &File,
    result: std::result::Result<(), TryLockError>,
) -> Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::Locked {
            store: store.to_owned(),
            holder: holder(file),
        }),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path, &error)),
    }
}

/// The note in the lock file. A reader leaves none, and the note of an earlier
/// writer may still be there: a process that is gone is not named.
fn holder(file: &File) -> String {
    let mut note = String::new();
    let read = file.take(256).read_to_string(&mut note);
    let note = note.trim();
    let pid = note
        .strip_prefix("pid ")
        .and_then(|rest| rest.split(' ').next())
        .and_then(|pid| pid.parse::<u32>().ok());
    match (read, pid) {
        (Ok(_), Some(pid)) if pid == std::process::id() => {
            format!("{note}, which is this process itself: it has it open, or files of it")
        }
        (Ok(_), Some(pid)) if Path::new(&format!("/proc/{pid}")).exists() => note.to_owned(),
        _ => "another process".to_owned(),
    }
}

fn this_process() -> String {
    let pid = std::process::id();
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    format!("pid {pid} ({})", comm.trim())
}

fn cannot_write(store: &Path, path: &Path, error: &io::Error) -> Error {
    let why = match error.raw_os_error() {
        Some(libc::EROFS) => {
            "its file system is read-only; remount it read-write, or open the store with --read-only"
        }
        Some(libc::EACCES | libc::EPERM) => {
            "it cannot be written by this user; become its owner or root, or choose a store of your own with --store"
        }
        _ => return Error::io("open", path, error),
    };
    Error::BadStore {
        store: store.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_ends_with_its_holder_and_not_with_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let lock = StoreLock::exclusive(dir.path(), &path).unwrap();
        // As a child has it between fork and exec.
        let copy = lock.file.try_clone().unwrap();
        let refused = StoreLock::exclusive(dir.path(), &path).unwrap_err();
        let Error::Locked { holder, .. } = refused else {
            panic!("{refused:?}");
        };
        assert!(holder.starts_with(&this_process()), "{holder}");
        assert!(holder.contains("this process itself"), "{holder}");
        drop(lock);
        drop(StoreLock::shared(dir.path(), &path).unwrap());
        drop(copy);
        // A reader leaves the note of the last writer; a pid that is gone is
        // not blamed.
        std::fs::write(&path, "pid 4194999 (gone)\n").unwrap();
        let _reader = StoreLock::shared(dir.path(), &path).unwrap();
        let refused = StoreLock::exclusive(dir.path(), &path).unwrap_err();
        assert!(refused.to_string().contains("another process"), "{refused}");
    }
}
