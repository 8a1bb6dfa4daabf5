//! Requests that an earlier process has begun: what it was about to do is noted
//! in the journal, and whether it has done it can be seen in the directory. The
//! kernel keeps a directory locked while a change of it is under way, so that
//! nobody else has changed it meanwhile.
//!
//! Operations that come to the same when they are done twice are not here:
//! reads, writes (the kernel says where, also for O_APPEND), allocations,
//! attributes.

use std::ffi::OsStr;
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::stat::FileStat;

use crate::fuse::error::OpResult;
use crate::fuse::fs::{FileSystem, Located, OpenDir};
use crate::fuse::live::journal::{self, Again, Intent};
use crate::fuse::node::NodeId;
use crate::fuse::types::Opened;
use crate::sys::node;

/// What a truncation to nothing, as of an open with O_TRUNC, notes when it is done.
pub(super) const EMPTIED: u64 = 1;

/// The request that this thread serves, if it was begun and came as far as its
/// intent.
fn begun_before() -> Option<(Rc<Again>, Intent)> {
    let again = journal::again()?;
    let intent = again.intent.clone()?;
    Some((again, intent))
}

/// What `name` in `dir` is; `None` when it is not there.
fn look(dir: &OpenDir, name: &OsStr) -> OpResult<Option<FileStat>> {
    match node::open_path(&dir.fd, name) {
        Ok(fd) => Ok(Some(node::stat(fd)?)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

impl FileSystem {
    /// Whether `name` in `dir` has been made for this request.
    pub(super) fn is_made_already(&self, dir: &OpenDir, name: &OsStr) -> OpResult<bool> {
        match begun_before() {
            Some((_, intent)) if intent.parent == dir.at.node && intent.name == name => {
                Ok(look(dir, name)?.is_some())
            }
            _ => Ok(false),
        }
    }

    /// Whether `node` has got the name `name` in `dir` by this request.
    pub(super) fn is_linked_already(
        &self,
        dir: &OpenDir,
        name: &OsStr,
        node: NodeId,
    ) -> OpResult<bool> {
        match begun_before() {
            Some((_, intent)) if intent.parent == dir.at.node && intent.other == node => {
                Ok(look(dir, name)?.is_some_and(|stat| stat.st_ino == node.ino().0))
            }
            _ => Ok(false),
        }
    }

    /// Whether `name` in `dir` has been removed by this request.
    pub(super) fn is_removed_already(&self, dir: &OpenDir, name: &OsStr) -> OpResult<bool> {
        match begun_before() {
            Some((again, intent)) if intent.parent == dir.at.node && intent.name == name => {
                Ok(again.done || look(dir, name)?.is_none())
            }
            _ => Ok(false),
        }
    }

    /// What has to be known of a rename before it is done, to see afterwards
    /// that it was: where the source name leads somewhere afterwards too, the
    /// inode that it led to.
    pub(super) fn before_rename(
        &self,
        (from, name): (&OpenDir, &OsStr),
        flags: u32,
    ) -> OpResult<u64> {
        if flags & (libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT) == 0 {
            return Ok(0);
        }
        Ok(look(from, name)?.map_or(0, |stat| stat.st_ino))
    }

    /// Whether this request has renamed `name` in `from` to `new_name` in `to`.
    pub(super) fn is_renamed_already(
        &self,
        (from, name): (&OpenDir, &OsStr),
        (to, new_name): (&OpenDir, &OsStr),
        flags: u32,
    ) -> OpResult<bool> {
        let Some((again, intent)) = begun_before() else {
            return Ok(false);
        };
        if intent.parent != from.at.node || intent.name != name {
            return Ok(false);
        }
        if again.done {
            return Ok(true);
        }
        if flags & (libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT) == 0 {
            return Ok(look(from, name)?.is_none());
        }
        Ok(look(to, new_name)?.is_some_and(|stat| stat.st_ino == intent.before))
    }

    /// What this request has opened, if it came so far.
    pub(super) fn opened_already(&self, at: &Located) -> Option<Opened> {
        let fh = journal::again()?.opened?;
        let handle = self
            .handles
            .get(fh)
            .filter(|handle| handle.node == at.node)?;
        journal::opened(fh);
        let keep = self.keeps_cache(at.volume.slot);
        let path = handle.path(keep);
        Some(Opened { fh, path })
    }

    /// Whether this request, to truncate a file to nothing, has done that: since
    /// then others may have written to it.
    pub(super) fn is_emptied_already(&self) -> bool {
        begun_before().is_some_and(|(_, intent)| intent.before == EMPTIED)
    }

    /// Whether this request had found an attribute, before it set or removed
    /// it; `None` for one that was not begun before.
    pub(super) fn found_attribute(&self) -> Option<bool> {
        begun_before().map(|(_, intent)| intent.before != 0)
    }
}
