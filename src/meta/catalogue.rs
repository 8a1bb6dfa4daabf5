//! The catalogue as a file: opening it, closing it, and how a transaction is
//! made durable.
//!
//! What is in it is read in `load.rs` and written in `change.rs`. Whoever
//! holds a [`Catalogue`] has made sure that no other process writes it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rusqlite::{Connection, Transaction};

use super::error::{Error, Result};
use super::lineage::Lineage;
use super::recover;
use super::schema::{self, Found};
use crate::sys::{allocation, node};

/// Without this a look would make the shared-memory file.
const EXCLUSIVE: &str = "PRAGMA locking_mode = EXCLUSIVE;";

/// An open catalogue.
///
/// Every change is one transaction that is durable when the call returns
/// (WAL with `synchronous=FULL`: one fsync), except where a method says
/// otherwise.
#[derive(Debug)]
pub struct Catalogue {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    // The file that is open: `path`, or a copy of it.
    pub(super) opened: PathBuf,
    // How its connections are set up.
    pub(super) pragmas: &'static str,
    // Renewed with the first change; `None` for a catalogue that stands alone.
    pub(super) lineage: Option<Lineage>,
    // The database, for its room. Closed after the connection: closing any
    // descriptor of a file gives up all locks that the process has of it.
    file: Option<File>,
}

/// What the log takes at most, and a bit: it is moved to the database after 64 pages
/// (`wal_autocheckpoint`), and a transaction more is about 30 at most.
const LOG_ROOM: u64 = 384 << 10;
/// What the database may grow by: all that is in the log.
const DATABASE_ROOM: u64 = LOG_ROOM;

impl Catalogue {
    /// Opens the catalogue for writing, makes it if the file is absent or
    /// empty, and brings an older schema up to date.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_or_make(path, &[])
    }

    /// As [`open`](Self::open); when the catalogue is made it has these
    /// settings, key and value, from the first.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open_or_make(path: &Path, settings: &[(&str, String)]) -> Result<Self> {
        // SQLite would let everybody read it; its log takes after it.
        let made = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path);
        let file = made.map_err(|error| Error::System {
            path: path.to_owned(),
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        })?;
        if file.metadata().is_ok_and(|found| found.len() == 0) {
            allocation::overwrite_in_place(&file);
            // Closed again: SQLite takes a log of ours for one only when the
            // database says that it has one.
            Self::open_here(path, settings)?;
        }
        let log = path_of_log(path);
        // Best effort, as in `keep_room`.
        if let Ok(log) = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&log)
        {
            allocation::overwrite_in_place(&log);
        }
        let mut catalogue = Self::open_here(path, settings)?;
        catalogue.file = Some(file);
        Ok(catalogue)
    }

    fn open_here(path: &Path, settings: &[(&str, String)]) -> Result<Self> {
        let mut catalogue = Self::connect(
            path,
            // EXCLUSIVE: the store's lock already keeps others out, and without
            // sharing SQLite needs no shared-memory file, which is one thing
            // less to be lost, or to run out of space.
            "PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA journal_size_limit = 4194304;
             PRAGMA wal_autocheckpoint = 64;",
        )?;
        catalogue.surely(|it| it.prepare(settings))?;
        Ok(catalogue)
    }

    /// Opens a private copy of the catalogue, to look only: nothing is written
    /// beside the original, not even the files that SQLite needs to read it.
    ///
    /// # Errors
    /// [`Error`]; also when the schema is older than this program's, as it
    /// cannot be brought up to date here.
    pub fn open_copy(copy: &Path, original: &Path) -> Result<Self> {
        let mut catalogue = Self::connect(copy, EXCLUSIVE)?;
        original.clone_into(&mut catalogue.path);
        catalogue.surely(|it| it.prepare(&[]))?;
        Ok(catalogue)
    }

    fn connect(path: &Path, pragmas: &'static str) -> Result<Self> {
        Ok(Self {
            connection: recover::connect(path)?,
            path: path.to_owned(),
            opened: path.to_owned(),
            pragmas,
            lineage: None,
            file: None,
        })
    }

    /// Sets the connection up, and brings the schema up to date.
    fn prepare(&mut self, settings: &[(&str, String)]) -> Result<()> {
        self.settings(self.pragmas)?;
        let found = schema::look(&self.connection, &self.path)?;
        schema::migrate(&mut self.connection, &self.path, found, settings)
    }

    pub(super) fn settings(&self, pragmas: &str) -> Result<()> {
        self.connection
            .execute_batch(pragmas)
            .map_err(|e| self.error(&e))
    }

    pub(super) fn error(&self, error: &rusqlite::Error) -> Error {
        Error::of(&self.connection, &self.path, error)
    }

    /// Has space allocated that commits will need, so that they go on when
    /// others have taken all the rest. To be called again as the catalogue grows.
    ///
    /// # Errors
    /// [`Error::System`], with ENOSPC when there is none.
    pub fn keep_room(&self) -> Result<()> {
        let failed = |path: &Path, error: &std::io::Error| Error::System {
            path: path.to_owned(),
            errno: error.raw_os_error().unwrap_or(libc::EIO),
        };
        let Some(database) = &self.file else {
            return Ok(());
        };
        let log = path_of_log(&self.path);
        match OpenOptions::new().write(true).open(&log) {
            Ok(file) => {
                reserve(&file, LOG_ROOM).map_err(|e| failed(&log, &e))?;
            }
            // There is one with the first change.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(&log, &error)),
        }
        self.keep_database_room(database)
            .map_err(|e| failed(&self.path, &e))
    }

    /// SQLite gives back what is beyond the end of the database whenever it has
    /// moved the log into it.
    fn keep_database_room(&self, database: &File) -> std::io::Result<()> {
        let found = database.metadata()?;
        let wanted = found.len() + DATABASE_ROOM;
        if found.blocks() * 512 >= wanted {
            return Ok(());
        }
        reserve(database, wanted)
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes the file with all of it in the database itself and no log left.
    ///
    /// # Errors
    /// [`Error`]; what was committed is in the log then.
    pub fn close(self) -> Result<()> {
        let path = self.path;
        self.connection
            .close()
            .map_err(|(_, e)| Error::sqlite(&path, &e))
    }

    pub(super) fn change(
        &mut self,
        work: impl Fn(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let changed = self.surely(|it| it.attempt(&work));
        changed.map_err(|error| match error {
            // The file was read again and is sound: it is the change.
            Error::Damaged { path, why } => Error::Refused { path, why },
            other => other,
        })
    }

    fn attempt(&mut self, work: &impl Fn(&Transaction<'_>) -> rusqlite::Result<()>) -> Result<()> {
        let token = match &mut self.lineage {
            Some(lineage) => lineage.begin()?,
            None => None,
        };
        let mut run = || {
            let transaction = self.connection.transaction()?;
            work(&transaction)?;
            if let Some(token) = &token {
                Lineage::save(&transaction, token)?;
            }
            transaction.commit()
        };
        let done = run();
        done.map_err(|e| self.error(&e))?;
        if let Some(lineage) = &mut self.lineage {
            lineage.committed();
        }
        if let Some(database) = &self.file
            && let Err(error) = self.keep_database_room(database)
        {
            log::debug!("the catalogue keeps no room: {error}");
        }
        Ok(())
    }

    pub(super) fn change_lazily(
        &mut self,
        work: impl Fn(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<()> {
        // What the file beside the catalogue says must not outlive the commit.
        if self.lineage.as_ref().is_some_and(Lineage::is_due) {
            return self.change(work);
        }
        self.settings("PRAGMA synchronous = NORMAL;")?;
        let result = self.change(work);
        self.settings("PRAGMA synchronous = FULL;")?;
        result
    }

    /// Whether `path` is a file that something was written to.
    #[must_use]
    pub fn exists_as_file(path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0)
    }

    /// Whether there is a catalogue in `path`, as opposed to no file or one
    /// that was never written to.
    ///
    /// # Errors
    /// [`Error`].
    pub fn exists(path: &Path) -> Result<bool> {
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => {
                return Err(Error::System {
                    path: path.to_owned(),
                    errno: error.raw_os_error().unwrap_or(libc::EIO),
                });
            }
            Ok(file) if !file.is_file() => {
                return Err(Error::Damaged {
                    path: path.to_owned(),
                    why: "it is not a file".to_owned(),
                });
            }
            Ok(file) if file.len() == 0 => return Ok(false),
            Ok(_) => {}
        }
        let mut catalogue = Self::connect(path, EXCLUSIVE)?;
        let found = catalogue.surely(|it| {
            it.settings(EXCLUSIVE)?;
            schema::look(&it.connection, path)
        })?;
        Ok(found != Found::Empty)
    }
}

/// SQLite's name for the log of a database.
fn path_of_log(path: &Path) -> PathBuf {
    let mut log = path.to_owned().into_os_string();
    log.push("-wal");
    log.into()
}

/// Allocates the first `bytes` of a file, where the file system can.
fn reserve(file: &File, bytes: u64) -> std::io::Result<()> {
    match node::fallocate(file, libc::FALLOC_FL_KEEP_SIZE, 0, bytes) {
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests;
