//! What a caller can choose about an image. Values are checked when they are
//! given, so that a finished [`Options`] is valid by itself.

use uuid::Uuid;

use super::error::OptionError;
use super::units::{ImageSize, Timestamp};

/// How many inodes an image gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum InodeDensity {
    /// As `mkfs.ext4`: one per 4 KiB below 512 MiB, per 16 KiB below 4 TiB,
    /// per 32 KiB below 16 TiB, per 64 KiB from there.
    #[default]
    Auto,
    /// One inode for so many bytes.
    BytesPerInode(u32),
    /// So many inodes in each block group.
    PerGroup(u32),
}

/// How large the journal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum JournalSize {
    /// As `mkfs.ext4`: 4 MiB to 1 GiB, by the image's size.
    #[default]
    Auto,
    /// No journal.
    None,
    /// So many blocks of 4 KiB.
    Blocks(u64),
}

/// Owner and permissions of the root directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootDirectory {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permission bits, `07777` at most.
    pub mode: u16,
}

/// Everything that can be chosen about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub(in crate::diskimg) size: ImageSize,
    pub(in crate::diskimg) label: [u8; 16],
    pub(in crate::diskimg) uuid: Option<Uuid>,
    pub(in crate::diskimg) created: Option<Timestamp>,
    pub(in crate::diskimg) inodes: InodeDensity,
    pub(in crate::diskimg) reserved_basis_points: u32,
    pub(in crate::diskimg) root: RootDirectory,
    pub(in crate::diskimg) lost_and_found: bool,
    pub(in crate::diskimg) journal: JournalSize,
    pub(in crate::diskimg) quota: bool,
    pub(in crate::diskimg) orphan_file: bool,
}

impl Options {
    /// What `mkfs.ext4` would choose for this size: random UUID, no label, 5%
    /// reserved, a root directory `0755` of user 0.
    pub const fn new(size: ImageSize) -> Self {
        Options {
            size,
            label: [0; 16],
            uuid: None,
            created: None,
            inodes: InodeDensity::Auto,
            reserved_basis_points: 500,
            root: RootDirectory {
                uid: 0,
                gid: 0,
                mode: 0o755,
            },
            lost_and_found: true,
            journal: JournalSize::Auto,
            quota: false,
            orphan_file: false,
        }
    }

    /// Sets the volume label.
    ///
    /// # Errors
    /// Over 16 bytes, or holding a zero byte.
    pub fn label(mut self, label: &str) -> Result<Self, OptionError> {
        let bytes = label.as_bytes();
        if bytes.len() > self.label.len() || bytes.contains(&0) {
            return Err(OptionError::Label {
                label: label.to_owned(),
            });
        }
        self.label = [0; 16];
        self.label[..bytes.len()].copy_from_slice(bytes);
        Ok(self)
    }

    /// Sets the UUID instead of a random one. With [`Self::created`] it makes
    /// the image reproducible: the directory hash seed is derived from it.
    pub const fn uuid(mut self, uuid: Uuid) -> Self {
        self.uuid = Some(uuid);
        self
    }

    /// Sets the time of creation instead of the host's clock.
    pub const fn created(mut self, time: Timestamp) -> Self {
        self.created = Some(time);
        self
    }

    /// Sets the number of inodes.
    ///
    /// # Errors
    /// Outside 4 KiB to 64 MiB per inode, or 16 to 32,768 per group.
    pub fn inodes(mut self, density: InodeDensity) -> Result<Self, OptionError> {
        match density {
            InodeDensity::BytesPerInode(bytes) if !(4096..=64 << 20).contains(&bytes) => {
                return Err(OptionError::BytesPerInode {
                    bytes: bytes.into(),
                });
            }
            InodeDensity::PerGroup(inodes) if !(16..=32768).contains(&inodes) => {
                return Err(OptionError::InodesPerGroup { inodes });
            }
            _ => self.inodes = density,
        }
        Ok(self)
    }

    /// Sets the share of blocks that only user 0 may fill, in hundredths of a
    /// percent.
    ///
    /// # Errors
    /// Over 5000.
    pub fn reserved_basis_points(mut self, basis_points: u32) -> Result<Self, OptionError> {
        if basis_points > 5000 {
            return Err(OptionError::Reserved { basis_points });
        }
        self.reserved_basis_points = basis_points;
        Ok(self)
    }

    /// Sets owner and mode of the root directory.
    ///
    /// # Errors
    /// Mode bits outside `07777`.
    pub fn root(mut self, root: RootDirectory) -> Result<Self, OptionError> {
        if root.mode & !0o7777 != 0 {
            return Err(OptionError::RootMode {
                mode: root.mode.into(),
            });
        }
        self.root = root;
        Ok(self)
    }

    /// Whether to make `lost+found`. Without it `e2fsck` makes one when it
    /// first needs it.
    pub const fn lost_and_found(mut self, wanted: bool) -> Self {
        self.lost_and_found = wanted;
        self
    }

    /// Sets the journal's size. Whether it fits is known to the planner only.
    pub const fn journal(mut self, size: JournalSize) -> Self {
        self.journal = size;
        self
    }

    /// Whether to track usage per user, group and project (`quota` and
    /// `project`), so that the kernel can enforce limits. Such an image is
    /// mounted for writing only by kernels with CONFIG_QUOTA and QFMT_V2.
    pub const fn quota(mut self, wanted: bool) -> Self {
        self.quota = wanted;
        self
    }

    /// Whether to keep orphans in a file rather than a list (`orphan_file`),
    /// which scales better. Needs a kernel from 5.15 on and e2fsprogs 1.47.
    pub const fn orphan_file(mut self, wanted: bool) -> Self {
        self.orphan_file = wanted;
        self
    }
}
