//! Everything that is ever written to the catalogue, each thing one
//! transaction.

use rusqlite::{Transaction, params};

use super::catalogue::Catalogue;
use super::error::Result;
use super::row::{ContentsId, State, VolumeRow, sql};
use super::schema::{self, UNIT_KEY};
use crate::model::{AllocationUnit, Labels, Serial, Timestamp, Usage, VolumeName};

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
    /// Adds volumes, all or none.
    ///
    /// # Errors
    /// [`Error`](super::Error).
    pub fn insert<'a>(&mut self, rows: impl IntoIterator<Item = &'a VolumeRow>) -> Result<()> {
        let rows: Vec<_> = rows.into_iter().collect();
        self.change(|transaction| {
            for &row in &rows {
                insert(transaction, row)?;
            }
            Ok(())
        })
    }

    /// Puts these rows in the place of all that there are.
    ///
    /// # Errors
    /// [`Error`](super::Error).
    pub fn replace_all(&mut self, rows: &[VolumeRow]) -> Result<()> {
        self.change(|transaction| {
            transaction.execute("DELETE FROM volume", [])?;
            for row in rows {
                insert(transaction, row)?;
            }
            Ok(())
        })
    }

    /// Saves by what the contents of volumes are known, and what has become
    /// doubtful with them: whether usage is clean and images are trusted.
    ///
    /// # Errors
    /// [`Error`](super::Error).
    pub fn save_contents<'a>(
        &mut self,
        rows: impl IntoIterator<Item = &'a VolumeRow>,
    ) -> Result<()> {
        let rows: Vec<_> = rows.into_iter().collect();
        self.change(|transaction| {
            let mut statement = transaction.prepare_cached(
                "UPDATE volume SET contents_inode = ?2, contents_born = ?3, usage_clean = ?4, \
                 guest_written = ?5 WHERE serial = ?1",
            )?;
            for row in &rows {
                statement.execute(params![
                    row.serial.0,
                    inode(row.contents),
                    row.contents.and_then(|contents| contents.born),
                    row.usage_clean,
                    row.disk.is_some_and(|disk| disk.guest_written),
                ])?;
            }
            Ok(())
        })
    }

    /// Gives a volume another name.
    ///
    /// # Errors
    /// [`Error`](super::Error).
    pub fn rename(&mut self, serial: Serial, name: &VolumeName, now: Timestamp) -> Result<()> {
        self.change(|transaction| set_name(transaction, serial, name.as_str(), now))
    }

    /// Exchanges the names of two live volumes.
    ///
    /// # Errors
    /// [`Error`](super::Error).
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
    /// [`Error`](super::Error).
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

    /// A volume takes the name of a live one, which moves on to `state`; both
    /// or neither.
    ///
    /// # Errors
    /// [`Error`](super::Error).
    pub fn replace(
        &mut self,
        leaves: Serial,
        state: State,
        comes: &VolumeRow,
        now: Timestamp,
    ) -> Result<()> {
        self.change(|transaction| {
            transaction
                .prepare_cached(
                    "UPDATE volume SET state = ?2, trashed = ?3, updated = ?3 WHERE serial = ?1",
                )?
                .execute(params![leaves.0, state.text(), now.as_nanos()])?;
            insert(transaction, comes)
        })
    }

    /// Saves limits, labels, the pin and the disk of a volume.
    ///
    /// # Errors
    /// [`Error`](super::Error).
    pub fn save_settings(&mut self, row: &VolumeRow) -> Result<()> {
        self.change(|transaction| {
            transaction
                .prepare_cached(
                    "UPDATE volume SET quota_bytes = ?2, quota_inodes = ?3, pinned = ?4, \
                     updated = ?5, size_bytes = ?6, guest_written = ?7, \
                     read_only = ?8, trash_files = ?9, manifest_current = 0 WHERE serial = ?1",
                )?
                .execute(params![
                    row.serial.0,
                    row.limits.bytes.map(|bytes| sql(bytes.0)),
                    row.limits.inodes.map(sql),
                    row.pinned,
                    row.updated.as_nanos(),
                    row.disk.map(|disk| sql(disk.size.0)),
                    row.disk.is_some_and(|disk| disk.guest_written),
                    row.read_only,
                    row.trash_files.map(|bytes| sql(bytes.0)),
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
    /// [`Error`](super::Error).
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
    /// [`Error`](super::Error).
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
    /// [`Error`](super::Error).
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

    /// Says whose a volume is.
    ///
    /// # Errors
    /// [`Error`](super::Error).
    pub fn set_owner(&mut self, serial: Serial, user: u32) -> Result<()> {
        self.change(|transaction| {
            transaction
                .prepare_cached(
                    "UPDATE volume SET owner = ?2, manifest_current = 0 WHERE serial = ?1",
                )?
                .execute(params![serial.0, user])?;
            Ok(())
        })
    }

    /// Saves a setting of the store.
    ///
    /// # Errors
    /// [`Error`](super::Error).
    pub fn set_setting(&mut self, key: &str, value: &str) -> Result<()> {
        self.change(|transaction| set_setting(transaction, key, value))
    }

    /// As [`set_setting`](Self::set_setting), and keeps programs of earlier
    /// versions from the catalogue from now on: it may come to hold what they
    /// cannot read.
    ///
    /// # Errors
    /// [`Error`](super::Error).
    pub fn set_setting_of_this_version(&mut self, key: &str, value: &str) -> Result<()> {
        self.change(|transaction| {
            schema::require_this_version(transaction)?;
            set_setting(transaction, key, value)
        })
    }

    /// Notes that usage is counted in units of `unit` from now on: that of every
    /// directory volume is to be counted again.
    ///
    /// # Errors
    /// [`Error`](super::Error).
    pub fn change_unit(&mut self, unit: AllocationUnit) -> Result<()> {
        self.change(|transaction| {
            transaction.execute(
                "INSERT INTO setting (key, value) VALUES (?1, ?2) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                params![UNIT_KEY, unit.bytes().to_string()],
            )?;
            transaction.execute(
                "UPDATE volume SET usage_clean = 0 WHERE kind = 'directory'",
                [],
            )?;
            Ok(())
        })
    }

    /// Says that the copies of these rows beside the volumes' files are up to
    /// date on disk. Not durable at once.
    ///
    /// # Errors
    /// [`Error`](super::Error).
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
}

fn insert(transaction: &Transaction<'_>, row: &VolumeRow) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO volume (serial, id, slot, name, kind, state, quota_bytes, quota_inodes, \
         size_bytes, disk_format, disk_fstype, guest_written, pinned, orphan, created, updated, \
         trashed, used_bytes, used_inodes, usage_clean, manifest_current, read_only, owner, \
         contents_inode, contents_born, trash_files) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \
         ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26)",
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
        row.read_only,
        row.owner,
        inode(row.contents),
        row.contents.and_then(|contents| contents.born),
        row.trash_files.map(|bytes| sql(bytes.0)),
    ])?;
    insert_labels(transaction, row.serial, &row.labels)
}

fn inode(contents: Option<ContentsId>) -> Option<i64> {
    contents.map(|contents| contents.inode.cast_signed())
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

fn set_setting(transaction: &Transaction<'_>, key: &str, value: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO setting (key, value) VALUES (?1, ?2) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )?
        .execute(params![key, value])?;
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
