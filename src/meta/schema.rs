//! The schema of the catalogue: its versions, and how an old one is brought
//! up to date.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::error::{Error, Result};

/// "volf": tells `file` and us that a SQLite file is a catalogue.
pub(super) const APPLICATION_ID: i32 = 0x766f_6c66;

/// Step N brings version N to version N + 1. Only ever add to the end.
///
/// `kind`, `disk_format` and `disk_fstype` have no list of values here: which
/// ones a program knows is checked when it reads a row.
pub(super) const STEPS: &[&str] = &[
    "
CREATE TABLE volume (
    serial           INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT    NOT NULL UNIQUE CHECK (length(id) = 32),
    slot             INTEGER NOT NULL UNIQUE CHECK (slot BETWEEN 1 AND 8388607),
    name             TEXT    NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    kind             TEXT    NOT NULL,
    state            TEXT    NOT NULL CHECK (state IN ('live', 'trash', 'purging', 'rmdir')),
    quota_bytes      INTEGER CHECK (quota_bytes > 0),
    quota_inodes     INTEGER CHECK (quota_inodes > 0),
    size_bytes       INTEGER CHECK (size_bytes > 0),
    disk_format      TEXT,
    disk_fstype      TEXT,
    guest_written    INTEGER NOT NULL DEFAULT 0 CHECK (guest_written IN (0, 1)),
    pinned           INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
    orphan           INTEGER NOT NULL DEFAULT 0 CHECK (orphan IN (0, 1)),
    created          INTEGER NOT NULL,
    updated          INTEGER NOT NULL,
    trashed          INTEGER,
    used_bytes       INTEGER NOT NULL DEFAULT 0 CHECK (used_bytes >= 0),
    used_inodes      INTEGER NOT NULL DEFAULT 0 CHECK (used_inodes >= 0),
    usage_clean      INTEGER NOT NULL DEFAULT 0 CHECK (usage_clean IN (0, 1)),
    manifest_current INTEGER NOT NULL DEFAULT 0 CHECK (manifest_current IN (0, 1)),
    CHECK ((state = 'live') = (trashed IS NULL)),
    CHECK ((kind = 'disk') = (size_bytes IS NOT NULL)),
    CHECK ((size_bytes IS NULL) = (disk_format IS NULL)),
    CHECK ((size_bytes IS NULL) = (disk_fstype IS NULL)),
    CHECK (size_bytes IS NULL OR (quota_bytes IS NULL AND quota_inodes IS NULL))
) STRICT;
CREATE UNIQUE INDEX volume_live_name ON volume (name) WHERE state = 'live';
CREATE TABLE label (
    serial   INTEGER NOT NULL REFERENCES volume (serial) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    key      TEXT    NOT NULL CHECK (key <> ''),
    value    TEXT    NOT NULL,
    PRIMARY KEY (serial, position),
    UNIQUE (serial, key)
) STRICT, WITHOUT ROWID;
",
    "
CREATE TABLE setting (
    key   TEXT PRIMARY KEY CHECK (key <> ''),
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
",
];

/// What a database file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing has been written to it.
    Empty,
    /// A catalogue of this version.
    Version(u32),
}

/// Looks at the file without changing it.
pub(super) fn look(connection: &Connection, path: &Path) -> Result<Found> {
    let sqlite = |error| Error::sqlite(path, &error);
    let pragma = |name: &str| -> Result<i32> {
        connection
            .pragma_query_value(None, name, |row| row.get(0))
            .map_err(sqlite)
    };
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: u32 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(sqlite)?;
    if application == 0 && version == 0 && tables == 0 {
        return Ok(Found::Empty);
    }
    if application != APPLICATION_ID {
        return Err(Error::Damaged {
            path: path.to_owned(),
            why: format!(
                "it is a SQLite database of another program (application id {application:#x})"
            ),
        });
    }
    let version = u32::try_from(version).map_err(|_| Error::Damaged {
        path: path.to_owned(),
        why: format!("its schema version is {version}"),
    })?;
    if version > known() {
        return Err(Error::Newer {
            path: path.to_owned(),
            found: version,
            known: known(),
        });
    }
    Ok(Found::Version(version))
}

/// The version that this program writes.
pub(super) fn known() -> u32 {
    // The list above is short; it cannot reach 2^32 steps.
    u32::try_from(STEPS.len()).unwrap_or(u32::MAX)
}

/// Takes the steps from `found` to the known version, all in one transaction.
pub(super) fn migrate(connection: &mut Connection, path: &Path, found: Found) -> Result<()> {
    let from = match found {
        Found::Empty => 0,
        Found::Version(version) => version,
    };
    if from == known() {
        return Ok(());
    }
    let sqlite = |error| Error::sqlite(path, &error);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sqlite)?;
    for step in STEPS.iter().skip(from as usize) {
        transaction.execute_batch(step).map_err(sqlite)?;
    }
    transaction
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(sqlite)?;
    transaction
        .pragma_update(None, "user_version", known())
        .map_err(sqlite)?;
    transaction.commit().map_err(sqlite)
}
