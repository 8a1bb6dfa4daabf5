//! Why an image was not mounted.

use std::path::PathBuf;

use nix::errno::Errno;

/// Why an image was not mounted.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It cannot be opened.
    #[error("the image cannot be opened: {}", .errno.desc())]
    Open {
        /// What the system said.
        errno: Errno,
    },
    /// No loop device can be had.
    #[error("no loop device can be had: {}; {}", .errno.desc(), loop_advice(*.errno))]
    Loop {
        /// What the system said.
        errno: Errno,
    },
    /// It is attached already: two mounts of one image destroy it.
    #[error(
        "the image is still attached to /dev/loop{device}; whoever has files of it open, perhaps through the mount of a daemon that was killed, must close them first"
    )]
    InUse {
        /// The number of the loop device.
        device: u32,
    },
    /// It is served by fuse2fs already.
    #[error(
        "a process (fuse2fs, of a daemon that was killed) still has the image {path:?}; it ends when files of the image that are open are closed"
    )]
    Served {
        /// The image.
        path: PathBuf,
    },
    /// Another program writes it.
    #[error(
        "another program has the image {path:?} open for writing, and two who write it destroy it; 'fuser {}' says which, end that first", .path.display()
    )]
    Written {
        /// The image.
        path: PathBuf,
    },
    /// The kernel does not mount it.
    #[error("the kernel does not mount the image: {}{}", .errno.desc(), said(.messages))]
    Mount {
        /// What the system said.
        errno: Errno,
        /// What the file system said, if anything.
        messages: String,
    },
    /// fuse2fs does not serve it.
    #[error("fuse2fs does not serve the image: {}{}", .errno.desc(), said(.messages))]
    Fuse2fs {
        /// What the system said.
        errno: Errno,
        /// What the program said, if anything.
        messages: String,
    },
    /// It was not cleanly unmounted by a program that keeps no journal, and
    /// could not be mended without choices.
    #[error(
        "the image was not cleanly unmounted, and e2fsck finds what it does not mend unasked: {said}"
    )]
    Unclean {
        /// What e2fsck said.
        said: String,
    },
    /// It can be mounted in no way that there is here.
    #[error("{why}")]
    NoWay {
        /// What is missing, and what to do.
        why: String,
    },
}

impl AttachError {
    /// What the system said.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Open { errno }
            | Self::Loop { errno }
            | Self::Mount { errno, .. }
            | Self::Fuse2fs { errno, .. } => *errno,
            Self::InUse { .. } | Self::Served { .. } | Self::Written { .. } => Errno::EBUSY,
            Self::Unclean { .. } => Errno::EUCLEAN,
            Self::NoWay { .. } => Errno::EROFS,
        }
    }

    /// Whether this machine, not the image, is the reason.
    #[must_use]
    pub fn is_lack_of_means(&self) -> bool {
        match self {
            Self::Loop { .. } | Self::NoWay { .. } => true,
            Self::Mount { errno, .. } => {
                matches!(errno, Errno::EPERM | Errno::EACCES | Errno::ENODEV)
            }
            Self::Open { .. }
            | Self::InUse { .. }
            | Self::Served { .. }
            | Self::Written { .. }
            | Self::Fuse2fs { .. }
            | Self::Unclean { .. } => false,
        }
    }
}

fn loop_advice(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT | Errno::ENXIO | Errno::ENODEV | Errno::ENOTTY => {
            "load the module 'loop', or give the container /dev/loop-control and the loop devices"
        }
        Errno::EPERM | Errno::EACCES => "mount as root",
        _ => "'losetup -a' lists those that are in use",
    }
}

fn said(messages: &str) -> String {
    if messages.is_empty() {
        String::new()
    } else {
        format!(" ({messages})")
    }
}
