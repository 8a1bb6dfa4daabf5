//! Going through the files of a volume, each directory before what is in it.
//!
//! Every step is an `openat` of one name that follows no link, so that nothing
//! in the tree, and nobody who changes it meanwhile, leads out of it.

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag};

use crate::sys::descent::{Descent, LIST, open_below, open_top};
use crate::sys::{dir, node};
use crate::volume::{Error, Result};

const PATH: OFlag = OFlag::O_PATH
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Something that was found, held by a descriptor: `O_PATH`, or of a directory
/// that was opened for reading.
pub(super) struct Found<'a> {
    /// Its path from the volume's root, which is empty.
    pub path: &'a Path,
    /// The inode.
    pub fd: &'a OwnedFd,
    /// Its attributes when it was found.
    pub stat: &'a FileStat,
}

impl<'a> Found<'a> {
    fn new(path: &'a Path, fd: &'a OwnedFd, stat: &'a FileStat) -> Self {
        Self { path, fd, stat }
    }

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
    /// What was listed and is no longer there: it was moved or removed since.
    fn vanished(&mut self, path: &Path);
    /// As [`leave`](Self::leave), of a directory that cannot be come back to: it
    /// was removed since.
    fn lost(&mut self, path: &Path, stat: &FileStat) -> Result<()>;
}

struct Level {
    stat: FileStat,
    left: Vec<CString>,
}

impl Level {
    /// Of a directory that was just opened.
    fn of(dir: &OwnedFd, stat: FileStat) -> nix::Result<Self> {
        let mut left = dir::names(dir)?;
        // By name, whatever order the file system has; taken from the end.
        left.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Self { stat, left })
    }
}

/// Goes through the directory `root` and all below it, on its file system.
///
/// # Errors
/// What a visit said; the first that could not be read.
pub(super) fn walk(root: &Path, visitor: &mut impl Visit) -> Result<()> {
    let failed = |errno: Errno| Error::io("open", root, &errno.into());
    let top = open_top(root, LIST).map_err(failed)?;
    let stat = node::stat(&top).map_err(failed)?;
    let device = stat.st_dev;
    let mut path = PathBuf::new();
    let mut levels = vec![Level::of(&top, stat).map_err(failed)?];
    let descent = Descent::new(top, LIST).map_err(failed)?;
    let mut descent = descent.wherever_they_are();
    visitor.enter(&Found::new(&path, descent.dir(), &stat))?;
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.left.pop() else {
            visitor.leave(&Found::new(&path, descent.dir(), &level.stat))?;
            levels.pop();
            path.pop();
            while let Err(errno) = descent.leave() {
                match levels.pop() {
                    Some(level) if errno == Errno::ESTALE => lose(&mut path, &level, visitor)?,
                    _ => return Err(Error::io("come back to", &path, &errno.into())),
                }
            }
            continue;
        };
        let name = OsStr::from_bytes(name.to_bytes());
        path.push(name);
        let failed = |errno: Errno| Error::io("open", &path, &errno.into());
        let fd = match openat(descent.dir(), name, PATH, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => {
                visitor.vanished(&path);
                path.pop();
                continue;
            }
            Err(errno) => return Err(failed(errno)),
        };
        let stat = node::stat(&fd).map_err(failed)?;
        // What is mounted there is another file system's business.
        if stat.st_dev != device {
            path.pop();
        } else if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
            let opened = open_below(&fd, OsStr::new("."), LIST);
            match opened.and_then(|dir| Ok((Level::of(&dir, stat)?, dir))) {
                Ok((level, dir)) => {
                    levels.push(level);
                    descent.enter(name, dir).map_err(failed)?;
                    visitor.enter(&Found::new(&path, descent.dir(), &stat))?;
                }
                // Removed: a directory that is no more cannot be listed.
                Err(Errno::ENOENT | Errno::ESTALE) => {
                    visitor.vanished(&path);
                    path.pop();
                }
                Err(errno) => return Err(failed(errno)),
            }
        } else {
            visitor.visit(&Found::new(&path, &fd, &stat))?;
            path.pop();
        }
    }
    Ok(())
}

/// Gives up a directory, with all that was still to be looked at in it.
fn lose(path: &mut PathBuf, level: &Level, visitor: &mut impl Visit) -> Result<()> {
    for name in level.left.iter().rev() {
        path.push(OsStr::from_bytes(name.to_bytes()));
        visitor.vanished(path);
        path.pop();
    }
    visitor.lost(path, &level.stat)?;
    path.pop();
    Ok(())
}
