//! What can go wrong with a disk image, one type per operation. Every message
//! says what was attempted, on what, why it failed and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::units::{BlockNumber, GroupNumber, ImageSize};

/// A size that no image can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// Less than ext4 with a journal needs.
    #[error("an image of {bytes} bytes is too small: give at least {} bytes (8 MiB)", ImageSize::MIN.bytes())]
    TooSmall {
        /// The size asked for.
        bytes: u64,
    },
    /// More than this formatter makes.
    #[error("an image of {bytes} bytes is too large: give at most {} bytes (64 TiB)", ImageSize::MAX.bytes())]
    TooLarge {
        /// The size asked for.
        bytes: u64,
    },
    /// Not whole blocks.
    #[error(
        "an image of {bytes} bytes is not a whole number of 4096-byte blocks: give a multiple of 4096, such as whole MiB"
    )]
    NotBlocks {
        /// The size asked for.
        bytes: u64,
    },
}

/// An option that cannot be used, or not with the others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// The label does not fit `s_volume_name`.
    #[error("the label {label:?} cannot be stored: ext4 takes at most 16 bytes and no zero byte")]
    Label {
        /// The label asked for.
        label: String,
    },
    /// Inodes too dense or too sparse.
    #[error("{bytes} bytes per inode is outside 4096 to 67108864: give a value in that range")]
    BytesPerInode {
        /// The density asked for.
        bytes: u64,
    },
    /// More inodes than a bitmap block has bits, or none.
    #[error("{inodes} inodes per group is outside 16 to 32768: give a value in that range")]
    InodesPerGroup {
        /// The number asked for.
        inodes: u32,
    },
    /// The reserved share is over one half.
    #[error("{}% of the blocks cannot be reserved: give at most 50%", f64::from(*.basis_points) / 100.0)]
    Reserved {
        /// The share asked for, in hundredths of a percent.
        basis_points: u32,
    },
    /// Permission bits outside `07777`.
    #[error(
        "the root directory's mode {mode:#o} has bits outside 07777: give permission bits only"
    )]
    RootMode {
        /// The mode asked for.
        mode: u32,
    },
    /// The journal is outside jbd2's limits or fills the image.
    #[error(
        "a journal of {blocks} blocks cannot be made in this image: give 1024 to {most} blocks"
    )]
    JournalSize {
        /// The size asked for, in blocks.
        blocks: u64,
        /// The largest that fits, in blocks.
        most: u64,
    },
    /// The orphan file is only replayed with a journal.
    #[error("an orphan file needs a journal: leave one of the two options out")]
    OrphanFileWithoutJournal,
}

/// Why no layout exists for a size and its options.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// An option is at fault.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// Not even one group fits.
    #[error(
        "{blocks} blocks do not hold one block group with {inode_blocks} blocks of inodes: give a larger size or fewer inodes"
    )]
    NoRoomForGroup {
        /// Blocks asked for.
        blocks: u64,
        /// Blocks of one group's inode table.
        inode_blocks: u32,
    },
    /// Tables or files do not fit in what is free.
    #[error(
        "no room for {what} ({blocks} blocks): give a larger size, fewer inodes or a smaller journal"
    )]
    NoRoomFor {
        /// What was being placed.
        what: &'static str,
        /// Its length in blocks.
        blocks: u64,
    },
}

/// One failed access to an image's bytes.
#[derive(Debug)]
pub struct AccessError {
    /// What was attempted, as in "write 4096 bytes at 0".
    pub action: String,
    /// The system's reason.
    pub source: io::Error,
}

impl AccessError {
    pub(in crate::diskimg) fn new(action: impl Into<String>, source: io::Error) -> Self {
        AccessError {
            action: action.into(),
            source,
        }
    }
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match self.source.kind() {
            io::ErrorKind::StorageFull => ": free space on the file system that holds the image",
            io::ErrorKind::QuotaExceeded => {
                ": raise the quota of the file system that holds the image"
            }
            io::ErrorKind::FileTooLarge => {
                ": the file system that holds the image has no files this large; use XFS or btrfs, or a smaller image"
            }
            io::ErrorKind::ReadOnlyFilesystem => ": choose a directory that can be written",
            io::ErrorKind::PermissionDenied => {
                ": check the permissions of the file and its directory"
            }
            io::ErrorKind::UnexpectedEof => ": the file ends before the file system in it does",
            _ => "",
        };
        write!(f, "cannot {}: {}{advice}", self.action, self.source)
    }
}

impl std::error::Error for AccessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Why an image was not made.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// No layout exists.
    #[error("cannot lay out the image: {0}")]
    Plan(#[from] PlanError),
    /// Something is at the target already; it was not touched.
    #[error("{} exists: remove it or choose another name", path.display())]
    TargetExists {
        /// The target.
        path: PathBuf,
    },
    /// The target names no file, such as `/` or `..`.
    #[error("{} does not name a file: give a path that ends in a file name", path.display())]
    NotAFileName {
        /// The target.
        path: PathBuf,
    },
    /// The open file is no regular file or holds something.
    #[error(
        "the file to format is not an empty regular file: give a new file, whose blocks read as zeros"
    )]
    NotEmpty,
    /// The target's directory cannot be used.
    #[error("cannot make an image at {}: {source}", path.display())]
    Target {
        /// The target.
        path: PathBuf,
        /// What failed.
        source: AccessError,
    },
    /// The image cannot be written.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Why a file was not recognised as a sound ext4 image.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file cannot be read.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The file ends inside or before the superblock.
    #[error(
        "{bytes} bytes hold no ext4 superblock, which ends at byte 2048: this is no disk image"
    )]
    TooShort {
        /// The file's length.
        bytes: u64,
    },
    /// `s_magic` is not ext4's.
    #[error("no ext4 superblock: the magic number at byte 1080 is {found:#06x}, not 0xef53")]
    NotExt4 {
        /// What is there.
        found: u16,
    },
    /// The superblock's checksum is wrong.
    #[error(
        "the superblock is damaged: its checksum is {stored:#010x}, not {computed:#010x}; recover it from a backup with `e2fsck -b 32768 -B 4096`"
    )]
    SuperblockChecksum {
        /// What is stored.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A field has a value that no ext4 file system has.
    #[error("the superblock is damaged: {field} is {value}, {reason}")]
    Field {
        /// The field's name in ext4's documentation.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A feature that this reader does not know how to look past.
    #[error("the image uses {feature}, which this reader does not support: use dumpe2fs")]
    Unsupported {
        /// The feature, or its bits.
        feature: String,
    },
}

/// Why an image was not grown. Unless it says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// The file is no sound ext4 image.
    #[error("cannot grow: {0}")]
    Inspect(#[from] InspectError),
    /// No layout exists for the new part.
    #[error("cannot grow: {0}")]
    Plan(#[from] PlanError),
    /// The journal holds changes.
    #[error(
        "the image was not unmounted and its journal needs recovery: mount it once and unmount it, or run `e2fsck -fy` on it, then grow"
    )]
    NeedsRecovery,
    /// The kernel or e2fsck found errors.
    #[error("the image is marked as having errors: run `e2fsck -fy` on it, then grow")]
    HasErrors,
    /// It was not unmounted, and has no journal.
    #[error(
        "the image is in use or was not unmounted: unmount it, or run `e2fsck -fy` on it, then grow"
    )]
    NotClean,
    /// Another process holds a lock on the file.
    #[error("the image is locked by another process: wait until it is done")]
    Locked,
    /// The image's structure is not of the kind that can be grown here.
    #[error("the image has {what}, which cannot be grown here: use resize2fs")]
    Unsupported {
        /// What is in the way.
        what: String,
    },
    /// The file ends before the file system does.
    #[error(
        "the file has {file_bytes} bytes and the file system in it {bytes}: restore the missing end first"
    )]
    Truncated {
        /// Length of the file.
        file_bytes: u64,
        /// Length of the file system.
        bytes: u64,
    },
    /// The new size is below the old one.
    #[error("{wanted} bytes is less than the image's {now}: images are not shrunk")]
    Shrink {
        /// The size asked for.
        wanted: u64,
        /// The size of the file system.
        now: u64,
    },
    /// Its inodes would have numbers over 32 bits.
    #[error(
        "with its inodes per group the image can have at most {most} bytes, and {wanted} were asked for: make a new image with fewer inodes, and copy"
    )]
    TooManyInodes {
        /// The size asked for.
        wanted: u64,
        /// The largest that it can have.
        most: u64,
    },
    /// A structure that must be changed is damaged.
    #[error(
        "the {what} at block {block} of group {group} is damaged: run `e2fsck -fy` on the image, then grow"
    )]
    Damaged {
        /// What was read.
        what: &'static str,
        /// The group that it belongs to.
        group: GroupNumber,
        /// Where it is.
        block: BlockNumber,
    },
    /// The image cannot be read or written. A failed write leaves the old
    /// size; growing again completes it.
    #[error(transparent)]
    Access(#[from] AccessError),
}

#[cfg(test)]
mod tests;
