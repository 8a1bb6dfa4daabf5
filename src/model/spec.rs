//! What a volume is asked to be, and the rules between the parts of the wish.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{AllocationUnit, Bytes, VolumeName};

/// The two kinds of volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Files in a directory of the host's file system.
    #[default]
    Directory,
    /// A fixed-capacity image with a file system of its own.
    Disk,
}

/// How a disk image is laid out in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// Byte for byte the block device.
    #[default]
    Raw,
}

/// The file system inside a disk image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFsType {
    /// ext4.
    #[default]
    Ext4,
}

macro_rules! text_enum {
    ($type:ty, $what:literal, $($text:literal => $value:expr),+ $(,)?) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(if *self == $value { return f.pad($text); })+
                unreachable!("every value has its text")
            }
        }
        impl FromStr for $type {
            type Err = String;
            /// Unknown texts are errors, never silently something else.
            fn from_str(text: &str) -> Result<Self, String> {
                $(if text == $text { return Ok($value); })+
                Err(format!(concat!("{:?} is not a ", $what), text))
            }
        }
    };
}
text_enum!(Kind, "volume kind", "directory" => Kind::Directory, "disk" => Kind::Disk);
text_enum!(DiskFormat, "disk format", "raw" => DiskFormat::Raw);
text_enum!(DiskFsType, "disk file system", "ext4" => DiskFsType::Ext4);

/// Ordered key/value pairs; a key stands once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(Vec<(String, String)>);

impl Labels {
    /// The most bytes of a key: with `volfs.label.` before it, the longest name
    /// of an extended attribute.
    pub const MOST_KEY_BYTES: usize = 243;
    /// The most bytes of a value.
    pub const MOST_VALUE_BYTES: usize = 4096;
    /// The most bytes of all keys and values of a volume: what every list of
    /// volumes, every change of one and the daemon's memory has to bear.
    pub const MOST_BYTES: usize = 16 << 10;

    /// Sets `key`; a key that is there keeps its place.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some(pair) => pair.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// Whether a volume may get this label. Keys are not empty, and both key
    /// and value are [plain](super::is_plain): they are shown in tables. That
    /// is checked wherever a label is given to a volume, and not where one is
    /// read: a store may have others from earlier versions, which can be
    /// unset.
    ///
    /// # Errors
    /// [`InvalidSpec::LabelKey`], [`InvalidSpec::LabelCharacter`],
    /// [`InvalidSpec::LabelLength`].
    pub fn check(key: &str, value: &str) -> Result<(), InvalidSpec> {
        if key.is_empty() {
            return Err(InvalidSpec::LabelKey);
        }
        let too_long = |what: &str, found: usize, most| InvalidSpec::LabelLength {
            what: what.to_owned(),
            begin: key.chars().take(32).collect(),
            found,
            most,
        };
        if key.len() > Self::MOST_KEY_BYTES {
            return Err(too_long("key", key.len(), Self::MOST_KEY_BYTES));
        }
        if value.len() > Self::MOST_VALUE_BYTES {
            return Err(too_long("value", value.len(), Self::MOST_VALUE_BYTES));
        }
        let mut all = key.chars().chain(value.chars());
        match all.find(|&c| !super::is_plain(c)) {
            Some(found) => Err(InvalidSpec::LabelCharacter {
                label: format!("{key}={value}"),
                found,
            }),
            None => Ok(()),
        }
    }

    /// Whether a volume may have all these.
    ///
    /// # Errors
    /// [`InvalidSpec::LabelsLength`].
    pub fn check_all(&self) -> Result<(), InvalidSpec> {
        let found = self
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if found > Self::MOST_BYTES {
            return Err(InvalidSpec::LabelsLength { found });
        }
        Ok(())
    }

    /// Removes `key`; says whether it was there.
    pub fn unset(&mut self, key: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(k, _)| k != key);
        self.0.len() != before
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// All pairs in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The limits of a directory volume; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The most bytes, by the charging rule of [`Usage`].
    pub bytes: Option<Bytes>,
    /// The most inodes.
    pub inodes: Option<u64>,
}

impl Limits {
    /// A volume with a limit of fewer bytes may hold as many inodes as with this.
    const INODES_OF: u64 = 4 << 20;
    /// The fewest inodes that a volume with a limit of bytes alone may hold.
    const LEAST_INODES: u64 = 64;

    /// The most inodes that the volume may hold. With a limit of bytes alone
    /// it is one for every `unit` in which is charged, 4 KiB mostly and at least
    /// 1024 then: an inode is charged no bytes
    /// for its attributes, or as a symbolic link for its target, and each has
    /// up to a unit of these, so that bytes alone would limit nothing. A file
    /// that is not empty is charged as much as its share of this limit.
    #[must_use]
    pub fn inodes_in_force(&self, unit: AllocationUnit) -> Option<u64> {
        self.inodes.or_else(|| {
            let bytes = self.bytes?.0.max(Self::INODES_OF);
            Some(bytes.div_ceil(unit.bytes()).max(Self::LEAST_INODES))
        })
    }
}

/// What a volume holds: a regular file is charged its size rounded up to
/// the unit in which its place allocates (4 KiB mostly, see [`AllocationUnit`]),
/// a directory its size on the host likewise, but at least one unit, of the
/// volume's root what is beyond that; everything that has an inode counts one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Charged bytes.
    pub bytes: Bytes,
    /// Inodes, the volume's root directory not counted.
    pub inodes: u64,
}

/// Who owns a new volume's root directory, and its permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
}

/// A volume as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Its name.
    pub name: VolumeName,
    /// Its kind.
    pub kind: Kind,
    /// The limits of a directory volume.
    pub limits: Limits,
    /// The capacity of a disk volume.
    pub size: Option<Bytes>,
    /// Labels, in order.
    pub labels: Labels,
    /// Owner and mode of the root directory; the caller's own when absent.
    pub owner: Option<Owner>,
}

/// Why the parts of a [`VolumeSpec`] do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum InvalidSpec {
    /// A directory volume with a size.
    #[error(
        "a directory volume has no size; limit it with a quota (--quota), or make a disk volume (--disk)"
    )]
    DirectoryWithSize,
    /// A disk volume without a size.
    #[error("a disk volume needs a size (--size)")]
    DiskWithoutSize,
    /// A size that no image can have.
    #[error("{why}")]
    DiskSize {
        /// What is wrong with it.
        why: String,
    },
    /// A directory volume with a size that is to be changed.
    #[error(
        "only an empty directory volume can become a disk volume by getting a size; make one with 'volfs create --disk', and move the files"
    )]
    SizeOfDirectory,
    /// A directory volume that is to become a disk volume and something else.
    #[error(
        "a directory volume that gets a size becomes a disk volume; change its other settings afterwards"
    )]
    SizeAlone,
    /// A smaller size than the volume has.
    #[error("a disk volume cannot be made smaller ({now} now); make a smaller one and copy")]
    Shrink {
        /// Its size.
        now: Bytes,
    },
    /// A disk volume with a quota.
    #[error("a disk volume takes no quota: its size is its limit")]
    DiskWithQuota,
    /// A disk volume that should keep removed files.
    #[error(
        "a disk volume cannot keep removed files: they are in its own file system, which virtual machines write as well; use a directory volume"
    )]
    TrashOfDisk,
    /// An inode limit of zero.
    #[error("an inode quota of 0 would allow no file; to lift the limit write 'none'")]
    ZeroInodes,
    /// A byte limit of zero.
    #[error("a byte quota of 0 would allow no file; to lift the limit write 'none'")]
    ZeroBytes,
    /// A label without a key.
    #[error("a label needs a key; write KEY=VALUE")]
    LabelKey,
    /// A label that is too long.
    #[error("the {what} of the label {begin:?} has {found} bytes; {most} is the most")]
    LabelLength {
        /// `key` or `value`.
        what: String,
        /// The beginning of its key.
        begin: String,
        /// Its bytes.
        found: usize,
        /// The most.
        most: usize,
    },
    /// Too many labels, or too long ones together.
    #[error(
        "the volume's labels would have {found} bytes together; {} is the most",
        Labels::MOST_BYTES
    )]
    LabelsLength {
        /// Bytes of all keys and values.
        found: usize,
    },
    /// A label with a character that terminals obey instead of showing it.
    #[error(
        "the label {label:?} contains {found:?}; labels take no control characters, line breaks or controls of the direction of text"
    )]
    LabelCharacter {
        /// `KEY=VALUE`.
        label: String,
        /// The first such character.
        found: char,
    },
}

impl VolumeSpec {
    /// A directory volume without limits.
    #[must_use]
    pub fn directory(name: VolumeName) -> Self {
        Self {
            name,
            kind: Kind::Directory,
            limits: Limits::default(),
            size: None,
            labels: Labels::default(),
            owner: None,
        }
    }

    /// A disk volume of `size` bytes.
    #[must_use]
    pub fn disk(name: VolumeName, size: Bytes) -> Self {
        Self {
            kind: Kind::Disk,
            size: Some(size),
            ..Self::directory(name)
        }
    }

    /// Checks the rules between the parts.
    ///
    /// # Errors
    /// [`InvalidSpec`], the first rule that is broken.
    pub fn check(&self) -> Result<(), InvalidSpec> {
        match self.kind {
            Kind::Directory if self.size.is_some() => return Err(InvalidSpec::DirectoryWithSize),
            Kind::Disk if self.size.is_none() => return Err(InvalidSpec::DiskWithoutSize),
            Kind::Disk if self.limits != Limits::default() => {
                return Err(InvalidSpec::DiskWithQuota);
            }
            Kind::Directory | Kind::Disk => {}
        }
        for (key, value) in self.labels.iter() {
            Labels::check(key, value)?;
        }
        self.labels.check_all()?;
        self.limits.check()
    }
}

impl Limits {
    /// Checks that no limit is zero.
    ///
    /// # Errors
    /// [`InvalidSpec::ZeroBytes`] or [`InvalidSpec::ZeroInodes`].
    pub fn check(&self) -> Result<(), InvalidSpec> {
        if self.bytes == Some(Bytes(0)) {
            return Err(InvalidSpec::ZeroBytes);
        }
        if self.inodes == Some(0) {
            return Err(InvalidSpec::ZeroInodes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_between_the_parts() {
        let name: VolumeName = "v".parse().unwrap();
        let mut spec = VolumeSpec::directory(name.clone());
        assert_eq!(spec.check(), Ok(()));
        spec.size = Some(Bytes(1));
        assert_eq!(spec.check(), Err(InvalidSpec::DirectoryWithSize));
        let mut spec = VolumeSpec::disk(name, Bytes(1 << 30));
        assert_eq!(spec.check(), Ok(()));
        spec.limits.bytes = Some(Bytes(1));
        assert_eq!(spec.check(), Err(InvalidSpec::DiskWithQuota));
        spec.limits = Limits::default();
        spec.size = None;
        assert_eq!(spec.check(), Err(InvalidSpec::DiskWithoutSize));
    }

    #[test]
    fn labels_are_shown_as_they_are() {
        let mut spec = VolumeSpec::directory("v".parse().unwrap());
        spec.labels.set("tëam", "a b=c\u{e9}");
        assert_eq!(spec.check(), Ok(()));
        for (key, value, bad) in [("k", "\u{1b}[2J", '\u{1b}'), ("k\n", "v", '\n')] {
            let mut spec = spec.clone();
            spec.labels.set(key, value);
            let Err(InvalidSpec::LabelCharacter { found, .. }) = spec.check() else {
                panic!("{key:?} {value:?}");
            };
            assert_eq!(found, bad);
        }
        spec.labels.set("", "v");
        assert_eq!(spec.check(), Err(InvalidSpec::LabelKey));
    }

    #[test]
    fn labels_are_bounded() {
        let mut spec = VolumeSpec::directory("v".parse().unwrap());
        spec.labels.set("k".repeat(243), "v".repeat(4096));
        assert_eq!(spec.check(), Ok(()));
        let said = |key: &str, value: &str| Labels::check(key, value).unwrap_err().to_string();
        let long = said("k", &"v".repeat(100_000));
        assert_eq!(
            long,
            "the value of the label \"k\" has 100000 bytes; 4096 is the most"
        );
        let long = said(&"ü".repeat(200), "v");
        assert!(
            long.starts_with("the key of the label \"üü") && long.len() < 160,
            "{long}"
        );
        for n in 0..4 {
            spec.labels.set(format!("k{n}"), "v".repeat(4000));
        }
        let Err(InvalidSpec::LabelsLength { found }) = spec.check() else {
            panic!("{:?}", spec.check());
        };
        assert_eq!(found, 243 + 4096 + 4 * 4002);
        assert_eq!(
            spec.check().unwrap_err().to_string(),
            "the volume's labels would have 20347 bytes together; 16384 is the most"
        );
    }

    #[test]
    fn labels_keep_their_order() {
        let mut labels = Labels::default();
        labels.set("b", "1");
        labels.set("a", "2");
        labels.set("b", "3");
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("b", "3"), ("a", "2")]);
        assert!(labels.unset("b"));
        assert!(!labels.unset("b"));
        assert_eq!(labels.get("a"), Some("2"));
    }
}
