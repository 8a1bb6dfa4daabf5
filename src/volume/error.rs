//! What can go wrong with a volume as a whole.
//!
//! The same values cross the control socket, so that a command says the same
//! with a daemon and without one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::holder::{Holder, advice, holders_text};
use crate::meta::{OverLimit, Resource};
use crate::model::{Bytes, InvalidName, InvalidSpec, Usage, VolumeName, shown};

/// Why something that was asked of a volume or the store was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "code", content = "detail", rename_all = "kebab-case")]
pub enum Error {
    /// A name exists once.
    #[error("volume {name:?} already exists")]
    Exists {
        /// The name that is taken.
        name: VolumeName,
    },
    /// No volume has this name.
    #[error("no volume is named {name:?}; 'volfs ls' lists them")]
    NotFound {
        /// The name that was asked for.
        name: VolumeName,
    },
    /// Nothing in the trash has this name or id.
    #[error("nothing in the trash is called {wanted:?}; 'volfs trash ls' lists what is there")]
    NotInTrash {
        /// The name or id that was asked for.
        wanted: String,
    },
    /// A volume in use is not removed.
    #[error("volume {name:?} is in use by {}{}", holders_text(.holders), advice(.holders))]
    InUse {
        /// The volume.
        name: VolumeName,
        /// Who uses it.
        holders: Vec<Holder>,
    },
    /// Volumes in the trash that somebody uses are not deleted.
    #[error("removed volume {name:?} is in use by {}, and stays in the trash{}", holders_text(.holders), rest(*.kept, *.deleted))]
    TrashInUse {
        /// One of them.
        name: VolumeName,
        /// Who uses it.
        holders: Vec<Holder>,
        /// How many more there are.
        kept: usize,
        /// How many were deleted.
        deleted: usize,
    },
    /// A file system is grown while it is in use only with the right to.
    #[error("volume {name:?} cannot be grown while it is in use by {}: {why}; it can when nobody uses it", holders_text(.holders))]
    NotGrown {
        /// The volume.
        name: VolumeName,
        /// Who uses it.
        holders: Vec<Holder>,
        /// Why not while it is in use.
        why: String,
    },
    /// A first limit cannot count what is written past it.
    #[error("volume {name:?} cannot be limited while files in it are open for writing without a limit, by {}; close them first", holders_text(.holders))]
    Unaccounted {
        /// The volume.
        name: VolumeName,
        /// Who writes.
        holders: Vec<Holder>,
    },
    /// A count that found the volume changing each time.
    #[error("volume {name:?} cannot be counted while files in it are being written to without a limit, by {}; try again when they are closed", holders_text(.holders))]
    Unsteady {
        /// The volume.
        name: VolumeName,
        /// Who writes.
        holders: Vec<Holder>,
    },
    /// What is open for writing goes on being written.
    #[error("volume {name:?} cannot be made read-only while files in it are open for writing, or mapped, by {}; close them first", holders_text(.holders))]
    OpenForWriting {
        /// The volume.
        name: VolumeName,
        /// Who writes.
        holders: Vec<Holder>,
    },
    /// Nobody changes what is in a read-only volume.
    #[error("volume {name:?} is read-only; 'volfs set {} --no-read-only' lets it be changed", .name.as_shell_word())]
    VolumeReadOnly {
        /// The volume.
        name: VolumeName,
    },
    /// A pinned volume is never removed.
    #[error("volume {name:?} is pinned; unpin it first with 'volfs unpin {}'", .name.as_shell_word())]
    Pinned {
        /// The volume.
        name: VolumeName,
    },
    /// `rmdir` removes empty volumes only.
    #[error(
        "volume {name:?} is not empty; 'volfs rm {}' moves it to the trash with all that it holds",
        .name.as_shell_word()
    )]
    NotEmpty {
        /// The volume.
        name: VolumeName,
    },
    /// A user has as much as its volumes may take together.
    #[error("{0}")]
    UserLimit(Box<UserLimitReached>),
    /// Not a volume name.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// The wish contradicts itself.
    #[error(transparent)]
    InvalidSpec(#[from] InvalidSpec),
    /// Offered, but not in this version.
    #[error("{what} is not supported by this version of volfs; {when}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// When or how it would be.
        when: String,
    },
    /// The store was opened, or the file system mounted, read-only.
    #[error("the store {store:?} is read-only")]
    ReadOnly {
        /// The store's directory.
        store: PathBuf,
    },
    /// Another process has the store.
    #[error("the store {store:?} is in use by {holder}; stop that first, or use its mountpoint")]
    Locked {
        /// The store's directory.
        store: PathBuf,
        /// Process id and command of the holder as it wrote them down.
        holder: String,
    },
    /// The directory is not a store, or not one of this version.
    #[error("{store:?} cannot be used as a store: {why}")]
    BadStore {
        /// The store's directory.
        store: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// The catalogue is damaged.
    #[error("the catalogue {path:?} is damaged: {why}")]
    Catalogue {
        /// The database file.
        path: PathBuf,
        /// What SQLite or the schema check said, and what to do.
        why: String,
    },
    /// A sound catalogue does not take a change.
    #[error(
        "the catalogue {path:?} is sound but does not take the change: {why}; this is a fault of volfs, please report it"
    )]
    CatalogueRefused {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        why: String,
    },
    /// The image of a disk volume cannot be used as it was asked for.
    #[error("the image {path:?}: {why}")]
    Image {
        /// The image file.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// The volume's files are gone although the catalogue has it.
    #[error(
        "the files of volume {name:?} are missing: {path:?} is not there; restore that directory, or give the volume up with 'volfs rm --purge {}'",
        .name.as_shell_word()
    )]
    FilesMissing {
        /// The volume.
        name: VolumeName,
        /// Where its files should be.
        path: PathBuf,
    },
    /// The volume's place in the store leads out of it.
    #[error(
        "the files of volume {name:?} are not in the store: {path:?} is {what}; volumes are on the store's own file system: unmount or move away what is there, and put the volume's own directory back"
    )]
    Elsewhere {
        /// The volume.
        name: VolumeName,
        /// Where its files should be.
        path: PathBuf,
        /// What is there: `on another file system`.
        what: String,
    },
    /// A system call failed.
    #[error("cannot {action} {}: {}", shown(.path), errno_text(*.errno))]
    Io {
        /// What was tried, as a verb: `create`, `rename`.
        action: String,
        /// What it was tried on.
        path: PathBuf,
        /// The system's error number.
        errno: i32,
    },
    /// The limit of the volume is reached, or the disk is full.
    #[error("no space for {}: {why}", shown(.path))]
    NoSpace {
        /// What was to be made or to grow.
        path: PathBuf,
        /// Which limit.
        why: String,
    },
    /// A path in a volume that would lead out of it.
    #[error(
        "{path:?} leads out of the volume, by '..', an absolute symbolic link or a mount; name something inside"
    )]
    Outside {
        /// The path as it was given.
        path: PathBuf,
    },
    /// An archive that is damaged, or that would do what none may.
    #[error("the archive cannot be imported: {why}")]
    Archive {
        /// What is wrong, and with which entry.
        why: String,
    },
    /// Somebody has stopped it.
    #[error("interrupted; nothing is left of it")]
    Interrupted,
    /// The daemon is there and says nothing.
    #[error("the daemon on {socket:?} does not answer: {why}")]
    Unresponsive {
        /// The control socket.
        socket: PathBuf,
        /// Its process id in this pid namespace, where that can be seen.
        pid: Option<i32>,
        /// What is known of it, what to do, and whether what was asked for may
        /// still be done.
        why: String,
    },
    /// The daemon's answer could not be had or understood.
    #[error("no usable answer from the daemon on {socket:?}: {why}")]
    Daemon {
        /// The control socket.
        socket: PathBuf,
        /// What happened.
        why: String,
        /// Whether it is gone and has certainly not looked at the request, so
        /// that the same can be asked of the store itself.
        gone: bool,
    },
}

/// A limit on all volumes of a user is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLimitReached {
    /// Which, and by how much.
    pub over: OverLimit,
    /// The user's volumes outside the trash.
    pub volumes: u64,
    /// The user's volumes in the trash.
    pub trashed: u64,
    /// What those are charged.
    pub trashed_usage: Usage,
}

impl fmt::Display for UserLimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = &self.over;
        let user = over.user.unwrap_or_default();
        let (volumes, trashed) = (self.volumes, self.trashed);
        let (option, limit, taken, in_trash) = match over.resource {
            Resource::Volumes => (
                "volumes",
                format!("{} volumes", over.limit),
                over.taken.to_string(),
                trashed.to_string(),
            ),
            Resource::Bytes => (
                "bytes",
                format!("{} in volumes", Bytes(over.limit)),
                Bytes(over.taken).to_string(),
                self.trashed_usage.bytes.to_string(),
            ),
            Resource::Inodes => (
                "inodes",
                format!("{} inodes in volumes", over.limit),
                over.taken.to_string(),
                self.trashed_usage.inodes.to_string(),
            ),
        };
        write!(
            f,
            "user {user} may have {limit} and has {taken}, of which {in_trash} in the trash ({volumes} volumes, and {trashed} in the trash); remove something, have the trash emptied with 'volfs trash empty NAME', or have the store mounted with a higher --user-{option}"
        )
    }
}

/// The result of an operation on volumes.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An I/O error on `path` while doing `action` (a verb).
    pub fn io(action: &str, path: impl AsRef<Path>, source: &io::Error) -> Self {
        Self::Io {
            action: action.to_owned(),
            path: path.as_ref().to_owned(),
            errno: errno(source),
        }
    }
}

impl Error {
    /// A file of a store that cannot be opened or read: for the system's
    /// reason, or because it is no file.
    pub(super) fn unusable(store: &Path, path: &Path, source: &io::Error) -> Self {
        match source.raw_os_error() {
            Some(_) => Self::io("read", path, source),
            None => Self::BadStore {
                store: store.to_owned(),
                why: format!("{path:?}: {source}"),
            },
        }
    }

    /// What kind of I/O error it is, for errors of a file: not found, already
    /// exists, is a directory. `None` for everything that is not one.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Io { errno, .. } => Some(io::Error::from_raw_os_error(*errno).kind()),
            Self::NoSpace { .. } => Some(io::ErrorKind::StorageFull),
            _ => None,
        }
    }
}

/// The system's error number, also of an error that was wrapped to say more.
fn errno(error: &io::Error) -> i32 {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(errno) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return errno;
        }
        source = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    // Some wrap an error and keep its kind alone.
    match error.kind() {
        io::ErrorKind::NotFound => libc::ENOENT,
        io::ErrorKind::PermissionDenied => libc::EACCES,
        io::ErrorKind::AlreadyExists => libc::EEXIST,
        io::ErrorKind::NotADirectory => libc::ENOTDIR,
        io::ErrorKind::IsADirectory => libc::EISDIR,
        io::ErrorKind::StorageFull => libc::ENOSPC,
        io::ErrorKind::QuotaExceeded => libc::EDQUOT,
        io::ErrorKind::ReadOnlyFilesystem => libc::EROFS,
        _ => libc::EIO,
    }
}

/// What has become of the rest of the trash.
fn rest(kept: usize, deleted: usize) -> String {
    let kept = match kept {
        0 => String::new(),
        more => format!(", as do {more} others"),
    };
    match deleted {
        0 => kept,
        deleted => format!("{kept}; {deleted} were deleted"),
    }
}

fn errno_text(errno: i32) -> String {
    let text = nix::errno::Errno::from_raw(errno).desc().to_owned();
    format!("{text} (os error {errno})")
}
