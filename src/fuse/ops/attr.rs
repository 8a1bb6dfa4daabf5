//! Reading and changing attributes: getattr, setattr.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode};
use nix::sys::time::TimeSpec;

use crate::failpoint;
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::{FileSystem, Located};
use crate::fuse::live::journal;
use crate::fuse::node::NodeId;
use crate::fuse::ops::again::EMPTIED;
use crate::fuse::types::{Attr, Caller, Fh, SetAttr, SetTime, Time};
use crate::fuse::{control_tree, image_file, property, root};
use crate::sys::creds::Acting;
use crate::sys::node;

impl FileSystem {
    /// As [`getattr`](Self::getattr), and when it was made, where that is known: not of
    /// what the host has not, nor of a disk volume that would have to be attached for it.
    ///
    /// # Errors
    /// As [`getattr`](Self::getattr).
    pub fn statx(&self, node: NodeId, fh: Option<Fh>) -> OpResult<(Attr, bool, Option<Time>)> {
        let (attr, keep) = self.getattr(node, fh)?;
        let on_host = node.slot().is_some()
            && !image_file::is_image(node)
            && !root::is_missing(node)
            && self.resting_attr(node).is_none()
            && self.view_of(node)?.is_none();
        let open = fh.and_then(|fh| self.handles.get(fh));
        let born = match open.as_ref().and_then(|open| open.file.as_ref()) {
            _ if !on_host => None,
            Some(file) => node::born(file)?,
            None => match self.open_node(node) {
                Ok((_, fd)) => node::born(fd)?,
                // Removed: only its attributes are left.
                Err(_) => None,
            },
        };
        let born = born.map(|(seconds, nanoseconds)| Time {
            seconds,
            nanoseconds,
        });
        Ok((attr, keep, born))
    }

    /// The attributes of `node`, and whether the kernel may keep them.
    ///
    /// # Errors
    /// ESTALE when the node is gone.
    pub fn getattr(&self, node: NodeId, fh: Option<Fh>) -> OpResult<(Attr, bool)> {
        if node == NodeId::ROOT {
            return Ok((root::attr(self), true));
        }
        if node.slot().is_none() {
            // An image is written and made longer by others than the kernel.
            let keep = !image_file::is_image(node);
            return Ok((control_tree::attr(self, node)?, keep));
        }
        if root::is_missing(node) {
            return Ok((root::attr_of_missing(self, node)?, false));
        }
        if let Some(resting) = self.resting_attr(node) {
            return Ok(resting);
        }
        // The kernel asks after every change in a directory, which is open for
        // that already (`fuse_dir_changed`, fs/fuse/dir.c).
        if let Some(dir) = self.open_already(node) {
            return Ok((Attr::from_host(node, &node::stat(dir)?), true));
        }
        if let Some((_, view)) = self.view_of(node)? {
            return Ok((self.view_attr(&view, node)?, true));
        }
        let open = fh.and_then(|fh| self.handles.get(fh));
        let stat = match open.as_ref().and_then(|handle| handle.file.as_ref()) {
            Some(file) => node::stat(file)?,
            None => {
                // Still referred to, by a working directory or O_PATH, and
                // emptied by us.
                if let Some(attr) = self.nodes.gone(node)
                    && self.handles.inode(node).is_none()
                {
                    return Ok((attr, true));
                }
                let (at, fd) = self.open_node(node)?;
                if self.needs_settling(node) {
                    match self.settle_passthrough(&at, &fd) {
                        // Closed meanwhile, without a name: there is no charge.
                        Err(OpError::Host(Errno::ESTALE)) if self.handles.inode(node).is_none() => {
                        }
                        settled => settled?,
                    }
                }
                node::stat(fd)?
            }
        };
        Ok((self.attr_of(node, &stat), self.keeps_attr(node)))
    }

    /// The attributes of an inode. The name that one has outside of the volume, where
    /// it is kept, is not seen.
    fn attr_of(&self, node: NodeId, stat: &FileStat) -> Attr {
        let mut attr = Attr::from_host(node, stat);
        if self.nodes.gone(node).is_some() {
            attr.nlink = 0;
        }
        attr
    }

    /// Changes attributes of `node`. The kernel has checked that the caller
    /// may, and has left it to us to clear set-user-id and set-group-id bits
    /// (FUSE_HANDLE_KILLPRIV_V2): the host does it where the thread lacks
    /// CAP_FSETID, and always for chown.
    ///
    /// # Errors
    /// What the host says; nothing is half done that one call asked for.
    pub fn setattr(
        &self,
        caller: Caller,
        node: NodeId,
        fh: Option<Fh>,
        set: &SetAttr,
    ) -> OpResult<(Attr, bool)> {
        if set.size.is_some() && image_file::is_image(node) {
            return Err(OpError::ImageSize);
        }
        if node == NodeId::ROOT || node.slot().is_none() {
            return Err(OpError::ControlTree);
        }
        let (at, fd) = self.open_node(node)?;
        self.about_to_change(&at.volume)?;
        if let Some(size) = set.size {
            self.set_size(caller, &at, fh, size)?;
        }
        if set.uid.is_some() || set.gid.is_some() {
            let chown = || -> OpResult<()> {
                let _as = self.as_owner(caller, &fd)?;
                Ok(node::chown(&fd, set.uid, set.gid)?)
            };
            match set.uid.filter(|_| property::is_root_of_volume(self, node)) {
                Some(uid) => self.store.give_away(&at.volume, uid, chown)?,
                None => chown()?,
            }
        }
        if let Some(mode) = set.mode {
            // The kernel has already taken away a set-group-id bit that the
            // caller may not set (setattr_prepare, fs/attr.c).
            let _as = Acting::keeping_set_id();
            node::chmod(&fd, Mode::from_bits_truncate(mode & 0o7777))?;
        }
        if set.atime.is_some() || set.mtime.is_some() {
            node::set_times(&fd, &time_spec(set.atime), &time_spec(set.mtime))?;
        }
        let stat = node::stat(&fd)?;
        Ok((self.attr_of(node, &stat), self.keeps_attr(node)))
    }

    /// Credentials under which the host judges set-group-id bits as it would
    /// for the caller: only where there is such a bit to judge.
    pub(super) fn as_owner(&self, caller: Caller, fd: &OwnedFd) -> OpResult<Acting> {
        if caller.is_root() || node::stat(fd)?.st_mode & libc::S_ISGID == 0 {
            return Ok(Acting::keeping_set_id());
        }
        self.as_member(caller)
    }

    fn as_member(&self, caller: Caller) -> OpResult<Acting> {
        let groups = crate::sys::process::groups_of(caller.pid);
        // The kernel has checked ownership; the caller's user id would only
        // make the host refuse what CAP_CHOWN allows.
        Ok(Acting::member(caller.uid, caller.gid, &groups)?)
    }

    fn set_size(&self, caller: Caller, at: &Located, fh: Option<Fh>, size: u64) -> OpResult<()> {
        let size = i64::try_from(size).map_err(|_| OpError::Host(nix::errno::Errno::EFBIG))?;
        if size == 0 && self.is_emptied_already() {
            return Ok(());
        }
        let open = fh.and_then(|fh| self.handles.get(fh));
        match open
            .as_ref()
            .filter(|h| h.writes())
            .and_then(|h| h.file.as_ref())
        {
            Some(file) => self.truncate(caller, at, file.as_fd(), size)?,
            None => {
                let file = self.open_located(at, OFlag::O_WRONLY)?;
                self.truncate(caller, at, file.as_fd(), size)?;
            }
        }
        if size == 0 {
            journal::intend_one(at.node, OsStr::new(""), EMPTIED);
        }
        Ok(())
    }

    /// Sets the size of an open file, within the volume's limits.
    pub(super) fn truncate(
        &self,
        caller: Caller,
        at: &Located,
        file: BorrowedFd<'_>,
        size: i64,
    ) -> OpResult<()> {
        let sizing = self.sizing(at, file)?;
        let room = sizing.reserve(size.unsigned_abs())?;
        let result = {
            let _as = self.as_writer(caller, sizing.mode())?;
            failpoint::hit("live.truncate.room");
            nix::unistd::ftruncate(file, size)
        };
        failpoint::hit("live.truncate.host");
        sizing.settle(Some(room), file);
        if result.is_ok() {
            self.cut_off(at, file, sizing.old(), size.unsigned_abs());
        }
        Ok(result?)
    }

    /// Credentials for a change of contents of a file with this mode: a caller
    /// without CAP_FSETID clears set-user-id and set-group-id bits with it.
    pub(super) fn as_writer(&self, caller: Caller, mode: u32) -> OpResult<Acting> {
        if mode & (libc::S_ISUID | libc::S_ISGID) == 0 {
            return Ok(Acting::daemon());
        }
        if caller.is_root() {
            return Ok(Acting::keeping_set_id());
        }
        // Without group execution the bit stays for members of the group
        // (setattr_should_drop_sgid, fs/attr.c).
        if mode & libc::S_ISGID != 0 && mode & libc::S_IXGRP == 0 {
            return self.as_member(caller);
        }
        Ok(Acting::without_fsetid())
    }
}

fn time_spec(time: Option<SetTime>) -> TimeSpec {
    match time {
        None => TimeSpec::UTIME_OMIT,
        Some(SetTime::Now) => TimeSpec::UTIME_NOW,
        Some(SetTime::To(time)) => TimeSpec::new(time.seconds, i64::from(time.nanoseconds)),
    }
}
