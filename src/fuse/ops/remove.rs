//! Taking names away: unlink, rmdir.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::failpoint;
use crate::fuse::charge::Removing;
use crate::fuse::disks::lost_found;
use crate::fuse::error::OpResult;
use crate::fuse::fs::{FileSystem, OpenDir, component};
use crate::fuse::live::journal;
use crate::fuse::naming::Naming;
use crate::fuse::node::NodeId;
use crate::fuse::root;
use crate::fuse::types::Caller;
use crate::sys::creds::Acting;
use crate::sys::node;
use crate::volume::Leaving;

impl FileSystem {
    /// Removes a name of a file. The file lives on while it is open.
    ///
    /// # Errors
    /// What the host says; EPERM at the root of the mount.
    pub fn unlink(&self, caller: Caller, parent: NodeId, name: &OsStr) -> OpResult<()> {
        let dir = self.dir_to_change(parent)?;
        self.remove(caller, &dir, name, UnlinkatFlags::NoRemoveDir)
    }

    /// Removes an empty directory; at the root of the mount, a volume.
    ///
    /// # Errors
    /// What the host or the store says.
    pub fn rmdir(&self, caller: Caller, parent: NodeId, name: &OsStr) -> OpResult<()> {
        if parent == NodeId::ROOT {
            return root::rmdir(self, caller, name);
        }
        let dir = self.dir_to_change(parent)?;
        self.remove(caller, &dir, name, UnlinkatFlags::RemoveDir)
    }

    fn remove(
        &self,
        caller: Caller,
        dir: &OpenDir,
        name: &OsStr,
        flags: UnlinkatFlags,
    ) -> OpResult<()> {
        let _as = Acting::daemon();
        if self.is_removed_already(dir, name)? {
            return Ok(());
        }
        let name = component(name)?;
        if lost_found::is_hidden(&dir.at, &dir.fd, name) {
            return Err(Errno::ENOENT.into());
        }
        let (_naming, victim, fd) = if matches!(flags, UnlinkatFlags::RemoveDir) {
            self.naming_without(dir, name)?
        } else {
            let naming = self.naming(dir, None, None)?;
            let (victim, fd) = self.victim_at(dir, name)?;
            (naming, victim, fd)
        };
        journal::intend_one(dir.at.node, name, 0);
        let removing = self.about_to_remove(&dir.at, victim, fd)?;
        failpoint::hit("live.remove.intent");
        let kept = self.keep_removed(caller, dir, name, &removing);
        if !kept {
            unlinkat(&dir.fd, name, flags)?;
        }
        failpoint::hit("live.remove.host");
        self.name_removed(removing, kept);
        Ok(())
    }

    /// Takes a file that is about to lose its last name out of the volume, where that
    /// keeps removed files. What cannot be kept is removed as ever.
    fn keep_removed(
        &self,
        caller: Caller,
        dir: &OpenDir,
        name: &OsStr,
        removing: &Removing<'_>,
    ) -> bool {
        let volume = &dir.at.volume;
        if !volume.removed().wants(name, &removing.before) {
            return false;
        }
        let kept = dir.at.ground.root_of(volume).and_then(|root| {
            Ok(volume.removed().keep(&Leaving {
                root: &root,
                dir: dir.fd.as_fd(),
                name,
                stat: &removing.before,
                uid: caller.uid,
            })?)
        });
        if let Err(error) = &kept {
            let volume = volume.name();
            log::warn!("a file that is removed from volume {volume} is not kept: {error}");
        }
        kept.is_ok()
    }

    /// Locks a directory, and the one that is about to lose the name `name` in it.
    fn naming_without<'a>(
        &'a self,
        dir: &'a OpenDir,
        name: &OsStr,
    ) -> OpResult<(Naming<'a>, NodeId, OwnedFd)> {
        loop {
            let (victim, fd) = self.victim_at(dir, name)?;
            let naming = self.naming(dir, None, Some(victim))?;
            // A request whose caller was killed may have gone on until now.
            if self.victim_at(dir, name)?.0 == victim {
                return Ok((naming, victim, fd));
            }
        }
    }

    /// What is about to lose the name `name` in `dir`.
    pub(super) fn victim_at(&self, dir: &OpenDir, name: &OsStr) -> OpResult<(NodeId, OwnedFd)> {
        let fd = node::open_path(&dir.fd, name)?;
        let victim = self.node_id(&dir.at.volume, &node::stat(&fd)?)?;
        Ok((victim, fd))
    }
}
