//! Removing files and whole directories of a volume.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::ledger::Change;
use super::name::Inside;
use crate::sys::dir;
use crate::volume::error::Result;

const OPEN_DIR: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Removes a file.
pub(super) fn file<P: ?Sized + nix::NixPath>(
    change: &Change<'_>,
    dir: BorrowedFd<'_>,
    name: &P,
) -> nix::Result<()> {
    let found = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
        return Err(Errno::EISDIR);
    }
    unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
    change.name_removed(&found);
    Ok(())
}

/// A directory whose contents are being removed.
struct Level {
    dir: OwnedFd,
    name: CString,
    left: Vec<CString>,
}

impl Level {
    fn open<P: ?Sized + nix::NixPath>(
        parent: BorrowedFd<'_>,
        name: &P,
        own: CString,
    ) -> nix::Result<Self> {
        let dir = openat(parent, name, OPEN_DIR, Mode::empty())?;
        let left = dir::names(&dir)?;
        Ok(Self {
            dir,
            name: own,
            left,
        })
    }
}

/// Removes the directory `name` of `parent` with all that it holds; each file
/// is a change of its own, so that others get their turn.
pub(super) fn tree<'a>(
    begin: impl Fn() -> Result<Change<'a>>,
    parent: OwnedFd,
    name: &Path,
    at: &Inside,
) -> Result<()> {
    let failed = |errno| at.failed("remove", errno);
    let top = Level::open(parent.as_fd(), name, CString::default()).map_err(failed)?;
    let mut levels = vec![top];
    while let Some(level) = levels.last_mut() {
        if let Some(entry) = level.left.pop() {
            let dir = level.dir.as_fd();
            match file(&begin()?, dir, entry.as_c_str()) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(Errno::EISDIR) => {
                    let below = Level::open(dir, entry.as_c_str(), entry.clone());
                    levels.push(below.map_err(failed)?);
                }
                Err(errno) => return Err(failed(errno)),
            }
            continue;
        }
        let Some(done) = levels.pop() else {
            break;
        };
        let change = begin()?;
        let removed = match levels.last() {
            Some(above) => empty_dir(&change, above.dir.as_fd(), done.name.as_c_str()),
            None => empty_dir(&change, parent.as_fd(), name),
        };
        removed.map_err(failed)?;
    }
    Ok(())
}

fn empty_dir<P: ?Sized + nix::NixPath>(
    change: &Change<'_>,
    dir: BorrowedFd<'_>,
    name: &P,
) -> nix::Result<()> {
    let found = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    unlinkat(dir, name, UnlinkatFlags::RemoveDir)?;
    change.name_removed(&found);
    Ok(())
}
