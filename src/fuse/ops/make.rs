//! Making nodes other than regular files by open: mknod, mkdir, symlink.

use std::ffi::OsStr;

use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};

use crate::failpoint;
use crate::fuse::disks::lost_found;
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::{FileSystem, OpenDir, component};
use crate::fuse::live::journal::{self, Item};
use crate::fuse::naming::Grows;
use crate::fuse::node::NodeId;
use crate::fuse::root;
use crate::fuse::types::{Caller, Entry};
use crate::meta::{Inode, charge};
use crate::sys::creds::Acting;
use crate::sys::node;

impl FileSystem {
    /// Makes a file, fifo, socket or device node. `mode` has type and
    /// permission bits; `rdev` is the host's device number.
    ///
    /// # Errors
    /// What the host says; EPERM at the root of the mount.
    pub fn mknod(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u64,
    ) -> OpResult<Entry> {
        let inode = match mode & SFlag::S_IFMT.bits() {
            0 | libc::S_IFREG => Inode::File { size: 0 },
            _ => Inode::Other,
        };
        self.make(parent, name, inode, |dir| {
            let _as = Acting::maker(caller.uid, caller.gid, umask, mode);
            let kind = SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits());
            mknodat(&dir.fd, name, kind, permissions(mode), rdev)
        })
    }

    /// Makes a directory; at the root of the mount, a volume.
    ///
    /// # Errors
    /// What the host or the store says.
    pub fn mkdir(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &OsStr,
        mode: u32,
        umask: u32,
    ) -> OpResult<Entry> {
        if parent == NodeId::ROOT {
            return root::mkdir(self, caller, name, mode & !umask);
        }
        let size = self.store.dir_growth().made();
        self.make(parent, name, Inode::Directory { size }, |dir| {
            let _as = Acting::maker(caller.uid, caller.gid, umask, mode);
            mkdirat(&dir.fd, name, permissions(mode))
        })
    }

    /// Makes a symbolic link to `target`.
    ///
    /// # Errors
    /// What the host says; EPERM at the root of the mount.
    pub fn symlink(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &OsStr,
        target: &OsStr,
    ) -> OpResult<Entry> {
        self.make(parent, name, Inode::Other, |dir| {
            let _as = Acting::maker(caller.uid, caller.gid, 0, 0);
            nix::unistd::symlinkat(target, &dir.fd, name)
        })
    }

    /// Makes something in a directory and looks it up.
    fn make(
        &self,
        parent: NodeId,
        name: &OsStr,
        inode: Inode,
        make: impl FnOnce(&OpenDir) -> nix::Result<()>,
    ) -> OpResult<Entry> {
        let dir = self.dir_to_change(parent)?;
        lost_found::check_new(&dir.at, component(name)?)?;
        if !self.is_made_already(&dir, name)? {
            let unit = dir.at.volume.unit();
            let mut naming = self.naming(&dir, None, None)?;
            let room = naming.reserve(charge(inode, unit), Grows::Added(name), Grows::Never)?;
            journal::intend_one(parent, name, 0);
            let charging = self.charging_made(Item::First, &dir.at.volume);
            failpoint::hit("live.make.intent");
            make(&dir)?;
            failpoint::hit("live.make.host");
            let made = match inode {
                // As large as it may be: how large it is has to be seen.
                Inode::Directory { size } if size > unit.bytes() => {
                    let made = node::open_path(&dir.fd, name).and_then(node::stat);
                    made.map_or(inode, |made| Inode::of(&made))
                }
                inode => inode,
            };
            let made = charge(made, unit);
            charging.becomes(made);
            room.commit_part(made.bytes, made.inodes);
        }
        failpoint::hit("live.make.charged");
        let fd = node::open_path(&dir.fd, name)?;
        self.entry(&dir.at.volume, &dir.at.ground, parent, name, fd)
    }

    /// Opens a directory that names will be made in or removed from.
    pub(super) fn dir_to_change(&self, parent: NodeId) -> OpResult<OpenDir> {
        if parent == NodeId::ROOT {
            return Err(OpError::NotAVolume);
        }
        if parent.slot().is_none() {
            return Err(OpError::ControlTree);
        }
        self.open_dir(parent)
    }
}

/// The permission bits of a mode.
fn permissions(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode & 0o7777)
}
