//! A volume as the catalogue has it: typed rows, checked when they are read.

use std::str::FromStr;

use rusqlite::Row;
use rusqlite::types::Value;

use crate::model::{
    Bytes, DiskFormat, DiskFsType, Kind, Labels, Limits, Serial, Slot, Timestamp, Usage, VolumeId,
    VolumeName,
};

/// Where a volume is in its life. Its directory belongs where its state says;
/// after a crash the directory is moved there, never the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// In `volumes/`, with a name that no other live volume has.
    Live,
    /// In `trash/`, can be restored.
    Trash,
    /// In `trash/`, being deleted with all that it holds.
    Purging,
    /// In `trash/`, being deleted if it is empty; a volume into which somebody
    /// raced a file goes to the trash instead.
    Rmdir,
}

impl State {
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Trash => "trash",
            Self::Purging => "purging",
            Self::Rmdir => "rmdir",
        }
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Live, Self::Trash, Self::Purging, Self::Rmdir]
            .into_iter()
            .find(|state| state.text() == text)
            .ok_or_else(|| format!("{text:?} is not a volume state"))
    }
}

/// What only a disk volume has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRow {
    /// Capacity.
    pub size: Bytes,
    /// Layout of the image.
    pub format: DiskFormat,
    /// File system in the image.
    pub fstype: DiskFsType,
    /// Whether a guest may have written the image: it is not trusted then.
    pub guest_written: bool,
}

/// Tells the root directory or the image of a volume from any other that may
/// be found in its place: a copy has another inode, or was born later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentsId {
    /// Inode number.
    pub inode: u64,
    /// Time of birth in nanoseconds since 1970; absent where the file system
    /// does not tell.
    pub born: Option<i64>,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeRow {
    /// Order of creation; never used twice.
    pub serial: Serial,
    /// Identity, and the name of its directory.
    pub id: VolumeId,
    /// Place in the node id space.
    pub slot: Slot,
    /// Name; unique among live volumes.
    pub name: VolumeName,
    /// Kind.
    pub kind: Kind,
    /// Where it is in its life.
    pub state: State,
    /// Limits of a directory volume.
    pub limits: Limits,
    /// What only a disk volume has; present exactly when `kind` is a disk.
    pub disk: Option<DiskRow>,
    /// Labels, in order.
    pub labels: Labels,
    /// Never removed while set.
    pub pinned: bool,
    /// Nobody changes its contents while set.
    pub read_only: bool,
    /// How much of removed files is kept; `None` keeps none.
    pub trash_files: Option<Bytes>,
    /// Its directory was found without a row.
    pub orphan: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When its metadata last changed.
    pub updated: Timestamp,
    /// When it was removed; absent exactly when it is live.
    pub trashed: Option<Timestamp>,
    /// Usage when it was last saved.
    pub used: Usage,
    /// Whether `used` was exact when saved, and nothing has changed since.
    pub usage_clean: bool,
    /// The user id that it counts against; `None` if an earlier version has made
    /// it and nobody has looked since.
    pub owner: Option<u32>,
    /// Whether the copy of this row beside the volume's files is known to be
    /// up to date on disk.
    pub manifest_current: bool,
    /// What its contents were known by when they were last looked at; absent
    /// when nobody has looked, or the file system gives nothing that lasts.
    pub contents: Option<ContentsId>,
}

/// The columns that [`read`] needs, in its order.
pub(super) const COLUMNS: &str = "serial, id, slot, name, kind, state, quota_bytes, quota_inodes, \
     size_bytes, disk_format, disk_fstype, guest_written, pinned, orphan, created, updated, \
     trashed, used_bytes, used_inodes, usage_clean, manifest_current, \
     read_only, owner, contents_inode, contents_born, trash_files";

/// Reads a row of `volume` without its labels.
///
/// # Errors
/// What is wrong with it: table, id, column and value.
pub(super) fn read(row: &Row<'_>) -> Result<VolumeRow, String> {
    let id: String = get(row, "?", "id")?;
    let id: VolumeId = id.parse().map_err(|e| bad(&id, "id", &e))?;
    let key = id.to_string();
    let flag = |column| -> Result<bool, String> { get::<bool>(row, &key, column) };
    let kind: Kind = text(row, &key, "kind")?;
    let disk = match kind {
        Kind::Directory => None,
        Kind::Disk => Some(DiskRow {
            size: Bytes(unsigned(row, &key, "size_bytes")?),
            format: text(row, &key, "disk_format")?,
            fstype: text(row, &key, "disk_fstype")?,
            guest_written: flag("guest_written")?,
        }),
    };
    let number: u32 = get(row, &key, "slot")?;
    Ok(VolumeRow {
        serial: Serial(get(row, &key, "serial")?),
        id,
        slot: Slot::try_from(number).map_err(|e| bad(&key, "slot", &e))?,
        name: text(row, &key, "name")?,
        kind,
        state: text(row, &key, "state")?,
        limits: Limits {
            bytes: maybe_unsigned(row, &key, "quota_bytes")?.map(Bytes),
            inodes: maybe_unsigned(row, &key, "quota_inodes")?,
        },
        disk,
        labels: Labels::default(),
        pinned: flag("pinned")?,
        read_only: flag("read_only")?,
        trash_files: maybe_unsigned(row, &key, "trash_files")?.map(Bytes),
        orphan: flag("orphan")?,
        created: Timestamp::from_nanos(get(row, &key, "created")?),
        updated: Timestamp::from_nanos(get(row, &key, "updated")?),
        trashed: get::<Option<i64>>(row, &key, "trashed")?.map(Timestamp::from_nanos),
        used: Usage {
            bytes: Bytes(unsigned(row, &key, "used_bytes")?),
            inodes: unsigned(row, &key, "used_inodes")?,
        },
        usage_clean: flag("usage_clean")?,
        manifest_current: flag("manifest_current")?,
        owner: get(row, &key, "owner")?,
        contents: contents(row, &key)?,
    })
}

fn contents(row: &Row<'_>, id: &str) -> Result<Option<ContentsId>, String> {
    let inode: Option<i64> = get(row, id, "contents_inode")?;
    let born = get(row, id, "contents_born")?;
    Ok(inode.map(|inode| ContentsId {
        // All 64 bits of it, whatever they are.
        inode: inode.cast_unsigned(),
        born,
    }))
}

fn get<T: rusqlite::types::FromSql>(row: &Row<'_>, id: &str, column: &str) -> Result<T, String> {
    row.get(column).map_err(|error| {
        let value = match row.get::<_, Value>(column) {
            Ok(value) => format!("{value:?}"),
            Err(_) => "unreadable".to_owned(),
        };
        format!("table volume, id {id}, column {column}, value {value}: {error}")
    })
}

fn unsigned(row: &Row<'_>, id: &str, column: &str) -> Result<u64, String> {
    let number: i64 = get(row, id, column)?;
    u64::try_from(number).map_err(|_| bad(id, column, &format_args!("{number} is negative")))
}

fn maybe_unsigned(row: &Row<'_>, id: &str, column: &str) -> Result<Option<u64>, String> {
    match get::<Option<i64>>(row, id, column)? {
        Some(_) => unsigned(row, id, column).map(Some),
        None => Ok(None),
    }
}

fn text<T>(row: &Row<'_>, id: &str, column: &str) -> Result<T, String>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let text: String = get(row, id, column)?;
    text.parse().map_err(|error| bad(id, column, &error))
}

fn bad(id: &str, column: &str, error: &dyn std::fmt::Display) -> String {
    format!("table volume, id {id}, column {column}: {error}")
}

/// A number for a column: SQLite's integers end at 2^63 - 1, and so do file
/// offsets, so that a larger limit limits nothing more.
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
