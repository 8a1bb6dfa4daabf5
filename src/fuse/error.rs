//! What an operation can fail with, and the one map from that to errno.

use nix::errno::Errno;

use crate::meta::OverLimit;
use crate::model::{InvalidName, VolumeName};
use crate::volume::{Error as VolumeError, Holder};

/// Why an operation was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpError {
    /// The host's file system refused.
    #[error("{}", .0.desc())]
    Host(Errno),
    /// A volume as a whole could not be changed or found.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Only volumes can be made at the root of the mount.
    #[error(
        "only volumes (directories) can be made at the root of the mount; make files inside a volume"
    )]
    NotAVolume,
    /// The control tree cannot be changed.
    #[error("the control directory .volfs is read-only")]
    ControlTree,
    /// Somebody has as many generated files open as there may be.
    #[error(
        "{by} as many files of .volfs open as there may be: each keeps its text in memory; close some"
    )]
    ControlFiles {
        /// Who, as the beginning of a sentence.
        by: &'static str,
    },
    /// Rename or link between two volumes.
    #[error("source and destination are in different volumes")]
    CrossVolume,
    /// The volume of the node is gone.
    #[error("the volume of this file is gone")]
    VolumeGone,
    /// The host's inode number does not fit a node id.
    #[error("the host's inode number {0} has more than 40 bits")]
    InodeNumber(u64),
    /// A name with a slash, or `.` or `..`.
    #[error("not a file name")]
    BadName,
    /// A `volfs.*` attribute that does not exist.
    #[error("there is no such volfs.* attribute")]
    NoProperty,
    /// A `volfs.*` attribute that can only be read.
    #[error("this volfs.* attribute cannot be set")]
    FixedProperty,
    /// A value that a `volfs.*` attribute cannot take.
    #[error("{0}")]
    PropertyValue(String),
    /// Limits may be set by root and the daemon's own user only.
    #[error("only root and the user of the daemon may set the properties of a volume")]
    NotOperator,
    /// The image of a disk volume is open, and its files cannot be had.
    #[error("the image of volume {name:?} is in use{}", by(.holders))]
    DiskAttached {
        /// The volume.
        name: VolumeName,
        /// Who has it open.
        holders: Vec<Holder>,
    },
    /// The image of a disk volume is not emptied by opening it.
    #[error(
        "the image of a disk volume is neither truncated nor appended to; its size is set with 'volfs set NAME --size'"
    )]
    ImageSize,
    /// A command is at work on the image of a disk volume.
    #[error("the image of volume {0:?} is being changed by a command; try again")]
    DiskTaken(VolumeName),
    /// A guest has written the image.
    #[error(
        "a guest has written the image of volume {it:?}, so that it is read-only; 'volfs disk trust {word}' checks it and lets this machine's kernel mount it",
        it = .0,
        word = .0.as_shell_word()
    )]
    Untrusted(VolumeName),
    /// `lost+found` in the root of a disk volume is made by nobody.
    #[error(
        "lost+found in the root of disk volume {0:?} is kept for what e2fsck finds, and not shown while it is empty; choose another name"
    )]
    LostFound(VolumeName),
    /// This machine cannot mount the image.
    #[error("volume {name:?} is read-only here, because its image cannot be mounted: {why}")]
    NoWay {
        /// The volume.
        name: VolumeName,
        /// What is missing, and what to do.
        why: std::sync::Arc<str>,
    },
    /// The file system in a mounted image has found errors in itself.
    #[error(
        "ext4 has found {count} errors in the image of volume {name:?}{}, which is not written any more; close its files and run 'volfs disk check --repair {}'", last(.last_in), .name.as_shell_word()
    )]
    ImageErrors {
        /// The volume.
        name: VolumeName,
        /// As the file system has counted.
        count: u64,
        /// The function of the kernel that found the last one, if it tells.
        last_in: String,
    },
    /// An image has errors that take a choice to mend.
    #[error(
        "the image of volume {it:?} has errors that are not mended unasked, so that it is read-only; 'volfs disk check --repair {word}' mends what can be",
        it = .0,
        word = .0.as_shell_word()
    )]
    DamagedImage(VolumeName),
    /// Something was written past the end of an image.
    #[error(
        "what was written past the end of the image of volume {it:?} is cut off; 'volfs set {word} --size' makes it larger",
        it = .0,
        word = .0.as_shell_word()
    )]
    PastImage(VolumeName),
    /// The image of a disk volume could not be attached.
    #[error("volume {name:?}: {why}")]
    Attach {
        /// The volume.
        name: VolumeName,
        /// What the system said.
        errno: Errno,
        /// What is wrong and what to do.
        why: String,
    },
    /// Allocation beyond the end, in a volume with a quota.
    #[error(
        "FALLOC_FL_KEEP_SIZE beyond the end is not offered in a volume with a quota: its size would not show it"
    )]
    HiddenAllocation,
    /// More attributes than an inode may have in a volume with a quota.
    #[error(
        "the extended attributes of a file hold at most {most} bytes in a volume with a quota: they are not charged"
    )]
    Attributes {
        /// Names and values together.
        most: usize,
    },
    /// The volume has its share of the daemon's descriptors.
    #[error(
        "{open} files of volume {name:?} are open through the daemon, and a volume may have no more than are left for all others; close some, or let the daemon have more descriptors than {limit} (LimitNOFILE=, ulimit -n)"
    )]
    OpenFiles {
        /// The volume.
        name: VolumeName,
        /// Its open files that take a descriptor.
        open: usize,
        /// The daemon's descriptors.
        limit: usize,
    },
    /// The volume's limit is reached.
    #[error(transparent)]
    OverQuota(OverLimit),
}

/// The result of an operation.
pub type OpResult<T> = Result<T, OpError>;

impl From<Errno> for OpError {
    fn from(errno: Errno) -> Self {
        Self::Host(errno)
    }
}

impl OpError {
    /// The error number that the caller gets. Each is one that the call can
    /// return by POSIX or Linux, so that programs know what to do.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Host(errno) | Self::Attach { errno, .. } => *errno,
            Self::DiskAttached { .. } | Self::DiskTaken(_) => Errno::EBUSY,
            Self::Untrusted(_) | Self::NoWay { .. } | Self::DamagedImage(_) => Errno::EROFS,
            Self::ImageErrors { .. } => Errno::EIO,
            Self::PastImage(_) => Errno::ENOSPC,
            Self::ImageSize | Self::LostFound(_) => Errno::EPERM,
            Self::Volume(error) => volume_errno(error),
            Self::NotAVolume | Self::ControlTree | Self::NotOperator | Self::FixedProperty => {
                Errno::EPERM
            }
            Self::CrossVolume => Errno::EXDEV,
            Self::VolumeGone => Errno::ESTALE,
            Self::InodeNumber(_) => Errno::EOVERFLOW,
            Self::BadName | Self::PropertyValue(_) => Errno::EINVAL,
            Self::NoProperty => Errno::ENODATA,
            Self::HiddenAllocation => Errno::EOPNOTSUPP,
            // Not EMFILE: the caller's own descriptors are not what is short.
            Self::OpenFiles { .. } | Self::ControlFiles { .. } => Errno::ENFILE,
            Self::OverQuota(_) | Self::Attributes { .. } => Errno::ENOSPC,
        }
    }
}

fn last(function: &str) -> String {
    if function.is_empty() {
        String::new()
    } else {
        format!(" (the last in {})", crate::model::Plain(function))
    }
}

fn by(holders: &[Holder]) -> String {
    let mut text = String::new();
    for (index, holder) in holders.iter().enumerate() {
        text += if index == 0 { " by " } else { "; " };
        text += &holder.to_string();
    }
    text
}

fn volume_errno(error: &VolumeError) -> Errno {
    match error {
        VolumeError::Exists { .. } => Errno::EEXIST,
        VolumeError::NotFound { .. } | VolumeError::NotInTrash { .. } => Errno::ENOENT,
        VolumeError::InUse { .. }
        | VolumeError::TrashInUse { .. }
        | VolumeError::NotGrown { .. }
        | VolumeError::Unaccounted { .. }
        | VolumeError::Unsteady { .. }
        | VolumeError::OpenForWriting { .. }
        | VolumeError::Locked { .. } => Errno::EBUSY,
        VolumeError::UserLimit(_) => Errno::EDQUOT,
        VolumeError::Pinned { .. } => Errno::EPERM,
        VolumeError::NotEmpty { .. } => Errno::ENOTEMPTY,
        VolumeError::InvalidName(InvalidName::TooLong { .. }) => Errno::ENAMETOOLONG,
        // Dot files at the root are what file managers try (.Trash-1000).
        VolumeError::InvalidName(InvalidName::Start { found: '.', .. }) => Errno::EPERM,
        VolumeError::InvalidName(
            InvalidName::Empty
            | InvalidName::Start { .. }
            | InvalidName::OuterSpace { .. }
            | InvalidName::Character { .. }
            | InvalidName::NotPortable { .. }
            | InvalidName::NotUtf8 { .. },
        )
        | VolumeError::InvalidSpec(_) => Errno::EINVAL,
        VolumeError::Unsupported { .. } => Errno::EOPNOTSUPP,
        VolumeError::ReadOnly { .. } | VolumeError::VolumeReadOnly { .. } => Errno::EROFS,
        VolumeError::NoSpace { .. } => Errno::ENOSPC,
        VolumeError::Outside { .. } => Errno::EXDEV,
        VolumeError::Archive { .. } => Errno::EINVAL,
        VolumeError::Interrupted => Errno::EINTR,
        VolumeError::BadStore { .. }
        | VolumeError::Catalogue { .. }
        | VolumeError::CatalogueRefused { .. }
        | VolumeError::Image { .. }
        | VolumeError::FilesMissing { .. }
        | VolumeError::Unresponsive { .. }
        | VolumeError::Elsewhere { .. }
        | VolumeError::Daemon { .. } => Errno::EIO,
        VolumeError::Io { errno, .. } => Errno::from_raw(*errno),
    }
}
