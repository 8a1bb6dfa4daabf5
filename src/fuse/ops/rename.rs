//! Moving names: rename, with NOREPLACE, EXCHANGE and WHITEOUT.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use crate::failpoint;
use crate::fuse::disks::lost_found;
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::{FileSystem, OpenDir, component};
use crate::fuse::live::journal::{self, Item};
use crate::fuse::naming::{Grows, Naming};
use crate::fuse::node::NodeId;
use crate::fuse::root;
use crate::fuse::types::Caller;
use crate::meta::{Inode, charge};
use crate::model::Usage;
use crate::sys::creds::Acting;
use crate::sys::node;

impl FileSystem {
    /// Renames `name` in `parent` to `new_name` in `new_parent`; `flags` are
    /// those of `renameat2(2)`.
    ///
    /// # Errors
    /// EXDEV between volumes; what the host or the store says.
    pub fn rename(
        &self,
        caller: Caller,
        (parent, name): (NodeId, &OsStr),
        (new_parent, new_name): (NodeId, &OsStr),
        flags: u32,
    ) -> OpResult<()> {
        if parent == NodeId::ROOT && new_parent == NodeId::ROOT {
            return root::rename(self, caller, name, new_name, flags);
        }
        if parent.slot() != new_parent.slot() {
            return Err(OpError::CrossVolume);
        }
        let from = self.dir_to_change(parent)?;
        let to = self.dir_to_change(new_parent)?;
        component(name)?;
        lost_found::check_new(&to.at, component(new_name)?)?;
        if lost_found::is_hidden(&from.at, &from.fd, name) {
            return Err(Errno::ENOENT.into());
        }
        if self.is_renamed_already((&from, name), (&to, new_name), flags)? {
            return Ok(());
        }
        let before = self.before_rename((&from, name), flags)?;
        journal::intend((parent, name), (new_parent, new_name), before);
        if flags == 0 && self.rename_to_free(&from, name, &to, new_name)? {
            return Ok(());
        }
        let (mut naming, victim) = self.naming_of_rename(&from, (&to, new_name), flags)?;
        if let Some((victim, _)) = &victim {
            // Two names of one inode: rename(2) leaves both, so that nothing
            // is given back.
            let source = node::stat(node::open_path(&from.fd, component(name)?)?)?;
            if self.node_id(&from.at.volume, &source)? == *victim {
                return Ok(());
            }
        }
        let removing = victim
            .map(|(node, fd)| self.about_to_remove(&to.at, node, fd))
            .transpose()?;
        let in_from = if flags & (libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT) == 0 {
            Grows::Never
        } else {
            Grows::Replaced
        };
        let in_to = if removing.is_some() || flags & libc::RENAME_EXCHANGE != 0 {
            Grows::Replaced
        } else {
            Grows::Added(new_name)
        };
        let leaves_whiteout = flags & libc::RENAME_WHITEOUT != 0;
        let left = if leaves_whiteout {
            charge(Inode::Other, to.at.volume.unit())
        } else {
            Usage::default()
        };
        let room = naming.reserve(left, in_from, in_to);
        if room.is_err() && flags == libc::RENAME_NOREPLACE {
            // What the host would say first.
            self.victim_at(&to, new_name)
                .map_or(Ok(()), |_| Err(Errno::EEXIST))?;
        }
        let room = room?;
        let whiteout =
            leaves_whiteout.then(|| (room, self.charging_made(Item::Second, &from.at.volume)));
        failpoint::hit("live.rename.intent");
        if whiteout.is_some() {
            // It is a device node, which is its maker's.
            let _as = Acting::maker(caller.uid, caller.gid, 0, 0);
            node::rename(&from.fd, component(name)?, &to.fd, new_name, flags)?;
        } else {
            let _as = Acting::daemon();
            node::rename(&from.fd, component(name)?, &to.fd, new_name, flags)?;
        }
        failpoint::hit("live.rename.host");
        if let Some((room, charging)) = whiteout {
            charging.becomes(room.amount());
            room.commit();
        }
        if let Some(removing) = removing {
            self.name_removed(removing, false);
        }
        self.renamed(&from, name, &to, new_name, flags);
        Ok(())
    }

    /// The usual rename, to a name that is free: one call to the host. `false`
    /// when the name is taken, or the host cannot say so.
    fn rename_to_free(
        &self,
        from: &OpenDir,
        name: &OsStr,
        to: &OpenDir,
        new_name: &OsStr,
    ) -> OpResult<bool> {
        let _as = Acting::daemon();
        let (name, new_name) = (component(name)?, component(new_name)?);
        let mut naming = self.naming(from, Some(to), None)?;
        let added = Grows::Added(new_name);
        let room = match naming.reserve(Usage::default(), Grows::Never, added) {
            // Over another, which takes its place, it may do.
            Err(_) if self.victim_at(to, new_name).is_ok() => return Ok(false),
            room => room?,
        };
        failpoint::hit("live.rename.intent");
        match node::rename(&from.fd, name, &to.fd, new_name, libc::RENAME_NOREPLACE) {
            Ok(()) => {
                failpoint::hit("live.rename.host");
                drop((naming, room));
                self.renamed(from, name, to, new_name, 0);
                Ok(true)
            }
            // EINVAL also where the host does not know the flag (rename(2)).
            Err(Errno::EEXIST | Errno::EINVAL) => Ok(false),
            Err(errno) => Err(OpError::Host(errno)),
        }
    }

    /// Notes what a rename has moved where nodes are found by their place.
    fn renamed(&self, from: &OpenDir, name: &OsStr, to: &OpenDir, new_name: &OsStr, flags: u32) {
        self.places.name_moved();
        if !from.at.ground.host().has_handles() {
            self.note_place(to, new_name);
            if flags & libc::RENAME_EXCHANGE != 0 {
                self.note_place(from, name);
            }
        }
    }

    /// Locks the directories of a rename to `name` in `to`, and finds what that
    /// will take the name of.
    fn naming_of_rename<'a>(
        &'a self,
        from: &'a OpenDir,
        (to, name): (&'a OpenDir, &OsStr),
        flags: u32,
    ) -> OpResult<(Naming<'a>, Option<(NodeId, OwnedFd)>)> {
        if flags & (libc::RENAME_EXCHANGE | libc::RENAME_NOREPLACE) != 0 {
            return Ok((self.naming(from, Some(to), None)?, None));
        }
        loop {
            // Whatever is wrong with the name, the rename will say.
            let node = self.victim_at(to, name).ok().map(|(node, _)| node);
            let naming = self.naming(from, Some(to), node)?;
            let victim = self.victim_at(to, name).ok();
            // A request whose caller was killed may have gone on until now.
            if victim.as_ref().map(|(node, _)| *node) == node {
                return Ok((naming, victim));
            }
        }
    }

    /// What `name` in `dir` leads to is found there from now on.
    fn note_place(&self, dir: &OpenDir, name: &OsStr) {
        let moved = node::open_path(&dir.fd, name)
            .and_then(node::stat)
            .map_err(OpError::Host)
            .and_then(|stat| self.node_id(&dir.at.volume, &stat));
        if let Ok(moved) = moved {
            self.nodes.moved(moved, dir.at.node, name);
        }
    }
}
