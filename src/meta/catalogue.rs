//! The catalogue: one SQLite file, one connection, one transaction for each
//! change of a volume's life.
//!
//! Knows nothing of directories; whoever holds a [`Catalogue`] has made sure
//! that no other process writes it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, params};

use super::error::{Error, Result};
use super::row::{self, State, VolumeRow, sql};
use super::schema::{self, Found};
use crate::model::{Labels, Serial, Timestamp, Usage, VolumeName};

/// An open catalogue.
///
/// Every change is one transaction that is durable when the call returns
/// (WAL with `synchronous=FULL`: one fsync), except where a method says
/// otherwise.
#[derive(Debug)]
pub struct Catalogue {
    connection: Connection,
    path: PathBuf,
}

/// The usage of a volume to be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// The volume.
    pub serial: Serial,
    /// What it holds.
    pub used: Usage,
    /// Whether that is exact and nothing will change without
    /// [`Catalogue::mark_usage_dirty`].
    pub clean: bool,
}

impl Catalogue {
    /// Opens the catalogue for writing, makes it if the file is absent or
    /// empty, and brings an older schema up to date.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut catalogue = Self::connect(path, flags)?;
        catalogue.settings(
            // EXCLUSIVE: the store's lock already keeps others out, and without
            // sharing SQLite needs no shared-memory file, which is one thing
            // less to be lost, or to run out of space.
            "PRAGMA locking_mode = EXCLUSIVE;
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA journal_size_limit = 4194304;",
        )?;
        let found = schema::look(&catalogue.connection, path)?;
        schema::migrate(&mut catalogue.connection, path, found)?;
        Ok(catalogue)
    }

    /// Opens a private copy of the catalogue, to look only: nothing is written
    /// beside the original, not even the files that SQLite needs to read it.
    ///
    /// # Errors
    /// [`Error`]; also when the schema is older than this program's, as it
    /// cannot be brought up to date here.
    pub fn open_copy(copy: &Path, original: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut catalogue = Self::connect(copy, flags)?;
        original.clone_into(&mut catalogue.path);
        catalogue.settings("PRAGMA locking_mode = EXCLUSIVE;")?;
        let found = schema::look(&catalogue.connection, original)?;
        schema::migrate(&mut catalogue.connection, original, found)?;
        Ok(catalogue)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self> {
        let connection =
            Connection::open_with_flags(path, flags).map_err(|e| Error::sqlite(path, &e))?;
        connection
            .busy_timeout(Duration::from_secs(2))
            .map_err(|e| Error::sqlite(path, &e))?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
    }

    fn settings(&self, pragmas: &str) -> Result<()> {
        self.connection
            .execute_batch(pragmas)
            .map_err(|e| self.error(&e))
    }

    fn error(&self, error: &rusqlite::Error) -> Error {
        Error::sqlite(&self.path, error)
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All volumes in order of creation. Reads and checks the whole file.
    ///
    /// # Errors
    /// [`Error::Damaged`] for what SQLite finds corrupt and for a value that
    /// this program does not know, with table, id and value.
    pub fn load(&self) -> Result<Vec<VolumeRow>> {
        // Rows first: what is wrong with one is better said by its column
        // than by the check of the file.
        let mut rows = self.load_rows()?;
        self.load_labels(&mut rows)?;
        let verdict: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|e| self.error(&e))?;
        if verdict == "ok" {
            Ok(rows)
        } else {
            Err(self.damaged(verdict))
        }
    }

    fn load_rows(&self) -> Result<Vec<VolumeRow>> {
        let text = format!("SELECT {} FROM volume ORDER BY serial", row::COLUMNS);
        let mut statement = self.connection.prepare(&text).map_err(|e| self.error(&e))?;
        let mut found = statement.query([]).map_err(|e| self.error(&e))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next().map_err(|e| self.error(&e))? {
            rows.push(row::read(row).map_err(|why| self.damaged(why))?);
        }
        Ok(rows)
    }

    fn load_labels(&self, rows: &mut [VolumeRow]) -> Result<()> {
        let mut statement = self
            .connection
            .prepare("SELECT serial, key, value FROM label ORDER BY serial, position")
            .map_err(|e| self.error(&e))?;
        let mut found = statement.query([]).map_err(|e| self.error(&e))?;
        while let Some(label) = found.next().map_err(|e| self.error(&e))? {
            let read = || -> rusqlite::Result<(i64, String, String)> {
                Ok((label.get(0)?, label.get(1)?, label.get(2)?))
            };
            let (serial, key, value) = read().map_err(|e| self.error(&e))?;
            let Ok(place) = rows.binary_search_by_key(&Serial(serial), |row| row.serial) else {
                return Err(self.damaged(format!(
                    "table label, serial {serial}, key {key:?}: no such volume"
                )));
            };
            rows[place].labels.set(key, value);
        }
        Ok(())
    }

    fn damaged(&self, why: String) -> Error {
        Error::Damaged {
            path: self.path.clone(),
            why,
        }
    }

    /// The highest serial that was ever given to a volume, 0 at first.
    ///
    /// # Errors
    /// [`Error`].
    pub fn last_serial(&self) -> Result<Serial> {
        self.connection
            .query_row(
                "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'volume'",
                [],
                |row| row.get(0).map(Serial),
            )
            .map_err(|e| self.error(&e))
    }

    /// Adds volumes, all or none.
    ///
    /// # Errors
    /// [`Error`].
    pub fn insert<'a>(&mut self, rows: impl IntoIterator<Item = &'a VolumeRow>) -> Result<()> {
        self.change(|transaction| {
            for row in rows {
                insert(transaction, row)?;
            }
            Ok(())
        })
    }

    /// Gives a volume another name.
    ///
    /// # Errors
    /// [`Error`].
    pub fn rename(&mut self, serial: Serial, name: &VolumeName, now: Timestamp) -> Result<()> {
        self.change(|transaction| set_name(transaction, serial, name.as_str(), now))
    }

    /// Exchanges the names of two live volumes.
    ///
    /// # Errors
    /// [`Error`].
    pub fn exchange(
        &mut self,
        a: (Serial, &VolumeName),
        b: (Serial, &VolumeName),
        now: Timestamp,
    ) -> Result<()> {
        self.change(|transaction| {
            // Not a volume name, so nobody has it.
            set_name(transaction, a.0, ".", now)?;
            set_name(transaction, b.0, a.1.as_str(), now)?;
            set_name(transaction, a.0, b.1.as_str(), now)
        })
    }

    /// Moves volumes on in their life, all or none. Coming back to life needs
    /// a name that no live volume has.
    ///
    /// # Errors
    /// [`Error`].
    pub fn set_state(
        &mut self,
        serials: &[Serial],
        state: State,
        name: Option<&VolumeName>,
        now: Timestamp,
    ) -> Result<()> {
        let trashed = (state != State::Live).then_some(now.as_nanos());
        self.change(|transaction| {
            let mut statement = transaction.prepare_cached(
                "UPDATE volume SET state = ?2, name = coalesce(?3, name), trashed = ?4, \
                 updated = ?5, orphan = orphan AND ?2 <> 'live', \
                 manifest_current = manifest_current AND ?3 IS NULL WHERE serial = ?1",
            )?;
            for serial in serials {
                let name = name.map(VolumeName::as_str);
                statement.execute(params![
                    serial.0,
                    state.text(),
                    name,
                    trashed,
                    now.as_nanos()
                ])?;
            }
            Ok(())
        })
    }

    /// Saves limits, labels and the pin of a volume.
    ///
    /// # Errors
    /// [`Error`].
    pub fn save_settings(&mut self, row: &VolumeRow) -> Result<()> {
        self.change(|transaction| {
            transaction
                .prepare_cached(
                    "UPDATE volume SET quota_bytes = ?2, quota_inodes = ?3, pinned = ?4, \
                     updated = ?5, manifest_current = 0 WHERE serial = ?1",
                )?
                .execute(params![
                    row.serial.0,
                    row.limits.bytes.map(|bytes| sql(bytes.0)),
                    row.limits.inodes.map(sql),
                    row.pinned,
                    row.updated.as_nanos(),
                ])?;
            transaction
                .prepare_cached("DELETE FROM label WHERE serial = ?1")?
                .execute([row.serial.0])?;
            insert_labels(transaction, row.serial, &row.labels)
        })
    }

    /// Takes volumes off, with their labels. Not durable at once: after a
    /// power failure the rows may be there again, in the state they had.
    ///
    /// # Errors
    /// [`Error`].
    pub fn forget(&mut self, serials: &[Serial]) -> Result<()> {
        self.change_lazily(|transaction| {
            let mut statement =
                transaction.prepare_cached("DELETE FROM volume WHERE serial = ?1")?;
            for serial in serials {
                statement.execute([serial.0])?;
            }
            Ok(())
        })
    }

    /// Says that the usage of a volume is about to change.
    ///
    /// # Errors
    /// [`Error`].
    pub fn mark_usage_dirty(&mut self, serial: Serial) -> Result<()> {
        self.change(|transaction| {
            transaction
                .prepare_cached("UPDATE volume SET usage_clean = 0 WHERE serial = ?1")?
                .execute([serial.0])?;
            Ok(())
        })
    }

    /// Saves the usage of volumes in one transaction. Not durable at once
    /// (`synchronous=NORMAL`): after a power failure the volumes are dirty as
    /// they were before.
    ///
    /// # Errors
    /// [`Error`].
    pub fn save_usage(&mut self, usages: &[UsageRow]) -> Result<()> {
        self.change_lazily(|transaction| {
            let mut statement = transaction.prepare_cached(
                "UPDATE volume SET used_bytes = ?2, used_inodes = ?3, usage_clean = ?4 \
                 WHERE serial = ?1",
            )?;
            for usage in usages {
                statement.execute(params![
                    usage.serial.0,
                    sql(usage.used.bytes.0),
                    sql(usage.used.inodes),
                    usage.clean,
                ])?;
            }
            Ok(())
        })
    }

    /// Says that the copies of these rows beside the volumes' files are up to
    /// date on disk. Not durable at once.
    ///
    /// # Errors
    /// [`Error`].
    pub fn manifests_are_current(&mut self, serials: &[Serial]) -> Result<()> {
        self.change_lazily(|transaction| {
            let mut statement = transaction
                .prepare_cached("UPDATE volume SET manifest_current = 1 WHERE serial = ?1")?;
            for serial in serials {
                statement.execute([serial.0])?;
            }
            Ok(())
        })
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

    fn change(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<()> {
        let run = || {
            let transaction = self.connection.transaction()?;
            work(&transaction)?;
            transaction.commit()
        };
        run().map_err(|e| Error::sqlite(&self.path, &e))
    }

    fn change_lazily(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<()> {
        self.settings("PRAGMA synchronous = NORMAL;")?;
        let result = self.change(work);
        self.settings("PRAGMA synchronous = FULL;")?;
        result
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
            Ok(file) if file.len() == 0 => return Ok(false),
            Ok(_) => {}
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let catalogue = Self::connect(path, flags)?;
        // Without this the look would make the shared-memory file.
        catalogue.settings("PRAGMA locking_mode = EXCLUSIVE;")?;
        Ok(schema::look(&catalogue.connection, path)? != Found::Empty)
    }
}

fn insert(transaction: &Transaction<'_>, row: &VolumeRow) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO volume (serial, id, slot, name, kind, state, quota_bytes, quota_inodes, \
         size_bytes, disk_format, disk_fstype, guest_written, pinned, orphan, created, updated, \
         trashed, used_bytes, used_inodes, usage_clean, manifest_current) VALUES \
         (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, \
         ?20, ?21)",
    )?;
    statement.execute(params![
        row.serial.0,
        row.id.to_string(),
        row.slot.get(),
        row.name.as_str(),
        row.kind.to_string(),
        row.state.text(),
        row.limits.bytes.map(|bytes| sql(bytes.0)),
        row.limits.inodes.map(sql),
        row.disk.map(|disk| sql(disk.size.0)),
        row.disk.map(|disk| disk.format.to_string()),
        row.disk.map(|disk| disk.fstype.to_string()),
        row.disk.is_some_and(|disk| disk.guest_written),
        row.pinned,
        row.orphan,
        row.created.as_nanos(),
        row.updated.as_nanos(),
        row.trashed.map(Timestamp::as_nanos),
        sql(row.used.bytes.0),
        sql(row.used.inodes),
        row.usage_clean,
        row.manifest_current,
    ])?;
    insert_labels(transaction, row.serial, &row.labels)
}

fn insert_labels(
    transaction: &Transaction<'_>,
    serial: Serial,
    labels: &Labels,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO label (serial, position, key, value) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (position, (key, value)) in (0_i64..).zip(labels.iter()) {
        statement.execute(params![serial.0, position, key, value])?;
    }
    Ok(())
}

fn set_name(
    transaction: &Transaction<'_>,
    serial: Serial,
    name: &str,
    now: Timestamp,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE volume SET name = ?2, updated = ?3, manifest_current = 0 WHERE serial = ?1",
        )?
        .execute(params![serial.0, name, now.as_nanos()])?;
    Ok(())
}

#[cfg(test)]
mod tests;
