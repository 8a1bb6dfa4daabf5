//! An image as a mounted file system, in no mount table. Knows no volumes;
//! whose images are to be trusted is the caller's decision.
//!
//! `kernel` mounts it on a loop device; `fuse2fs` has the program of that name
//! serve it where the kernel cannot; `ways` says which of them this machine
//! has; `free` that nobody else has the image.

mod error;
mod free;
mod fuse2fs;
mod kernel;
mod ways;

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;

use super::units::{BLOCK_SIZE, ImageSize};
use crate::sys::ext4;

pub use error::AttachError;
pub use free::{is_free, wait_until_free};
pub use fuse2fs::{Fuse2fs, MOUNT_PREFIX as FUSE2FS_MOUNT};
pub use kernel::{Access, Attached};
pub use ways::Ways;

/// A mounted image. Unmounted when it is dropped; also when the process is
/// killed, by the kernel.
#[derive(Debug)]
pub enum MountedImage {
    /// By the kernel, on a loop device.
    Kernel(Attached),
    /// By fuse2fs.
    Fuse2fs(Fuse2fs),
}

/// How a mounted image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// As it should be, as far as is known.
    Good,
    /// The file system has found errors in itself, and is not written any
    /// more.
    Errors(ext4::Errors),
    /// Whoever served it is gone; nothing of it can be read.
    Gone(String),
}

impl MountedImage {
    /// The root directory, open for reading.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn root(&self) -> std::io::Result<OwnedFd> {
        match self {
            Self::Kernel(attached) => attached.root(),
            Self::Fuse2fs(served) => served.root(),
        }
    }

    /// The number of the loop device.
    #[must_use]
    pub fn device(&self) -> Option<u32> {
        match self {
            Self::Kernel(attached) => Some(attached.device()),
            Self::Fuse2fs(_) => None,
        }
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        match self {
            Self::Kernel(attached) => attached.health(),
            Self::Fuse2fs(served) => served.health(),
        }
    }

    /// Unmounts, and waits until the image is free. `false` when it is not:
    /// something still has a file of it open.
    #[must_use]
    pub fn detach(self) -> bool {
        match self {
            Self::Kernel(attached) => attached.detach(),
            Self::Fuse2fs(served) => served.detach(),
        }
    }

    /// Grows the image at `path`, which is this one, while it is in use.
    ///
    /// # Errors
    /// `EPERM` without CAP_SYS_RESOURCE, `EOPNOTSUPP` where fuse2fs serves it;
    /// what the file system says. The file may be longer than the file system
    /// then, which does no harm.
    pub fn grow(&self, path: &Path, size: ImageSize) -> Result<(), Errno> {
        let Self::Kernel(attached) = self else {
            return Err(Errno::EOPNOTSUPP);
        };
        attached.grow(path, size.bytes(), size.bytes() / BLOCK_SIZE)
    }
}
