//! The schema of the catalogue: its versions, and how an old one is brought
//! up to date.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::error::{Error, Result};

/// The key in the table `setting` of the unit that usage was counted in, which
/// nobody sets; 4 KiB where it is missing.
pub(super) const UNIT_KEY: &str = "place.allocation-unit";

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
    // Directories are charged their sizes; they were charged 4 KiB each. What is
    // not known to be exact is counted before it grows.
    "
UPDATE volume SET usage_clean = 0 WHERE kind = 'directory';
",
    // When the names of live volumes last changed, in nanoseconds since the epoch:
    // the time of the mount's root. Kept by the database, so that programs before this
    // keep it as well.
    "
CREATE TABLE names (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    changed INTEGER NOT NULL
) STRICT;
INSERT INTO names
    SELECT 1, coalesce(max(updated), CAST(unixepoch('subsec') * 1000 AS INTEGER) * 1000000)
    FROM volume;
CREATE TRIGGER name_came AFTER INSERT ON volume WHEN new.state = 'live'
BEGIN UPDATE names SET changed = new.updated; END;
CREATE TRIGGER name_changed AFTER UPDATE OF name, state ON volume
WHEN (old.state = 'live') <> (new.state = 'live')
    OR new.state = 'live' AND old.name <> new.name
BEGIN UPDATE names SET changed = new.updated; END;
",
    // Volumes whose contents nobody changes. Programs before this would let everybody.
    "
ALTER TABLE volume ADD COLUMN read_only INTEGER NOT NULL DEFAULT 0 CHECK (read_only IN (0, 1));
",
    // The user id that a volume counts against; unknown for those that are there.
    "
ALTER TABLE volume ADD COLUMN owner INTEGER CHECK (owner BETWEEN 0 AND 4294967295);
",
    // By which inode a volume's contents are known again, and what ties the
    // catalogue to its store.
    "
ALTER TABLE volume ADD COLUMN contents_inode INTEGER;
ALTER TABLE volume ADD COLUMN contents_born INTEGER;
CREATE TABLE identity (
    key   TEXT PRIMARY KEY CHECK (key <> ''),
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
",
    // How many bytes of removed files a volume keeps. Programs before this keep none.
    "
ALTER TABLE volume ADD COLUMN trash_files INTEGER CHECK (trash_files > 0);
",
];

/// The first version whose programs can use a catalogue of the last: it has all
/// that they know, and nothing that they must say. A live upgrade to a program of
/// the last one has a way back to these. To be raised by a step that adds more
/// than tables, and columns with a default, or changes what the values mean. Programs
/// before 5 would write to volumes that are read-only.
const USABLE_BY: u32 = 5;

/// In the file the version is the lower half of `user_version`, and by which it
/// can be used the upper; 0 there is no other.
const VERSION_BITS: u32 = 16;

/// A step after the last, in tests of upgrades: `VOLFS_TEST_SCHEMA` is the version
/// whose programs can still use the catalogue then.
#[cfg(feature = "failpoints")]
fn of_test() -> Option<(&'static str, u32)> {
    let usable_by = std::env::var("VOLFS_TEST_SCHEMA").ok()?.parse().ok()?;
    let step = "CREATE TABLE of_test (x INTEGER) STRICT;";
    Some((step, usable_by))
}

#[cfg(not(feature = "failpoints"))]
fn of_test() -> Option<(&'static str, u32)> {
    None
}

/// What a database file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing has been written to it.
    Empty,
    /// A catalogue of this version, which this program can use when it has taken
    /// the steps that are missing; a later one as it is.
    Version(u32),
}

/// Looks at the file without changing it.
pub(super) fn look(connection: &Connection, path: &Path) -> Result<Found> {
    let sqlite = |error| Error::of(connection, path, &error);
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
    let word = u32::try_from(version).map_err(|_| Error::Damaged {
        path: path.to_owned(),
        why: format!("its schema version is {version}"),
    })?;
    let version = word & ((1 << VERSION_BITS) - 1);
    let usable_by = match word >> VERSION_BITS {
        0 => version,
        first => first,
    };
    if usable_by > known() {
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
    let steps = STEPS.len() + usize::from(of_test().is_some());
    // The list above is short; it cannot reach 2^32 steps.
    u32::try_from(steps).unwrap_or(u32::MAX)
}

/// `user_version` of a catalogue.
fn word_of(version: u32, usable_by: Option<u32>) -> u32 {
    version | usable_by.unwrap_or(USABLE_BY) << VERSION_BITS
}

/// Takes the steps from `found` to the known version, all in one transaction. A
/// catalogue that is new has these settings.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    found: Found,
    settings: &[(&str, String)],
) -> Result<()> {
    let from = match found {
        Found::Empty => 0,
        Found::Version(version) => version,
    };
    if from >= known() {
        return Ok(());
    }
    let (more, usable_by) = of_test().unzip();
    let mut take = || -> rusqlite::Result<()> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for step in STEPS.iter().chain(&more).skip(from as usize) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", word_of(known(), usable_by))?;
        if found == Found::Empty {
            for (key, value) in settings {
                let text = "INSERT INTO setting (key, value) VALUES (?1, ?2)";
                transaction.execute(text, params![key, value])?;
            }
            if !settings.is_empty() {
                require_this_version(&transaction)?;
            }
        }
        transaction.commit()
    };
    let taken = take();
    taken.map_err(|error| Error::of(connection, path, &error))
}

/// Keeps programs that do not know this version from the catalogue.
pub(super) fn require_this_version(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let word: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let version = word & ((1 << VERSION_BITS) - 1);
    let usable_by = (word >> VERSION_BITS).max(known().min(version));
    transaction.pragma_update(None, "user_version", word_of(version, Some(usable_by)))
}
