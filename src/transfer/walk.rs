//! Going through the files of a volume, each directory before what is in it.
//!
//! Every step is an `openat` of one name that follows no link, so that nothing
//! in the tree, and nobody who changes it meanwhile, leads out of it. A
//! descriptor is open for each level.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag};

use crate::sys::{dir, node};
use crate::volume::{Error, Result};

const PATH: OFlag = OFlag::O_PATH
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

const LIST: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Something that was found, held by a descriptor (`O_PATH`).
pub(super) struct Found<'a> {
    /// Its path from the volume's root, which is empty.
    pub path: &'a Path,
    /// The inode.
    pub fd: &'a OwnedFd,
    /// Its attributes when it was found.
    pub stat: &'a FileStat,
}

impl Found<'_> {
    /// Its type (`S_IFMT`).
    pub(super) fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.stat.st_mode & SFlag::S_IFMT.bits())
    }

    /// Its last name.
    pub(super) fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// What a system call said of it.
    pub(super) fn failed(&self, action: &str, errno: Errno) -> Error {
        Error::io(action, self.path, &errno.into())
    }
}

/// What is done with each.
pub(super) trait Visit {
    /// A directory, before what is in it; the root comes first.
    fn enter(&mut self, found: &Found<'_>) -> Result<()>;
    /// The directory that was entered last, after what is in it.
    fn leave(&mut self, found: &Found<'_>) -> Result<()>;
    /// Anything else.
    fn visit(&mut self, found: &Found<'_>) -> Result<()>;
}

struct Level {
    fd: OwnedFd,
    stat: FileStat,
    // For reading.
    dir: OwnedFd,
    left: Vec<CString>,
}

impl Level {
    fn open(fd: OwnedFd, stat: FileStat) -> nix::Result<Self> {
        let dir = openat(&fd, ".", LIST, Mode::empty())?;
        let mut left = dir::names(&dir)?;
        // By name, whatever order the file system has; taken from the end.
        left.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Self {
            fd,
            stat,
            dir,
            left,
        })
    }
}

/// Goes through the directory `root` and all below it, on its file system.
///
/// # Errors
/// What a visit said; the first that could not be read.
pub(super) fn walk(root: &Path, visitor: &mut impl Visit) -> Result<()> {
    let failed = |errno: Errno| Error::io("open", root, &errno.into());
    let fd = nix::fcntl::open(root, PATH | OFlag::O_DIRECTORY, Mode::empty()).map_err(failed)?;
    let stat = node::stat(&fd).map_err(failed)?;
    let device = stat.st_dev;
    let mut path = PathBuf::new();
    let mut levels = vec![Level::open(fd, stat).map_err(failed)?];
    enter(visitor, &path, &levels)?;
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.left.pop() else {
            visitor.leave(&Found {
                path: &path,
                fd: &level.fd,
                stat: &level.stat,
            })?;
            levels.pop();
            path.pop();
            continue;
        };
        path.push(OsStr::from_bytes(name.to_bytes()));
        let failed = |errno: Errno| Error::io("open", &path, &errno.into());
        let fd = match openat(level.dir.as_fd(), name.as_c_str(), PATH, Mode::empty()) {
            Ok(fd) => fd,
            // Removed since it was listed.
            Err(Errno::ENOENT) => {
                path.pop();
                continue;
            }
            Err(errno) => return Err(failed(errno)),
        };
        let stat = node::stat(&fd).map_err(failed)?;
        if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() && stat.st_dev == device {
            levels.push(Level::open(fd, stat).map_err(failed)?);
            enter(visitor, &path, &levels)?;
            continue;
        }
        // What is mounted there is another file system's business.
        if stat.st_dev == device {
            visitor.visit(&Found {
                path: &path,
                fd: &fd,
                stat: &stat,
            })?;
        }
        path.pop();
    }
    Ok(())
}

fn enter(visitor: &mut impl Visit, path: &Path, levels: &[Level]) -> Result<()> {
    match levels.last() {
        Some(level) => visitor.enter(&Found {
            path,
            fd: &level.fd,
            stat: &level.stat,
        }),
        None => Ok(()),
    }
}
