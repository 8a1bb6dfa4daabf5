//! The files of one volume, for programs that have no mount, or do not want to
//! care where it is.
//!
//! A path is resolved by the kernel below the volume's root (`openat2(2)` with
//! `RESOLVE_BENEATH`), and what changes a name does so in a directory that was
//! opened that way. So no path, no symbolic link and no race leads out.

mod ledger;
mod name;
mod names;
mod remove;
mod restore;
mod stat;
mod stream;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat};

use self::name::Inside;
use super::api::VolumeInfo;
use super::error::{Error, Result};
use super::source::check_is;
use crate::diskimg::{LOST_AND_FOUND, MountedImage, ROOT_INODE};
use crate::meta::Inode;
use crate::sys::dir::is_empty_below;
use crate::sys::node;

pub(super) use self::ledger::{Gate, Ledger};
pub use self::stat::{Entry, FileKind, Stat};
pub use self::stream::{VolumeReader, VolumeWriter};

const DIR: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

/// The files of a volume; see [`Volumes::files`](super::Volumes::files).
///
/// Paths are relative to the volume's root, with or without a leading `/`.
/// Symbolic links are followed as far as they stay inside the volume; one that
/// leads out, and a path that does, is [`Error::Outside`]. What would exceed
/// the volume's limit is [`Error::NoSpace`].
///
/// Files are made with the ids and the umask of the process. Nothing is synced
/// to disk but by [`VolumeWriter::sync`].
#[derive(Clone, Debug)]
pub struct VolumeFs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    // Dropped in this order: the root would keep the image attached, and with
    // the ledger the lease goes, by which others may have the image.
    root: OwnedFd,
    // Attached as long as the files are used.
    image: Option<Arc<MountedImage>>,
    ledger: Option<Ledger>,
}

impl VolumeFs {
    /// The files of a volume in a mounted store: the kernel and the daemon see
    /// to its limits.
    pub(crate) fn in_mount(mountpoint: &Path, info: &VolumeInfo) -> Result<Self> {
        let path = mountpoint.join(info.name.as_str());
        let root = File::open(&path).map_err(|e| Error::io("open", &path, &e))?;
        check_is(&root, info.id, &path)?;
        Ok(Self::new(root.into(), None, None))
    }

    /// The files of a directory volume in a store that this process has.
    pub(super) fn in_store(data: &Path, ledger: Ledger) -> Result<Self> {
        let root = File::open(data).map_err(|e| Error::io("open", data, &e))?;
        Ok(Self::new(root.into(), Some(ledger), None))
    }

    /// The files in an attached image: its own file system is the limit.
    pub(super) fn in_image(image: Arc<MountedImage>, ledger: Ledger) -> Result<Self> {
        let root = image
            .root()
            .map_err(|e| Error::io("open", "the image's root", &e))?;
        Ok(Self::new(root, Some(ledger), Some(image)))
    }

    fn new(root: OwnedFd, ledger: Option<Ledger>, image: Option<Arc<MountedImage>>) -> Self {
        Self {
            inner: Arc::new(Inner {
                root,
                image,
                ledger,
            }),
        }
    }

    /// The whole contents of a file.
    ///
    /// # Errors
    /// [`Error::Outside`], I/O.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let mut contents = Vec::new();
        let mut file = self.read_stream(&path)?;
        let read = file.read_to_end(&mut contents);
        read.map_err(|e| Error::io("read", path, &e))?;
        Ok(contents)
    }

    /// The whole contents of a file of text.
    ///
    /// # Errors
    /// [`Error::Outside`], I/O; `EILSEQ` when it is not UTF-8.
    pub fn read_to_string(&self, path: impl AsRef<Path>) -> Result<String> {
        let contents = self.read(&path)?;
        String::from_utf8(contents)
            .map_err(|_| name::failed("read the text in", path.as_ref(), Errno::EILSEQ))
    }

    /// A file, to be read bit by bit.
    ///
    /// # Errors
    /// [`Error::Outside`], I/O.
    pub fn read_stream(&self, path: impl AsRef<Path>) -> Result<VolumeReader> {
        let at = Inside::new(path.as_ref())?;
        let fd = self.open(&at, OFlag::O_PATH, "open")?;
        regular(&at, &fd)?;
        let file = node::reopen(fd, OFlag::O_RDONLY).map_err(|e| at.failed("open", e))?;
        Ok(VolumeReader::new(file.into(), self.clone()))
    }

    /// Makes a file with these contents, or gives them to the one that is
    /// there.
    ///
    /// # Errors
    /// [`Error::Outside`], [`Error::NoSpace`], I/O. As with a full disk, a part
    /// may have been written then.
    pub fn write(&self, path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<()> {
        let mut file = self.write_stream(&path)?;
        file.write_all(contents.as_ref())
            .map_err(|e| name::failed_io("write", path.as_ref(), &e))
    }

    /// A new file, or an emptied one that was there, to be written bit by bit.
    ///
    /// # Errors
    /// [`Error::Outside`], [`Error::NoSpace`], I/O.
    pub fn write_stream(&self, path: impl AsRef<Path>) -> Result<VolumeWriter> {
        let at = Inside::new(path.as_ref())?;
        Ok(VolumeWriter::new(self.create(&at)?.into(), self.clone()))
    }

    /// What is in a directory, by name.
    ///
    /// # Errors
    /// [`Error::Outside`], I/O.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<Entry>> {
        let at = Inside::new(path.as_ref())?;
        let fd = self.open(&at, OFlag::O_RDONLY | OFlag::O_DIRECTORY, "list")?;
        let image = self.inner.image.as_ref();
        let image_root = image.and_then(|_| node::stat(&fd).ok());
        let mut entries = stat::list(fd).map_err(|e| at.failed("list", e))?;
        if image_root.is_some_and(|found| found.st_ino == ROOT_INODE) {
            // As in a mount.
            let root = &self.inner.root;
            let hidden = |name: &OsStr| name == LOST_AND_FOUND && is_empty_below(root, name);
            entries.retain(|entry| !hidden(&entry.name));
        }
        Ok(entries)
    }

    /// Makes a directory, and those above it that are not there. One that is
    /// there already is no error.
    ///
    /// # Errors
    /// [`Error::Outside`], [`Error::NoSpace`], I/O.
    pub fn mkdir(&self, path: impl AsRef<Path>) -> Result<()> {
        let at = Inside::new(path.as_ref())?;
        for some in at.prefixes() {
            match self.open(&some, DIR, "make") {
                Ok(_) => continue,
                Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
            let (parent, name) = self.parent_of(&some, "make")?;
            let change = self.begin()?;
            let mut names = change.names(&parent).map_err(|e| at.failed("make", e))?;
            let size = change.keeps().map_or(0, |(_, growth)| growth.made());
            let made = Some(Inode::Directory { size });
            let room = names.reserve(made, name.as_os_str(), &at)?;
            match mkdirat(&parent, name, Mode::from_bits_truncate(0o777)) {
                Ok(()) => {
                    let made = fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW);
                    room.commit_as(made.map_or(Inode::Directory { size }, |it| Inode::of(&it)));
                }
                // Somebody else was first.
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(at.failed("make", errno)),
            }
        }
        // A file may be where the directory should.
        self.open(&at, DIR, "make").map(drop)
    }

    /// Removes a file, or a symbolic link itself.
    ///
    /// # Errors
    /// [`Error::Outside`], I/O; `EISDIR` for a directory.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<()> {
        let at = Inside::new(path.as_ref())?;
        let (parent, name) = self.parent_of(&at, "remove")?;
        let change = self.begin()?;
        remove::file(&change, parent.as_fd(), name).map_err(|e| at.failed("remove", e))
    }

    /// Removes a directory with all that it holds; never the volume's root.
    ///
    /// # Errors
    /// [`Error::Outside`], I/O; `EBUSY` for the root.
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        let at = Inside::new(path.as_ref())?;
        let (parent, name) = self.parent_of(&at, "remove")?;
        remove::tree(|| self.begin(), parent, name, &at)
    }

    /// Copies a file with its permission bits; a file that is at `to` is
    /// overwritten.
    ///
    /// # Errors
    /// [`Error::Outside`], [`Error::NoSpace`], I/O; `EINVAL` when both are the
    /// same file.
    pub fn copy(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<u64> {
        let mut source = self.read_stream(&from)?;
        let at = Inside::new(to.as_ref())?;
        let found = source.stat().map_err(|e| at.failed("copy", e))?;
        let there = self.open(&at, OFlag::O_PATH, "copy to");
        if there.is_ok_and(|it| node::stat(it).is_ok_and(|it| same(&it, &found))) {
            return Err(at.failed("copy a file to itself as", Errno::EINVAL));
        }
        let mut target = self.write_stream(&to)?;
        let copied = std::io::copy(&mut source, &mut target)
            .map_err(|e| name::failed_io("copy to", to.as_ref(), &e))?;
        target
            .set_mode(found.st_mode & 0o777)
            .map_err(|e| at.failed("set the mode of", e))?;
        Ok(copied)
    }

    /// Gives a file or directory another name, in the place of a file or empty
    /// directory that may have it.
    ///
    /// # Errors
    /// [`Error::Outside`], I/O.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        let (old, new) = (Inside::new(from.as_ref())?, Inside::new(to.as_ref())?);
        let (old_parent, old_name) = self.parent_of(&old, "rename")?;
        let (new_parent, new_name) = self.parent_of(&new, "rename to")?;
        let change = self.begin()?;
        let look =
            |dir: &OwnedFd, name: &Path| fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok();
        let (moved, replaced) = (look(&old_parent, old_name), look(&new_parent, new_name));
        let failed = |errno| old.failed("rename", errno);
        let mut names = change.names(&new_parent).map_err(failed)?;
        let other = names.and(&old_parent).map_err(failed)?;
        if replaced.is_none() {
            names.reserve(None, new_name.as_os_str(), &new)?;
        }
        node::rename(
            &old_parent,
            old_name.as_os_str(),
            &new_parent,
            new_name.as_os_str(),
            0,
        )
        .map_err(failed)?;
        drop((names, other));
        // Of two names of one inode, rename(2) leaves both.
        if let (Some(moved), Some(replaced)) = (moved, replaced)
            && !same(&moved, &replaced)
        {
            change.name_removed(&replaced);
        }
        Ok(())
    }

    /// What a file, or what a symbolic link leads to, is.
    ///
    /// # Errors
    /// [`Error::Outside`], I/O.
    pub fn stat(&self, path: impl AsRef<Path>) -> Result<Stat> {
        let at = Inside::new(path.as_ref())?;
        let fd = self.open(&at, OFlag::O_PATH, "look at")?;
        let found = node::stat(fd).map_err(|e| at.failed("look at", e))?;
        Ok(Stat::of(&found))
    }

    /// Whether there is something at a path. A symbolic link that leads to
    /// nothing is nothing.
    ///
    /// # Errors
    /// [`Error::Outside`], I/O.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool> {
        use std::io::ErrorKind;
        match self.stat(path) {
            Ok(_) => Ok(true),
            Err(error) => match error.io_kind() {
                Some(ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
                _ => Err(error),
            },
        }
    }
}

impl VolumeFs {
    fn open(&self, at: &Inside, flags: OFlag, action: &str) -> Result<OwnedFd> {
        node::open_inside(
            &self.inner.root,
            at.path().as_os_str(),
            flags,
            Mode::empty(),
        )
        .map_err(|errno| at.failed(action, errno))
    }

    /// Opens the directory that a name is in.
    fn parent_of<'a>(&self, at: &'a Inside, action: &str) -> Result<(OwnedFd, &'a Path)> {
        let (parent, name) = at.split().ok_or_else(|| at.failed(action, Errno::EBUSY))?;
        Ok((self.open(&parent, DIR, action)?, name))
    }

    /// Opens a regular file for writing: a new one, or one that is there,
    /// emptied.
    fn create(&self, at: &Inside) -> Result<OwnedFd> {
        let root = &self.inner.root;
        let path = at.path().as_os_str();
        let change = self.begin()?;
        match node::open_inside(root, path, OFlag::O_PATH, Mode::empty()) {
            Ok(fd) => {
                regular(at, &fd)?;
                let file = node::reopen(fd, OFlag::O_WRONLY).map_err(|e| at.failed("open", e))?;
                change.truncate(&file).map_err(|e| at.failed("empty", e))?;
                Ok(file)
            }
            Err(Errno::ENOENT) => {
                let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
                let mode = Mode::from_bits_truncate(0o666);
                let failed = |errno| at.failed("create", errno);
                let file = if change.keeps().is_some() {
                    let (dir, name) = self.place_of(at)?;
                    let mut names = change.names(&dir).map_err(failed)?;
                    let made = Inode::File { size: 0 };
                    let room = names.reserve(Some(made), &name, at)?;
                    let flags = flags | OFlag::O_NOFOLLOW;
                    let file = node::open_beneath(&dir, &name, flags, mode).map_err(failed)?;
                    room.commit_as(made);
                    file
                } else {
                    node::open_inside(root, path, flags, mode).map_err(failed)?
                };
                // In a mount somebody else may have put a fifo there meanwhile.
                regular(at, &file)?;
                Ok(file)
            }
            Err(errno) => Err(at.failed("open", errno)),
        }
    }

    /// The directory in which a file is made that is not there, and its name:
    /// where symbolic links lead whose end is not there.
    fn place_of(&self, at: &Inside) -> Result<(OwnedFd, OsString)> {
        /// path_resolution(7).
        const MOST_LINKS: usize = 40;
        let failed = |errno| at.failed("create", errno);
        let mut path = at.path().to_owned();
        for _ in 0..=MOST_LINKS {
            let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
                return Err(failed(Errno::ENOENT));
            };
            let parent = Path::new(".").join(parent);
            let dir = node::open_inside(&self.inner.root, parent.as_os_str(), DIR, Mode::empty())
                .map_err(failed)?;
            match readlinkat(&dir, name) {
                // An absolute one leads outside.
                Ok(target) => path = parent.join(target),
                Err(_) => return Ok((dir, name.to_owned())),
            }
        }
        Err(failed(Errno::ELOOP))
    }

    fn begin(&self) -> Result<ledger::Change<'_>> {
        ledger::begin(self.inner.ledger.as_ref())
    }
}

/// Opening anything else could wait for ever, or do something.
fn regular(at: &Inside, fd: &OwnedFd) -> Result<()> {
    let found = node::stat(fd).map_err(|e| at.failed("look at", e))?;
    match SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => Ok(()),
        SFlag::S_IFDIR => Err(at.failed("open", Errno::EISDIR)),
        _ => Err(at.failed("open as a file", Errno::EOPNOTSUPP)),
    }
}

fn same(a: &FileStat, b: &FileStat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}
