//! Counting a directory tree that somebody else may have made, and may be
//! changing.
//!
//! Every step is an `openat` or `fstatat` below an open directory that follows
//! no symbolic link, so that nothing in the tree leads out of it.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};

use super::error::{Error, Result};
use crate::meta::{Inode, charge};
use crate::model::{Bytes, Usage};

const OPEN_DIR: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// The most directories that are open at once; deeper ones are closed from
/// the top and opened again, from the root, when they are needed.
const OPEN_AT_ONCE: usize = 64;

/// What is below the directory `root`, itself not counted. `progress` is how
/// many inodes have been counted so far, for others to look at.
///
/// # Errors
/// The first directory or file that could not be read, by the path of `root`.
pub(super) fn count(root: &Path, progress: &AtomicU64) -> Result<Usage> {
    let error = |errno: Errno| Error::io("count the files in", root, &errno.into());
    let top = Dir::open(root, OPEN_DIR, Mode::empty()).map_err(error)?;
    let device = fstat(&top).map_err(error)?.st_dev;
    let mut walk = Walk {
        root,
        device,
        levels: Vec::new(),
        linked: HashSet::new(),
        found: Usage::default(),
        progress,
    };
    walk.run(top).map_err(error)?;
    Ok(walk.found)
}

struct Walk<'a> {
    root: &'a Path,
    device: u64,
    // From the root down to the directory being looked at.
    levels: Vec<Level>,
    // Inodes with several links that have been seen.
    linked: HashSet<u64>,
    found: Usage,
    progress: &'a AtomicU64,
}

struct Level {
    // Its name in the level above; empty for the root.
    name: CString,
    // Closed to save descriptors when it is far above.
    dir: Option<Dir>,
    // Directories in it that are still to be looked at.
    left: Vec<CString>,
}

impl Walk<'_> {
    fn run(&mut self, top: Dir) -> nix::Result<()> {
        self.enter(CString::default(), top)?;
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.left.pop() else {
                self.levels.pop();
                continue;
            };
            let here = self.levels.len() - 1;
            let parent = self.open_level(here)?;
            match Dir::openat(parent.as_fd(), name.as_c_str(), OPEN_DIR, Mode::empty()) {
                Ok(dir) => self.enter(name, dir)?,
                // Removed or replaced since it was listed: charged by nobody
                // or by whoever did that.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn enter(&mut self, name: CString, mut dir: Dir) -> nix::Result<()> {
        let left = self.look(&mut dir)?;
        // Not worth a level: nothing is below it.
        if !left.is_empty() || self.levels.is_empty() {
            self.levels.push(Level {
                name,
                dir: Some(dir),
                left,
            });
            if let Some(far) = self.levels.len().checked_sub(OPEN_AT_ONCE + 1) {
                self.levels[far].dir = None;
            }
        }
        Ok(())
    }

    /// Counts what is in one directory; returns the directories in it.
    fn look(&mut self, dir: &mut Dir) -> nix::Result<Vec<CString>> {
        // The descriptor again, as the iterator has the directory to itself.
        let here = dir
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| Errno::try_from(e).unwrap_or(Errno::EMFILE))?;
        let mut below = Vec::new();
        for entry in dir.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match fstatat(here.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                // A mount is another file system's business.
                Ok(stat) if stat.st_dev != self.device => {}
                Ok(stat) => {
                    if self.count(&stat) {
                        below.push(name.to_owned());
                    }
                }
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(below)
    }

    /// Counts one inode; says whether it is a directory.
    fn count(&mut self, stat: &FileStat) -> bool {
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        let is_dir = kind == SFlag::S_IFDIR;
        if !is_dir && stat.st_nlink > 1 && !self.linked.insert(stat.st_ino) {
            return false;
        }
        let inode = if is_dir {
            Inode::Directory
        } else if kind == SFlag::S_IFREG {
            Inode::File {
                size: u64::try_from(stat.st_size).unwrap_or(0),
            }
        } else {
            Inode::Other
        };
        let more = charge(inode);
        self.found = Usage {
            bytes: Bytes(self.found.bytes.0.saturating_add(more.bytes.0)),
            inodes: self.found.inodes + more.inodes,
        };
        self.progress.store(self.found.inodes, Ordering::Relaxed);
        is_dir
    }

    /// The directory of a level, opened again if it had been closed: with those
    /// above it that will be needed next, as each costs the way from the root.
    fn open_level(&mut self, at: usize) -> nix::Result<&Dir> {
        if self.levels[at].dir.is_none() {
            let mut dir = Dir::open(self.root, OPEN_DIR, Mode::empty())?;
            for next in 1..=at {
                let name: &CStr = &self.levels[next].name;
                let below = Dir::openat(dir.as_fd(), name, OPEN_DIR, Mode::empty())?;
                if next + OPEN_AT_ONCE / 2 > at {
                    self.levels[next - 1].dir = Some(dir);
                }
                dir = below;
            }
            self.levels[at].dir = Some(dir);
        }
        // Filled in the lines above if it was not.
        self.levels[at].dir.as_ref().ok_or(Errno::EBADF)
    }
}

#[cfg(test)]
mod tests;
