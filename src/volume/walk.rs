//! Walking, and so counting, a directory tree that somebody else may have made, and may be
//! changing.
//!
//! Every step is an `openat` or `fstatat` below an open directory that follows
//! no symbolic link, so that nothing in the tree leads out of it.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstat, fstatat};

use super::error::{Error, Result};
use crate::meta::{Inode, charge};
use crate::model::{AllocationUnit, Bytes, Usage};
use crate::sys::descent::{Descent, LIST, open_below, open_top};
use crate::sys::dir;

/// Bytes of a directory that are read at a time.
const BUFFER: usize = 32 << 10;

/// What is below the directory `root`; of itself, what its names take beyond
/// the first unit; charged in units of `unit`. `progress` is how
/// many inodes have been counted so far, for others to look at.
///
/// # Errors
/// The first directory or file that could not be read, by the path of `root`.
pub(super) fn count(root: &Path, unit: AllocationUnit, progress: &AtomicU64) -> Result<Usage> {
    // Inodes with several links that have been seen.
    let mut linked = HashSet::new();
    let mut found = Usage::default();
    let top = each(root, "count", &mut |_, _, stat| {
        let inode = Inode::of(stat);
        if !inode.is_directory() && stat.st_nlink > 1 && !linked.insert(stat.st_ino) {
            return Ok(());
        }
        let more = charge(inode, unit);
        found = Usage {
            bytes: Bytes(found.bytes.0.saturating_add(more.bytes.0)),
            inodes: found.inodes + more.inodes,
        };
        progress.store(found.inodes, Ordering::Relaxed);
        Ok(())
    })?;
    let root = unit.root_bytes(top.st_size.unsigned_abs());
    found.bytes = Bytes(found.bytes.0.saturating_add(root));
    Ok(found)
}

/// Told of each name: its directory, which is open for reading, itself, and what
/// it leads to.
type Visit<'a> = dyn FnMut(&OwnedFd, &OsStr, &FileStat) -> nix::Result<()> + 'a;

/// Walks what is below the directory `root`, which is not visited itself; what
/// it was is returned. `what` is done with its files, for errors.
///
/// # Errors
/// The first that `visit` returns or a directory gives, by the path of `root`.
pub(super) fn each(root: &Path, what: &str, visit: &mut Visit<'_>) -> Result<FileStat> {
    let error = |errno: Errno| {
        let what = format!("{what} the files in");
        Error::io(&what, root, &errno.into())
    };
    let top = open_top(root, LIST).map_err(error)?;
    let found = fstat(&top).map_err(error)?;
    let mut walk = Walk {
        device: found.st_dev,
        visit,
        buffer: vec![0; BUFFER],
    };
    walk.run(top).map_err(error)?;
    Ok(found)
}

struct Walk<'a, 'v> {
    device: u64,
    visit: &'a mut Visit<'v>,
    buffer: Vec<u8>,
}

impl Walk<'_, '_> {
    fn run(&mut self, top: OwnedFd) -> nix::Result<()> {
        // For each level, the directories in it that are still to be looked at.
        let mut levels = vec![self.look(&top)?];
        let mut descent = Descent::new(top, LIST)?.wherever_they_are();
        while let Some(left) = levels.last_mut() {
            let Some(name) = left.pop() else {
                levels.pop();
                descent.leave()?;
                continue;
            };
            let dir = match open_below(descent.dir(), &name, LIST) {
                Ok(dir) => dir,
                // Removed or replaced since it was listed: charged by nobody
                // or by whoever did that.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
                Err(errno) => return Err(errno),
            };
            let below = self.look(&dir)?;
            // Otherwise there is nothing to go down for.
            if !below.is_empty() {
                levels.push(below);
                descent.enter(&name, dir)?;
            }
        }
        Ok(())
    }

    /// Visits what is in a directory that was just opened; returns the
    /// directories in it.
    fn look(&mut self, dir: &OwnedFd) -> nix::Result<Vec<OsString>> {
        let mut below = Vec::new();
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let mut entries = dir::read(dir, &mut buffer)?.peekable();
            if entries.peek().is_none() {
                self.buffer = buffer;
                return Ok(below);
            }
            for entry in entries {
                let name: &OsStr = entry.name;
                if name == "." || name == ".." {
                    continue;
                }
                match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                    // A mount is another file system's business.
                    Ok(stat) if stat.st_dev != self.device => {}
                    Ok(stat) => {
                        (self.visit)(dir, name, &stat)?;
                        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
                            below.push(name.to_owned());
                        }
                    }
                    Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
