//! What can be asked of volumes: one interface, offline on a store and
//! through a running daemon.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::Result;
use super::events::Event;
use super::files::VolumeFs;
use super::holder::Holder;
use super::purge::Purge;
use super::settings::{Setting, Settings};
use super::source::Source;
use super::staging::Staged;
use crate::model::{
    AllocationUnit, Bytes, DiskFormat, DiskFsType, Kind, Labels, Limits, Timestamp, Usage,
    VolumeId, VolumeName, VolumeSpec,
};

/// A snapshot of a volume's metadata. It does not hold the volume open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    /// Its name.
    pub name: VolumeName,
    /// Its identity for life.
    pub id: VolumeId,
    /// Its kind.
    pub kind: Kind,
    /// Its root directory in the store; with a mount, use the mount's path.
    pub path: PathBuf,
    /// Its limits, for a directory volume.
    pub limits: Limits,
    /// The unit in which what it holds is charged.
    #[serde(default, skip_serializing_if = "AllocationUnit::is_smallest")]
    pub allocation_unit: AllocationUnit,
    /// What it holds.
    pub used: Usage,
    /// Whether `used` is exact. It is not while a volume is recounted after an
    /// unclean stop.
    pub used_is_exact: bool,
    /// While the volume is counted: how many inodes have been found so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counting: Option<u64>,
    /// Facts of a disk volume.
    pub disk: Option<DiskInfo>,
    /// Labels in order.
    pub labels: Labels,
    /// A pinned volume is never removed.
    pub pinned: bool,
    /// Nobody changes what is in a read-only volume.
    #[serde(default)]
    pub read_only: bool,
    /// The user id that it counts against, where users are limited.
    #[serde(default)]
    pub owner: Option<u32>,
    /// How much of removed files is kept, as the host allocates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trash_files: Option<Bytes>,
    /// When it was made.
    pub created: Timestamp,
    /// When its metadata last changed.
    pub updated: Timestamp,
}

impl VolumeInfo {
    /// The most bytes that it may hold: the limit of a directory volume, the
    /// size of a disk volume.
    #[must_use]
    pub fn capacity(&self) -> Option<Bytes> {
        match self.kind {
            Kind::Directory => self.limits.bytes,
            Kind::Disk => self.disk.as_ref().map(|disk| disk.size),
        }
    }

    /// The most inodes that it may hold, also by a limit of bytes alone.
    #[must_use]
    pub fn inodes_in_force(&self) -> Option<u64> {
        self.limits.inodes_in_force(self.allocation_unit)
    }
}

/// Facts of a disk volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskInfo {
    /// Capacity.
    pub size: Bytes,
    /// Layout of the image.
    pub format: DiskFormat,
    /// File system in the image.
    pub fstype: DiskFsType,
    /// The image file in the store.
    pub path: PathBuf,
    /// How the image is.
    pub state: DiskState,
    /// Whether a guest may have written the image: the kernel of the host is
    /// not given such an image to mount.
    pub guest_written: bool,
}

/// How the image of a disk volume is, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskState {
    /// Cleanly unmounted.
    Clean,
    /// Mounted by the daemon.
    InUse,
    /// Not cleanly unmounted; the next use recovers it.
    NotUnmounted,
    /// Errors were found in it.
    Damaged,
    /// It cannot be read as a file system.
    Unreadable,
}

impl std::fmt::Display for DiskState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Clean => "clean",
            Self::InUse => "in use",
            Self::NotUnmounted => "needs recovery",
            Self::Damaged => "has errors",
            Self::Unreadable => "unreadable",
        })
    }
}

/// How a disk volume is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckHow {
    /// Change nothing.
    Look,
    /// Mend what is wrong.
    Mend,
    /// Replay the journal, and trust the image from now on if it is clean then.
    Trust,
}

/// What was found in a disk volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskCheck {
    /// Nothing is wrong with it, or nothing is any more.
    pub clean: bool,
    /// Something was wrong, and has been mended.
    pub mended: bool,
    /// Whether the kernel is given the image to mount.
    pub trusted: bool,
    /// What e2fsck said.
    pub said: String,
}

/// A volume in the trash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashedVolume {
    /// The volume as it was.
    pub info: VolumeInfo,
    /// When it was moved to the trash.
    pub trashed: Timestamp,
    /// A directory that was found without a catalogue entry; its name is
    /// `orphan-ID`.
    pub orphan: bool,
}

/// A volume's account compared with what a walk of its files finds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The volume.
    pub name: VolumeName,
    /// What it was charged, before any repair.
    pub accounted: Usage,
    /// Whether that was said to be exact.
    pub was_exact: bool,
    /// What was found: its files, and those that are still open without a name.
    pub found: Usage,
    /// Whether the account now says what was found, and did not before.
    pub repaired: bool,
}

impl Verified {
    /// Whether the account is wrong still.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.accounted != self.found && !self.repaired
    }
}

/// How a volume is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Removal {
    /// Like `rmdir`: only an empty volume, and at once.
    Empty,
    /// To the trash, with all that it holds.
    Trash,
    /// For ever, with all that it holds: out of sight at once, deleted in the
    /// background ([`Volumes::purges`]).
    Purge,
}

/// A change of a volume's settings; `None` leaves a setting as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// A new byte limit; `Some(None)` lifts it.
    #[serde(default, with = "double_option")]
    pub quota_bytes: Option<Option<Bytes>>,
    /// A new inode limit; `Some(None)` lifts it.
    #[serde(default, with = "double_option")]
    pub quota_inodes: Option<Option<u64>>,
    /// Labels to set, in order.
    pub set_labels: Vec<(String, String)>,
    /// Label keys to remove.
    pub unset_labels: Vec<String>,
    /// Pin or unpin.
    pub pinned: Option<bool>,
    /// Let nobody change what is in it, or everybody again.
    #[serde(default)]
    pub read_only: Option<bool>,
    /// How much of removed files is kept; `Some(None)`, as 0, keeps none from now on.
    #[serde(default, with = "double_option")]
    pub trash_files: Option<Option<Bytes>>,
    /// A larger capacity for a disk volume.
    #[serde(default)]
    pub size: Option<Bytes>,
}

/// Everything that can be asked of volumes.
///
/// Implemented by the store itself and by the client of a running daemon, with
/// the same results.
pub trait Volumes: Send + Sync {
    /// Makes a volume. It exists completely or not at all.
    ///
    /// # Errors
    /// [`Exists`](super::Error::Exists), [`InvalidSpec`](super::Error::InvalidSpec),
    /// or I/O.
    fn create(&self, spec: &VolumeSpec) -> Result<VolumeInfo>;

    /// One volume by its name.
    ///
    /// # Errors
    /// [`NotFound`](super::Error::NotFound).
    fn get(&self, name: &VolumeName) -> Result<VolumeInfo>;

    /// All volumes, newest first.
    ///
    /// # Errors
    /// I/O, or the daemon does not answer.
    fn list(&self) -> Result<Vec<VolumeInfo>>;

    /// Gives a volume another name; it may be in use.
    ///
    /// # Errors
    /// [`NotFound`](super::Error::NotFound), [`Exists`](super::Error::Exists).
    fn rename(&self, from: &VolumeName, to: &VolumeName) -> Result<VolumeInfo>;

    /// Removes a volume.
    ///
    /// # Errors
    /// [`NotFound`](super::Error::NotFound), [`InUse`](super::Error::InUse),
    /// [`Pinned`](super::Error::Pinned), [`NotEmpty`](super::Error::NotEmpty)
    /// for [`Removal::Empty`].
    fn remove(&self, name: &VolumeName, how: Removal) -> Result<()>;

    /// Changes a volume's settings.
    ///
    /// # Errors
    /// [`NotFound`](super::Error::NotFound), [`InvalidSpec`](super::Error::InvalidSpec).
    fn change(&self, name: &VolumeName, change: &Change) -> Result<VolumeInfo>;

    /// Checks a disk volume that nobody uses. Who wants to use it meanwhile
    /// waits a few seconds, and is refused then.
    ///
    /// # Errors
    /// [`NotFound`](super::Error::NotFound), [`InUse`](super::Error::InUse),
    /// [`Unsupported`](super::Error::Unsupported) for a directory volume;
    /// damage is part of the result.
    fn check(&self, name: &VolumeName, how: CheckHow) -> Result<DiskCheck>;

    /// Who uses a volume; empty when nobody does.
    ///
    /// # Errors
    /// [`NotFound`](super::Error::NotFound).
    fn holders(&self, name: &VolumeName) -> Result<Vec<Holder>>;

    /// The volumes that somebody uses, and who does: as [`holders`](Self::holders)
    /// says of each, found in one look for all.
    ///
    /// # Errors
    /// Those of [`list`](Self::list).
    fn all_holders(&self) -> Result<BTreeMap<VolumeName, Vec<Holder>>>;

    /// What has happened that somebody should know of, oldest first; as far as
    /// it is kept.
    ///
    /// # Errors
    /// The daemon does not answer.
    fn events(&self) -> Result<Vec<Event>>;

    /// Compares a directory volume's account with a walk of its files; with
    /// `repair`, sets it to what was found. Changes of the volume wait
    /// meanwhile, reads do not.
    ///
    /// # Errors
    /// [`NotFound`](super::Error::NotFound);
    /// [`Unsteady`](super::Error::Unsteady) when the kernel itself goes
    /// on writing to a volume without a limit;
    /// [`Unsupported`](super::Error::Unsupported) for a disk volume; I/O.
    fn verify(&self, name: &VolumeName, repair: bool) -> Result<Verified>;

    /// What is in the trash, last trashed first.
    ///
    /// # Errors
    /// I/O, or the daemon does not answer.
    fn trash(&self) -> Result<Vec<TrashedVolume>>;

    /// Brings a volume back from the trash. `which` is a name or an id; of
    /// several with one name it is the last trashed. `new_name` is for when
    /// the old one is taken.
    ///
    /// # Errors
    /// [`NotInTrash`](super::Error::NotInTrash), [`Exists`](super::Error::Exists).
    fn restore(&self, which: &str, new_name: Option<&VolumeName>) -> Result<VolumeInfo>;

    /// Deletes what is in the trash for ever, or the one called `which`;
    /// returns how many can be restored no longer. They are deleted in the
    /// background ([`purges`](Self::purges)).
    ///
    /// # Errors
    /// [`NotInTrash`](super::Error::NotInTrash), I/O.
    fn empty_trash(&self, which: Option<&str>) -> Result<usize>;

    /// What is being deleted, and what waits for that, in order. A deletion
    /// that was cut goes on when the store is next used.
    ///
    /// # Errors
    /// The daemon does not answer.
    fn purges(&self) -> Result<Vec<Purge>>;

    /// What is set for the store as a whole.
    ///
    /// # Errors
    /// The daemon does not answer.
    fn settings(&self) -> Result<Settings>;

    /// Changes one setting; returns all.
    ///
    /// # Errors
    /// [`ReadOnly`](super::Error::ReadOnly), the catalogue cannot be written.
    fn set(&self, setting: &Setting) -> Result<Settings>;

    /// The files of a volume. Limits hold for what is written there.
    ///
    /// While the result lives, or anything that was got from it, the volume is
    /// in use: it is not removed, and of a disk volume the image is not read as
    /// a whole, checked or grown. That is so between the threads of a program
    /// without a daemon as well as between processes with one.
    ///
    /// # Errors
    /// [`NotFound`](super::Error::NotFound), [`InUse`](super::Error::InUse)
    /// for an image that somebody else has,
    /// [`Image`](super::Error::Image) for one that cannot be mounted, I/O.
    fn files(&self, name: &VolumeName) -> Result<VolumeFs>;

    /// The contents of a volume as they are in the store, to be read as a
    /// whole. While the result lives the volume is in use; the image of a disk
    /// volume is at rest.
    ///
    /// # Errors
    /// [`NotFound`](super::Error::NotFound),
    /// [`FilesMissing`](super::Error::FilesMissing),
    /// [`InUse`](super::Error::InUse) for an image that somebody writes to.
    fn source(&self, name: &VolumeName) -> Result<Source>;

    /// Takes over a volume that was built in the store by another process, or
    /// by this one; see [`Staging`](super::Staging). It exists completely or
    /// not at all.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    fn adopt(&self, staged: &Staged) -> Result<VolumeInfo>;

    /// Detaches bind mounts of a volume that nobody uses, in the mount
    /// namespace of the daemon, so that the volume can be removed. All or
    /// nothing: it detaches none while anybody uses the volume otherwise.
    /// Returns where they were.
    ///
    /// # Errors
    /// [`InUse`](super::Error::InUse) by whom; nothing was detached then.
    fn detach(&self, name: &VolumeName) -> Result<Vec<String>>;

    /// Where the store is mounted; `None` when it is not.
    ///
    /// # Errors
    /// The daemon does not answer.
    fn mountpoint(&self) -> Result<Option<PathBuf>>;

    /// The store's directory.
    fn store_dir(&self) -> PathBuf;
}

/// `Option<Option<T>>` in JSON: absent, `null`, value.
mod double_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    enum Setting<T> {
        Keep,
        Lift,
        To(T),
    }

    pub fn serialize<T: Serialize + Copy, S: Serializer>(
        value: &Option<Option<T>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            None => Setting::Keep,
            Some(None) => Setting::Lift,
            Some(Some(value)) => Setting::To(*value),
        }
        .serialize(to)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        Ok(match Setting::<T>::deserialize(from)? {
            Setting::Keep => None,
            Setting::Lift => Some(None),
            Setting::To(value) => Some(Some(value)),
        })
    }
}
