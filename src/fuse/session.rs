//! A mount from its start to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::Limits;
use crate::volume::{Holder, Store};

/// What `rmdir` of a volume does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RmdirPolicy {
    /// Remove an empty volume; a full one is ENOTEMPTY.
    #[default]
    Empty,
    /// Remove an empty volume; move a full one to the trash.
    Trash,
}

/// How a store is mounted.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Refuse every change (EROFS).
    pub read_only: bool,
    /// What `rmdir` of a volume does.
    pub rmdir: RmdirPolicy,
    /// Permission bits of the root directory.
    pub root_mode: u32,
    /// Limits of volumes that `mkdir` makes.
    pub default_limits: Limits,
    /// Allow device nodes to work (`dev`); the default is `nodev`.
    pub dev: bool,
    /// Honour set-user-id bits (`suid`); the default is `suid` for root.
    pub suid: bool,
    /// Allow programs to be executed.
    pub exec: bool,
    /// Do not update access times.
    pub noatime: bool,
    /// Let other users in; always so when root mounts.
    pub allow_other: bool,
    /// Use kernel passthrough where possible.
    pub passthrough: bool,
    /// Threads that serve requests; `None` is the measured default.
    pub threads: Option<usize>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            rmdir: RmdirPolicy::Empty,
            root_mode: 0o755,
            default_limits: Limits::default(),
            dev: false,
            suid: true,
            exec: true,
            noatime: false,
            allow_other: nix::unistd::geteuid().is_root(),
            passthrough: true,
            threads: None,
        }
    }
}

/// Why a mount did not come about.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mountpoint cannot be used.
    #[error("cannot mount on {path:?}: {why}")]
    Mountpoint {
        /// The mountpoint.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// `/dev/fuse` cannot be used.
    #[error("cannot use /dev/fuse: {why}")]
    Device {
        /// What is wrong and what to do.
        why: String,
    },
    /// The kernel or fusermount3 refused.
    #[error("cannot mount on {path:?}: {why}")]
    Refused {
        /// The mountpoint.
        path: PathBuf,
        /// What the system said and what to do.
        why: String,
    },
    /// The store's file system lacks what the mount needs.
    #[error("cannot serve the store {path:?}: {why}")]
    Store {
        /// The store's directory.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
}

/// Why an unmount did not come about.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Somebody uses the mount.
    #[error("{mountpoint:?} is in use by {}", .holders.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Busy {
        /// The mountpoint.
        mountpoint: PathBuf,
        /// Who uses it.
        holders: Vec<Holder>,
    },
    /// The system refused.
    #[error("cannot unmount {mountpoint:?}: {why}")]
    Refused {
        /// The mountpoint.
        mountpoint: PathBuf,
        /// What the system said.
        why: String,
    },
}

/// A mounted file system that is being served by threads of this process.
pub struct Mounted {
    mountpoint: PathBuf,
}

impl Mounted {
    /// Mounts `store` on `mountpoint` and serves it. When this returns the
    /// mount is ready to use. A stale mount of a killed daemon on the same
    /// mountpoint is cleaned first.
    ///
    /// # Errors
    /// [`MountError`]; nothing is mounted then.
    pub fn start(
        _store: Arc<Store>,
        mountpoint: &Path,
        _options: &MountOptions,
    ) -> Result<Self, MountError> {
        Err(MountError::Mountpoint {
            path: mountpoint.to_owned(),
            why: "not written yet".into(),
        })
    }

    /// The mountpoint, canonical.
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Unmounts; `lazy` detaches at once and lets who uses it finish.
    ///
    /// # Errors
    /// [`UnmountError::Busy`] when somebody uses it and `lazy` is not set.
    pub fn unmount(&self, _lazy: bool) -> Result<(), UnmountError> {
        unimplemented!()
    }

    /// Waits until the file system is unmounted, by whomever, and all threads
    /// have ended.
    ///
    /// # Errors
    /// The first error of a serving thread.
    pub fn wait(&self) -> std::io::Result<()> {
        unimplemented!()
    }
}
