//! The way down a directory tree of any depth, with few open descriptors.
//!
//! Directories far above are closed, and opened again when they are needed:
//! as `..` of the one below, or from the top where somebody has moved that
//! meanwhile; where those that are above have been moved as well, by its handle.
//! A directory that is opened again is the same inode as before, or it is an
//! error.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode};

use super::handle::{self, HostHandle};
use super::{Result, node};

/// How directories are opened for reading: never through a link, and without
/// leaving a trace of it where that is allowed.
pub const LIST: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NOATIME)
    .union(OFlag::O_CLOEXEC);

/// As [`LIST`], for what is only to be gone through.
pub const PASS: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// The most directories that are open at once, besides the top.
const OPEN_AT_ONCE: usize = 64;

/// Opens a directory itself, with [`LIST`] or [`PASS`].
///
/// # Errors
/// As `open(2)`: `ELOOP` and `ENOTDIR` for what is no directory.
pub fn open_top(path: &Path, flags: OFlag) -> Result<OwnedFd> {
    without_trace(flags, |flags| open(path, flags, Mode::empty()))
}

/// Opens the directory `name` of `dir`, with [`LIST`] or [`PASS`].
///
/// # Errors
/// As [`open_top`].
pub fn open_below(dir: impl AsFd, name: &OsStr, flags: OFlag) -> Result<OwnedFd> {
    without_trace(flags, |flags| {
        openat(dir.as_fd(), name, flags, Mode::empty())
    })
}

fn without_trace(flags: OFlag, open: impl Fn(OFlag) -> Result<OwnedFd>) -> Result<OwnedFd> {
    match open(flags) {
        // Only the owner may leave the access time alone.
        Err(Errno::EPERM) => open(flags - OFlag::O_NOATIME),
        other => other,
    }
}

/// A directory, and those above it up to the top.
#[derive(Debug)]
pub struct Descent {
    flags: OFlag,
    top: OwnedFd,
    here: OwnedFd,
    // From the one below the top down to `here`.
    names: Vec<OsString>,
    // Which inodes they are.
    inodes: Vec<Inode>,
    // The last of those above `here` and below the top, as far as they are
    // open.
    above: VecDeque<OwnedFd>,
    // Those above that, from the one below the top on, wherever they are by
    // now; `None` when it is not wanted, or the file system has no handles.
    handles: Option<Vec<Option<Box<HostHandle>>>>,
}

type Inode = (u64, u64);

fn inode(stat: &FileStat) -> Inode {
    (stat.st_dev, stat.st_ino)
}

impl Descent {
    /// Begins at `top`; directories are opened again with `flags`.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn new(top: OwnedFd, flags: OFlag) -> Result<Self> {
        let here = top.try_clone().map_err(|_| Errno::EMFILE)?;
        Ok(Self {
            flags,
            top,
            here,
            names: Vec::new(),
            inodes: Vec::new(),
            above: VecDeque::new(),
            handles: None,
        })
    }

    /// Also comes back to a directory that has been moved to elsewhere on the
    /// file system: for who only looks at it. That takes CAP_DAC_READ_SEARCH.
    #[must_use]
    pub fn wherever_they_are(self) -> Self {
        Self {
            handles: Some(Vec::new()),
            ..self
        }
    }

    /// The directory that it has come to.
    #[must_use]
    pub fn dir(&self) -> &OwnedFd {
        &self.here
    }

    /// Goes down to the directory `name`, which has been opened as `dir`.
    ///
    /// # Errors
    /// As `fstat(2)`.
    pub fn enter(&mut self, name: &OsStr, dir: OwnedFd) -> Result<()> {
        let inode = inode(&node::stat(&dir)?);
        let left = std::mem::replace(&mut self.here, dir);
        // The top is kept anyway.
        if !self.names.is_empty() {
            self.above.push_back(left);
        }
        if self.above.len() > OPEN_AT_ONCE
            && let Some(closed) = self.above.pop_front()
            && let Some(handles) = &mut self.handles
        {
            handles.push(handle::of_fd(&closed).ok().map(Box::new));
        }
        self.names.push(name.to_owned());
        self.inodes.push(inode);
        Ok(())
    }

    /// Goes up by one, and returns what it has left and how that is called
    /// there; `None` at the top.
    ///
    /// # Errors
    /// `ESTALE` when the directory above is no longer to be found. The next call
    /// then goes up to the one above that.
    pub fn leave(&mut self) -> Result<Option<(OwnedFd, OsString)>> {
        let Some(name) = self.names.pop() else {
            return Ok(None);
        };
        self.inodes.pop();
        let above = match self.above.pop_back() {
            Some(open) => open,
            None => {
                let handles = self.handles.as_mut();
                let handle = handles.and_then(|all| {
                    // Nothing that is open is above it.
                    all.truncate(self.names.len());
                    all.pop().flatten()
                });
                self.open_again(handle.as_deref())?
            }
        };
        Ok(Some((std::mem::replace(&mut self.here, above), name)))
    }

    /// Opens what is now the last of `names`.
    fn open_again(&self, handle: Option<&HostHandle>) -> Result<OwnedFd> {
        let Some(wanted) = self.inodes.last() else {
            return self.top.try_clone().map_err(|_| Errno::EMFILE);
        };
        let same = |dir: &OwnedFd| node::stat(dir).is_ok_and(|it| inode(&it) == *wanted);
        if let Ok(dir) = open_below(&self.here, OsStr::new(".."), self.flags)
            && same(&dir)
        {
            return Ok(dir);
        }
        match self.open_by_names() {
            Ok(dir) if same(&dir) => return Ok(dir),
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
            Err(errno) => return Err(errno),
        }
        let by_handle =
            |handle| without_trace(self.flags, |flags| handle::open(&self.top, handle, flags)).ok();
        handle.and_then(by_handle).filter(same).ok_or(Errno::ESTALE)
    }

    /// Opens what is found under all of `names`.
    fn open_by_names(&self) -> Result<OwnedFd> {
        let mut dir = self.top.try_clone().map_err(|_| Errno::EMFILE)?;
        for name in &self.names {
            dir = open_below(&dir, name, self.flags)?;
        }
        Ok(dir)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A descent to `d/d/…`, `depth` levels below `top`.
    fn descend(top: &Path, depth: usize) -> Descent {
        let descent = Descent::new(open_top(top, LIST).unwrap(), LIST).unwrap();
        descend_in(descent, depth)
    }

    fn descend_in(mut descent: Descent, depth: usize) -> Descent {
        let name = OsStr::new("d");
        for _ in 0..depth {
            let _ = nix::sys::stat::mkdirat(descent.dir(), name, Mode::S_IRWXU);
            let below = open_below(descent.dir(), name, LIST).unwrap();
            descent.enter(name, below).unwrap();
        }
        descent
    }

    fn rise(descent: &mut Descent, by: usize) {
        for _ in 0..by {
            assert_eq!(descent.leave().unwrap().unwrap().1, "d");
        }
    }

    fn ino(dir: &OwnedFd) -> Inode {
        inode(&node::stat(dir).unwrap())
    }

    #[test]
    fn it_comes_back_to_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let depth = 3 * OPEN_AT_ONCE;
        let mut descent = descend(dir.path(), depth);
        assert_eq!(descent.above.len(), OPEN_AT_ONCE);
        for at in (0..depth).rev() {
            rise(&mut descent, 1);
            let path = dir.path().join("d/".repeat(at));
            assert_eq!(ino(descent.dir()), ino(&open_top(&path, LIST).unwrap()));
        }
        assert!(descent.leave().unwrap().is_none());
    }

    /// Somebody moves what is far below to elsewhere: what was above it is
    /// found from the top.
    #[test]
    fn what_is_below_was_moved() {
        let dir = tempfile::tempdir().unwrap();
        let mut descent = descend(dir.path(), 2 * OPEN_AT_ONCE);
        let at = OPEN_AT_ONCE - 1;
        rise(&mut descent, 2 * OPEN_AT_ONCE - at - 1);
        assert!(descent.above.is_empty());
        let path = dir.path().join("d/".repeat(at));
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(path.join("d"), &elsewhere).unwrap();
        assert_eq!(
            ino(descent.dir()),
            ino(&open_top(&elsewhere, LIST).unwrap())
        );
        rise(&mut descent, 1);
        assert_eq!(ino(descent.dir()), ino(&open_top(&path, LIST).unwrap()));
    }

    /// … and puts something else, or a link, in the place of what was above.
    #[test]
    fn what_was_above_is_something_else() {
        for link in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let mut descent = descend(dir.path(), 2 * OPEN_AT_ONCE);
            rise(&mut descent, OPEN_AT_ONCE);
            assert!(descent.above.is_empty());
            let here = dir.path().join("d/".repeat(OPEN_AT_ONCE));
            // Without a slash at its end.
            let path = here.parent().unwrap().to_owned();
            fs::rename(here, dir.path().join("here")).unwrap();
            fs::rename(&path, dir.path().join("above")).unwrap();
            if link {
                std::os::unix::fs::symlink(dir.path().join("above"), &path).unwrap();
            } else {
                fs::create_dir(&path).unwrap();
            }
            assert_eq!(descent.leave().map(drop), Err(Errno::ESTALE));
        }
    }

    /// What is below and what is above were moved, each to elsewhere; what is
    /// above is gone.
    #[test]
    fn all_of_it_was_moved() {
        for removed in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let depth = 3 * OPEN_AT_ONCE;
            let descent = Descent::new(open_top(dir.path(), LIST).unwrap(), LIST).unwrap();
            let mut descent = descend_in(descent.wherever_they_are(), depth);
            let at = |level: usize| dir.path().join("d/".repeat(level));
            let wanted: Vec<_> = (0..depth)
                .map(|level| ino(&open_top(&at(level), LIST).unwrap()))
                .collect();
            let middle = OPEN_AT_ONCE + OPEN_AT_ONCE / 2;
            fs::rename(at(middle + 1), dir.path().join("below")).unwrap();
            fs::rename(at(middle), dir.path().join("middle")).unwrap();
            fs::rename(at(10), dir.path().join("above")).unwrap();
            if removed {
                fs::remove_dir(dir.path().join("middle")).unwrap();
            }
            for level in (0..depth).rev() {
                if removed && level == middle {
                    assert_eq!(descent.leave().map(drop), Err(Errno::ESTALE));
                } else {
                    assert!(descent.leave().unwrap().is_some());
                    assert_eq!(ino(descent.dir()), wanted[level], "{level}");
                }
            }
            assert!(descent.leave().unwrap().is_none());
        }
    }
}
