//! Counting a directory tree that somebody else may have made, and may be
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
use crate::meta::{Inode, charge, root_bytes};
use crate::model::{Bytes, Usage};
use crate::sys::descent::{Descent, LIST, open_below, open_top};
use crate::sys::dir;

/// Bytes of a directory that are read at a time.
const BUFFER: usize = 32 << 10;

/// What is below the directory `root`; of itself, what its names take beyond
/// the first block. `progress` is how
/// many inodes have been counted so far, for others to look at.
///
/// # Errors
/// The first directory or file that could not be read, by the path of `root`.
pub(super) fn count(root: &Path, progress: &AtomicU64) -> Result<Usage> {
    let error = |errno: Errno| Error::io("count the files in", root, &errno.into());
    let top = open_top(root, LIST).map_err(error)?;
    let found = fstat(&top).map_err(error)?;
    let mut walk = Walk {
        device: found.st_dev,
        linked: HashSet::new(),
        found: Usage {
            bytes: Bytes(root_bytes(found.st_size.unsigned_abs())),
            inodes: 0,
        },
        buffer: vec![0; BUFFER],
        progress,
    };
    walk.run(top).map_err(error)?;
    Ok(walk.found)
}

struct Walk<'a> {
    device: u64,
    // Inodes with several links that have been seen.
    linked: HashSet<u64>,
    found: Usage,
    buffer: Vec<u8>,
    progress: &'a AtomicU64,
}

impl Walk<'_> {
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

    /// Counts what is in a directory that was just opened; returns the
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
                        if self.count(&stat) {
                            below.push(name.to_owned());
                        }
                    }
                    Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
    }

    /// Counts one inode; says whether it is a directory.
    fn count(&mut self, stat: &FileStat) -> bool {
        let inode = Inode::of(stat);
        let is_dir = inode.is_directory();
        if !is_dir && stat.st_nlink > 1 && !self.linked.insert(stat.st_ino) {
            return false;
        }
        let more = charge(inode);
        self.found = Usage {
            bytes: Bytes(self.found.bytes.0.saturating_add(more.bytes.0)),
            inodes: self.found.inodes + more.inodes,
        };
        self.progress.store(self.found.inodes, Ordering::Relaxed);
        is_dir
    }
}

#[cfg(test)]
mod tests;
