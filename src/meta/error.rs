//! What can go wrong with the catalogue, told apart by what can be done.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

use crate::sys::sqlite::last_errno;

/// Why the catalogue could not be read or written. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is no database, is corrupt, or holds what this version does
    /// not understand.
    #[error("{path:?}: {why}")]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What SQLite or the check of a row said.
        why: String,
    },
    /// The file is sound, and a change of it is refused all the same: a fault of
    /// this program.
    #[error("{path:?}: {why}")]
    Refused {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        why: String,
    },
    /// Written by a later version.
    #[error("{path:?} has schema version {found}, this program knows up to {known}")]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
        /// The highest version known.
        known: u32,
    },
    /// Somebody who does not hold the store's lock has the file open.
    #[error("{path:?} is locked by another program")]
    Busy {
        /// The database file.
        path: PathBuf,
    },
    /// The system refused a read or write.
    #[error("{path:?}: os error {errno}")]
    System {
        /// The database file.
        path: PathBuf,
        /// The nearest system error number.
        errno: i32,
    },
}

/// The result of an operation on the catalogue.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the system may refuse a file that is there.
const REASONS: [i32; 11] = [
    libc::EACCES,
    libc::EPERM,
    libc::EROFS,
    libc::EMFILE,
    libc::ENFILE,
    libc::ENOMEM,
    libc::ENOSPC,
    libc::EDQUOT,
    libc::EFBIG,
    libc::EIO,
    libc::ESTALE,
];

impl Error {
    /// As [`sqlite`](Self::sqlite), with the system's own error number, which
    /// the connection remembers.
    pub(super) fn of(connection: &Connection, path: &Path, error: &rusqlite::Error) -> Self {
        let error = Self::sqlite(path, error);
        // SQLite tries other ways after a failure, and remembers theirs: that a
        // file it need not have is missing is no reason.
        let reason = last_errno(connection).filter(|errno| REASONS.contains(errno));
        match (error, reason) {
            (Self::System { path, .. }, Some(errno)) => Self::System { path, errno },
            (error, _) => error,
        }
    }

    pub(super) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        let system = |errno| Self::System {
            path: path.clone(),
            errno,
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => system(libc::ENOSPC),
            Some(ErrorCode::ReadOnly) => system(libc::EROFS),
            Some(ErrorCode::PermissionDenied) => system(libc::EACCES),
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => system(libc::EIO),
            Some(ErrorCode::OutOfMemory) => system(libc::ENOMEM),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            // Corrupt, not a database, a type or constraint that cannot be
            // ours: all are a file that is not what this program writes.
            _ => Self::Damaged {
                path,
                why: error.to_string(),
            },
        }
    }
}
