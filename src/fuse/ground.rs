//! What a volume's files stand on: the file system of the host that they are
//! on, and where in it the volume begins.
//!
//! All directory volumes share the store's own file system; a disk volume has
//! the one in its image, while that is attached.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::error::{OpError, OpResult};
use super::host::Host;
use super::live::KeptHere;
use crate::diskimg::{Health, ImageSize, MountedImage};
use crate::sys::filesystem::Server;
use crate::sys::{mount, node};
use crate::volume::Volume;

const ROOT_FLAGS: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW);

/// The ground of one volume or of many.
#[derive(Debug)]
pub(super) struct Ground {
    // Before the image, which it would keep attached.
    host: Host,
    begins: Begins,
    server: Server,
    /// Keeps an image attached for a successor.
    kept: Option<KeptHere>,
}

#[derive(Debug)]
enum Begins {
    /// At `ID/data` below this directory.
    Below(OwnedFd),
    /// At the root of the image, which is this file.
    Image(MountedImage, PathBuf),
}

impl Ground {
    /// The store's file system, from its directory of volumes. With `noatime`
    /// reading changes no access times, as far as this process may have it so.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn of_directories(volumes: &Path, noatime: bool) -> Result<Self, Errno> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let top = nix::fcntl::open(volumes, flags | OFlag::O_PATH, Mode::empty())?;
        let top = if noatime {
            // All files are opened from here on, by us and for the kernel.
            mount::without_access_times(volumes).unwrap_or_else(|errno| {
                log::warn!("noatime does not hold for symbolic links: {}", errno.desc());
                top
            })
        } else {
            top
        };
        // Handles are opened relative to a descriptor that is not O_PATH.
        let readable = nix::fcntl::openat(&top, ".", flags | OFlag::O_RDONLY, Mode::empty())?;
        let server = Server::of(&readable)?;
        Ok(Self {
            host: match server {
                Server::Kernel | Server::Network => Host::probe(readable)?,
                // A handle of another FUSE file system is good only until the
                // kernel forgets the inode.
                Server::Process => Host::without_handles(readable)?,
            },
            begins: Begins::Below(top),
            server,
            kept: None,
        })
    }

    /// The file system in an image.
    ///
    /// # Errors
    /// Its root cannot be opened.
    pub(super) fn of_image(
        image: MountedImage,
        path: PathBuf,
        kept: Option<KeptHere>,
    ) -> OpResult<Self> {
        let root = image.root().map_err(|_| Errno::EMFILE)?;
        let server = match image {
            MountedImage::Kernel(_) => Server::Kernel,
            MountedImage::Fuse2fs(_) => Server::Process,
        };
        Ok(Self {
            host: match server {
                Server::Process => Host::without_handles(root)?,
                Server::Kernel | Server::Network => Host::probe(root)?,
            },
            begins: Begins::Image(image, path),
            server,
            kept,
        })
    }

    /// The file system.
    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// A directory on it, for what is asked of the file system as a whole.
    pub(super) fn any_dir(&self) -> &OwnedFd {
        self.host.mount()
    }

    /// Opens (`O_PATH`) the root directory of a volume.
    pub(super) fn root_of(&self, volume: &Volume) -> OpResult<OwnedFd> {
        let (dir, path) = match &self.begins {
            Begins::Below(dir) => (dir, OsString::from(format!("{}/data", volume.id))),
            Begins::Image(..) => (self.host.mount(), OsString::from(".")),
        };
        let opened = node::open_beneath(dir, &path, ROOT_FLAGS, Mode::empty());
        opened.map_err(OpError::Host)
    }

    /// Whether the kernel may be given files of it to read and write by
    /// itself: not those that another process or machine serves. What it has
    /// not written when that dies is known to the open file alone that it was
    /// written by, and so to nobody who could tell the caller's fsync.
    pub(super) fn passes_through(&self) -> bool {
        self.server == Server::Kernel
    }

    /// Why [not](Self::passes_through).
    pub(super) fn why_not_passed_through(&self) -> Option<&'static str> {
        match self.server {
            Server::Kernel => None,
            Server::Process => Some(
                "another process serves the store's file system (FUSE); if it died, nobody would be told what it had not written",
            ),
            Server::Network => Some(
                "another machine serves the store's file system; if it went away, nobody would be told what it had not written",
            ),
        }
    }

    /// Whether an inode that is held when its last name goes shows that, by its
    /// number of links. FUSE and network file systems know inodes by their
    /// names: they say ENOENT or ESTALE of one that has none, and give one that
    /// is open a hidden name for as long (libfuse's `.fuse_hidden…`, `.nfs…`).
    pub(super) fn shows_removals(&self) -> bool {
        self.server == Server::Kernel
    }

    /// Whether nothing in it can be changed.
    pub(super) fn is_read_only(&self) -> bool {
        fstatvfs(self.any_dir()).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY))
    }

    /// Whether a process that we have started serves it, and can end.
    pub(super) fn may_vanish(&self) -> bool {
        matches!(&self.begins, Begins::Image(MountedImage::Fuse2fs(_), _))
    }

    /// The image.
    pub(super) fn image(&self) -> Option<&Path> {
        match &self.begins {
            Begins::Below(_) => None,
            Begins::Image(_, path) => Some(path),
        }
    }

    /// The number of the loop device that an image is attached to.
    pub(super) fn device(&self) -> Option<u32> {
        match &self.begins {
            Begins::Below(_) => None,
            Begins::Image(image, _) => image.device(),
        }
    }

    /// How the image is.
    pub(super) fn health(&self) -> Health {
        match &self.begins {
            Begins::Below(_) => Health::Good,
            Begins::Image(image, _) => image.health(),
        }
    }

    /// Grows the image while it is in use.
    ///
    /// # Errors
    /// As [`MountedImage::grow`].
    pub(super) fn grow(&self, size: ImageSize) -> Result<(), Errno> {
        match &self.begins {
            Begins::Below(_) => Err(Errno::EINVAL),
            Begins::Image(image, path) => image.grow(path, size),
        }
    }

    /// Unmounts an image; `false` when the kernel still has a file of it.
    pub(super) fn detach(self) -> bool {
        drop(self.kept);
        drop(self.host);
        match self.begins {
            Begins::Below(_) => true,
            Begins::Image(image, _) => image.detach(),
        }
    }
}
