//! Deleting a volume's directory tree, whatever its owners have made of it.
//!
//! Knows no volume: it is given a directory that nobody else uses.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::error::{Error, Result};
use crate::failpoint;
use crate::sys::file_flags;
use crate::sys::node;

const OPEN_DIR: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// How many names of one directory are in memory at a time.
const SOME: usize = 8192;

/// How a deletion goes on, and whether.
pub(super) struct Steps<'a> {
    /// Grows by one with each file and directory that is deleted.
    pub deleted: &'a AtomicU64,
    /// Asked before each; `true` ends it there.
    pub stop: &'a dyn Fn() -> bool,
    /// Given each name first; `true` when it is not there any more, as somebody
    /// has use for what it took.
    pub salvage: &'a dyn Fn(BorrowedFd<'_>, &CStr) -> bool,
}

/// Deletes the directory `top` and all below it, to the end.
///
/// # Errors
/// As [`delete_tree`].
pub(super) fn delete_whole_tree(top: &Path) -> Result<()> {
    let deleted = AtomicU64::new(0);
    let steps = Steps {
        deleted: &deleted,
        stop: &|| false,
        salvage: &|_, _| false,
    };
    delete_tree(top, &steps).map(drop)
}

/// Deletes the directory `top` and all below it. What is not there is deleted.
/// `false` when `steps` had it stop before the end.
///
/// Directories that are not empty are moved up into `top` and deleted from
/// there, so that a tree of any depth takes two descriptors and no stack, no
/// symbolic link is ever followed, and a deletion that was cut can be begun
/// again at any point.
///
/// # Errors
/// The first thing that could not be deleted; the rest of it stays.
pub(super) fn delete_tree(top: &Path, steps: &Steps<'_>) -> Result<bool> {
    let error = |errno: Errno| Error::io("delete", top, &errno.into());
    let opened = match (top.parent(), top.file_name()) {
        (Some(above), Some(name)) => nix::fcntl::open(above, OPEN_DIR, Mode::empty())
            .and_then(|above| node::open_beneath(above, name, OPEN_DIR, Mode::empty()))
            .and_then(Dir::from_fd),
        _ => Err(Errno::EINVAL),
    };
    let dir = match opened {
        Ok(dir) => dir,
        Err(Errno::ENOENT) => return Ok(true),
        Err(errno) => return Err(error(errno)),
    };
    match Flatten::new(dir, steps).run() {
        Ok(()) => {}
        Err(STOPPED) => return Ok(false),
        Err(errno) => return Err(error(errno)),
    }
    match std::fs::remove_dir(top) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("delete", top, &e)),
        _ => Ok(true),
    }
}

/// Not an error of any of the calls here.
const STOPPED: Errno = Errno::ECANCELED;

struct Flatten<'a> {
    steps: &'a Steps<'a>,
    top: Dir,
    // Directories in `top` that are to be emptied.
    queue: Vec<CString>,
    // For names in `top` that nothing has.
    next: u64,
}

impl<'a> Flatten<'a> {
    fn new(top: Dir, steps: &'a Steps<'a>) -> Self {
        Self {
            steps,
            top,
            queue: Vec::new(),
            next: 0,
        }
    }

    fn run(&mut self) -> nix::Result<()> {
        for name in names(&mut self.top, usize::MAX)? {
            if !self.remove(self.top.as_fd(), &name)? {
                self.queue.push(name);
            }
        }
        let mut patience = 100;
        while let Some(name) = self.queue.pop() {
            self.empty(&name)?;
            self.step()?;
            match unlinkat(self.top.as_fd(), name.as_c_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) => {}
                // Somebody who still has it open has put something there.
                Err(Errno::ENOTEMPTY | Errno::EEXIST) if patience > 0 => {
                    patience -= 1;
                    self.queue.push(name);
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// One more is about to be deleted.
    fn step(&self) -> nix::Result<()> {
        if (self.steps.stop)() {
            return Err(STOPPED);
        }
        self.steps.deleted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn remove(&self, dir: BorrowedFd<'_>, name: &CStr) -> nix::Result<bool> {
        if (self.steps.stop)() {
            return Err(STOPPED);
        }
        failpoint::hit("purge.step");
        let removed = (self.steps.salvage)(dir, name)
            || match remove(dir, name) {
                Err(Errno::EPERM) => {
                    unprotect(dir, name)?;
                    remove(dir, name)?
                }
                other => other?,
            };
        if removed {
            self.steps.deleted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(removed)
    }

    fn empty(&mut self, name: &CStr) -> nix::Result<()> {
        let open = |top: BorrowedFd<'_>| open_dir(top, name);
        let mut dir = match open(self.top.as_fd()) {
            // A directory that its owner has closed to himself.
            Err(Errno::EACCES) => {
                self.unlock(self.top.as_fd(), name)?;
                open(self.top.as_fd())?
            }
            other => other?,
        };
        loop {
            let entries = names(&mut dir, SOME)?;
            for entry in &entries {
                let removed = match self.remove(dir.as_fd(), entry) {
                    // Readable, but neither writable nor searchable.
                    Err(Errno::EACCES) => {
                        self.unlock(self.top.as_fd(), name)?;
                        self.remove(dir.as_fd(), entry)?
                    }
                    other => other?,
                };
                if !removed {
                    self.move_up(dir.as_fd(), entry)?;
                }
            }
            // All of them are gone from here, so that the next listing goes on.
            if entries.len() < SOME {
                return Ok(());
            }
        }
    }

    fn move_up(&mut self, from: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
        loop {
            let moved = CString::new(format!(".deleting-{}", self.next))
                // OK to fail: digits and letters hold no NUL.
                .map_err(|_| Errno::EINVAL)?;
            self.next += 1;
            match renameat(from, name, self.top.as_fd(), moved.as_c_str()) {
                Ok(()) => {
                    self.queue.push(moved);
                    return Ok(());
                }
                // A directory of an earlier try has this name and is not empty.
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
                // Its ".." has to change, which its owner may have forbidden.
                Err(Errno::EACCES) => {
                    self.unlock(from, name)?;
                    renameat(from, name, self.top.as_fd(), moved.as_c_str())?;
                    self.queue.push(moved);
                    return Ok(());
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Gives the owner all rights.
    fn unlock(&self, dir: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
        fchmodat(dir, name, Mode::S_IRWXU, FchmodatFlags::NoFollowSymlink)
    }
}

/// Lets go what nobody may change: a directory and what `name` is in it (`chattr +i`,
/// `chattr +a`). Without the right to that, or where there is nothing to let go, the
/// next try fails as the first did.
fn unprotect(dir: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    let clear = |fd: BorrowedFd<'_>| {
        let protects = file_flags::IMMUTABLE | file_flags::APPEND;
        if let Ok(flags) = file_flags::get(fd)
            && flags & protects != 0
        {
            let _ = file_flags::set(fd, flags & !protects);
        }
    };
    clear(dir);
    let stat = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    // Opening anything else may do something.
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    if matches!(kind, SFlag::S_IFREG | SFlag::S_IFDIR) {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        if let Ok(file) = openat(dir, name, flags, Mode::empty()) {
            clear(file.as_fd());
        }
    }
    Ok(())
}

/// Opens a directory of the tree; not what is mounted on one, which is somebody
/// else's (EXDEV).
fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> nix::Result<Dir> {
    let name = std::ffi::OsStr::from_bytes(name.to_bytes());
    Dir::from_fd(node::open_beneath(dir, name, OPEN_DIR, Mode::empty())?)
}

/// The first entries of a directory, at most `most`. Read before any of them is
/// removed, as reading goes wrong on some file systems when entries vanish.
fn names(dir: &mut Dir, most: usize) -> nix::Result<Vec<CString>> {
    dir.iter()
        .filter(|entry| {
            !entry
                .as_ref()
                .is_ok_and(|it| matches!(it.file_name().to_bytes(), b"." | b".."))
        })
        .take(most)
        .map(|entry| entry.map(|it| it.file_name().to_owned()))
        .collect()
}

/// Removes a file or an empty directory; `false` for a directory that holds
/// something.
fn remove(dir: BorrowedFd<'_>, name: &CStr) -> nix::Result<bool> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(true),
        // EISDIR is Linux's, EPERM is POSIX's word for "a directory".
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    match unlinkat(dir, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        // It was not a directory: the first refusal was the true one.
        Err(Errno::ENOTDIR) => Err(Errno::EPERM),
        Err(errno) => Err(errno),
    }
}
