//! Removing files and whole directories of a volume.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::ledger::Change;
use super::name::Inside;
use crate::sys::descent::{Descent, LIST};
use crate::sys::{dir, node};
use crate::volume::error::Result;

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
    let names = change.names(dir)?;
    unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
    drop(names);
    change.name_removed(&found);
    Ok(())
}

/// How directories are opened. Others than the owner are not asked to leave the
/// access time alone.
const DIR: OFlag = LIST.difference(OFlag::O_NOATIME);

/// Opens a directory to be emptied; `EXDEV` where something is mounted, which is
/// not the volume's.
fn open_below(dir: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    node::open_beneath(dir, name, DIR, Mode::empty())
}

/// Removes the directory `name` of `parent` with all that it holds; each file
/// is a change of its own, so that others get their turn. Stops at a mount.
pub(super) fn tree<'a>(
    begin: impl Fn() -> Result<Change<'a>>,
    parent: OwnedFd,
    name: &Path,
    at: &Inside,
) -> Result<()> {
    let failed = |errno| at.failed("remove", errno);
    let top = open_below(&parent, name.as_os_str()).map_err(failed)?;
    // For each level, what is still to be removed in it.
    let mut levels = vec![dir::names(&top).map_err(failed)?];
    let mut descent = Descent::new(top, DIR).map_err(failed)?;
    while let Some(left) = levels.last_mut() {
        if let Some(entry) = left.pop() {
            match file(&begin()?, descent.dir().as_fd(), entry.as_c_str()) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(Errno::EISDIR) => {
                    let entry = OsStr::from_bytes(entry.to_bytes());
                    let below = open_below(descent.dir(), entry).map_err(failed)?;
                    levels.push(dir::names(&below).map_err(failed)?);
                    descent.enter(entry, below).map_err(failed)?;
                }
                Err(errno) => return Err(failed(errno)),
            }
            continue;
        }
        levels.pop();
        let left = descent.leave().map_err(failed)?;
        let change = begin()?;
        let removed = match left {
            Some((_, name)) => empty_dir(&change, descent.dir().as_fd(), name.as_os_str()),
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
    let names = change.names(dir)?;
    unlinkat(dir, name, UnlinkatFlags::RemoveDir)?;
    drop(names);
    change.name_removed(&found);
    Ok(())
}
