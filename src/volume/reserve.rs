//! A little space that is kept back, so that volumes can be removed when the
//! file system is full.
//!
//! The commits of the catalogue have space of their own while a store is open
//! (see [`Catalogue::keep_room`](crate::meta::Catalogue::keep_room)). This is what
//! they get it from when a store on a full file system is opened, and what a
//! directory takes that must grow for a name. It comes back from the first file
//! that is deleted and large enough: that becomes the reserve, so that its space
//! is never free for others in between.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstatat};
use nix::sys::statvfs::statvfs;

use crate::sys::{allocation, node};

/// More than the catalogue's room, and than what inodes and directories take that are
/// made when a store is opened.
const BYTES: u64 = 1 << 20;

/// Less is of no use.
const LEAST: u64 = 64 << 10;

/// No space is kept back on a file system with less than this left: not the
/// last space of all.
const LEAVE: u64 = 2 << 20;

/// The file that holds the space.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    there: AtomicBool,
}

impl Reserve {
    /// The one that an earlier process may have left.
    pub(super) fn new(path: PathBuf) -> Self {
        let there = fs::metadata(&path).is_ok_and(|found| found.len() > 0);
        Self {
            there: AtomicBool::new(there),
            path,
        }
    }

    /// Gives the space back to the file system. Says whether there was any.
    pub(super) fn release(&self) -> bool {
        // Not removed: what a removed file takes may be freed later. And on disk, as
        // what is freed may be given out only then.
        let empty = || {
            let file = fs::OpenOptions::new().write(true).open(&self.path)?;
            file.set_len(0)?;
            file.sync_all()
        };
        self.there.swap(false, Ordering::AcqRel) && empty().is_ok()
    }

    /// Takes the space again, once there is plenty.
    pub(super) fn refill(&self) {
        if !self.there.load(Ordering::Acquire) && self.available() >= LEAVE {
            self.take(BYTES);
        }
    }

    /// Says whether it is there.
    fn take(&self, bytes: u64) -> bool {
        let filled = self.fill(bytes);
        match &filled {
            Ok(()) => self.there.store(true, Ordering::Release),
            Err(error) => log::debug!("no space is kept back in {:?}: {error}", self.path),
        }
        filled.is_ok()
    }

    fn fill(&self, bytes: u64) -> io::Result<()> {
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)?;
        let filled = match node::fallocate(&file, 0, 0, bytes) {
            Ok(()) => Ok(()),
            Err(nix::errno::Errno::EOPNOTSUPP) => write_noise(&file, bytes),
            Err(errno) => Err(errno.into()),
        };
        if filled.is_err() {
            // What it has of it.
            file.set_len(0)?;
        }
        filled
    }

    /// Makes the file `name` of `dir`, which is about to be deleted, the reserve,
    /// if there is none and it is one of those that can be. Then it is not there
    /// any more.
    pub(super) fn salvage(&self, dir: BorrowedFd<'_>, name: &CStr) -> bool {
        if self.there.load(Ordering::Acquire) {
            return false;
        }
        let Ok(found) = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) else {
            return false;
        };
        if found.st_mode & libc::S_IFMT != libc::S_IFREG
            || found.st_nlink != 1
            || allocation::blocks(&found) < BYTES
        {
            return false;
        }
        let salvaged = self.take_over(dir, name);
        if let Err(error) = &salvaged {
            log::debug!("no space is kept back of what is deleted: {error}");
        }
        salvaged.is_ok_and(|it| it)
    }

    fn take_over(&self, dir: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let file = File::from(openat(dir, name, flags, Mode::empty())?);
        file.set_len(BYTES)?;
        // What it has may be behind a hole, or another file's as well.
        if file.metadata()?.blocks() * 512 < BYTES || file.metadata()?.nlink() != 1 {
            return Ok(false);
        }
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        fchown(&file, Some(uid.as_raw()), Some(gid.as_raw()))?;
        renameat(dir, name, AT_FDCWD, &self.path)?;
        self.there.store(true, Ordering::Release);
        Ok(true)
    }

    fn available(&self) -> u64 {
        let Some(dir) = self.path.parent() else {
            return 0;
        };
        // The types differ from platform to platform.
        #[allow(clippy::useless_conversion)]
        statvfs(dir).map_or(0, |fs| {
            u64::from(fs.blocks_available()).saturating_mul(u64::from(fs.fragment_size()))
        })
    }
}

impl Drop for Reserve {
    /// The catalogue is closed, and has given back what its log had: enough for
    /// the next one, though nothing else may be left.
    fn drop(&mut self) {
        if self.there.load(Ordering::Acquire) {
            return;
        }
        // Not by what is said to be left: what was removed may be freed when there
        // is a want of it, and no earlier.
        let mut bytes = BYTES;
        while bytes >= LEAST && !self.take(bytes) {
            bytes /= 2;
        }
    }
}

fn write_noise(mut file: &File, bytes: u64) -> io::Result<()> {
    // Random enough that no file system stores it as less.
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = Vec::with_capacity(4096);
    for _ in 0..bytes / 4096 {
        block.clear();
        while block.len() < 4096 {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            block.extend_from_slice(&word.to_le_bytes());
        }
        io::Write::write_all(&mut file, &block)?;
    }
    Ok(())
}
