//! Keeping a volume's account while its files change: what is charged before
//! an operation, and what is settled after it.
//!
//! Every change of a file's size happens between [`FileSystem::sizing`] and
//! [`Sizing::settle`], under the inode's lock, so that the account moves by
//! exactly what the size moved.

mod nameless;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::stat::FileStat;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use nameless::{emptied, give_back, is_missed};

use super::error::{OpError, OpResult};
use super::fs::{FileSystem, Located};
use super::ground::Ground;
use super::handles::{Handle, OpenInode};
use super::live::journal::{self, Charging, Item};
use super::node::NodeId;
use super::types::Attr;
use crate::keeper::Place;
use crate::meta::{Inode, OverLimit, Reservation, Resource, charge};
use crate::model::{Bytes, Kind, Usage};
use crate::sys::node;
use crate::volume::Volume;

const SHARDS: usize = 1024;

/// One lock per inode, shared by inodes of equal hash: shared for a write
/// inside the file, exclusive for what may change its size or take its last
/// name. Held over the host call that does it, for that reason.
///
/// Lock order: those of directories ([`DirLocks`](super::naming::DirLocks)), this,
/// then open files, then the account. Never two of these.
pub(super) struct SizeLocks {
    shards: Box<[RwLock<()>]>,
}

impl Default for SizeLocks {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::new(())).collect(),
        }
    }
}

impl SizeLocks {
    fn shard(&self, node: NodeId) -> &RwLock<()> {
        &self.shards[(node.raw() % SHARDS as u64) as usize]
    }

    pub(super) fn shared(&self, node: NodeId) -> RwLockReadGuard<'_, ()> {
        self.shard(node).read()
    }

    pub(super) fn exclusive(&self, node: NodeId) -> RwLockWriteGuard<'_, ()> {
        self.shard(node).write()
    }
}

/// A regular file whose size may change, locked.
pub(super) struct Sizing<'a> {
    volume: &'a Volume,
    /// The size that the account knows.
    old: u64,
    mode: u32,
    inode: Option<Arc<OpenInode>>,
    // Before the lock: until it is free nobody else changes the charge.
    charging: Charging,
    _lock: RwLockWriteGuard<'a, ()>,
}

/// An inode that is about to lose a name, locked.
pub(super) struct Removing<'a> {
    /// The directory that has the name.
    dir: &'a Located,
    node: NodeId,
    fd: OwnedFd,
    /// What it was before.
    pub(super) before: FileStat,
    /// What the account has of it.
    known: Inode,
    charging: Charging,
    _lock: RwLockWriteGuard<'a, ()>,
}

/// Refuses changes of a volume that is read-only.
///
/// # Errors
/// EROFS.
pub(super) fn check_writable(volume: &Volume) -> OpResult<()> {
    if volume.is_read_only() {
        let name = volume.name();
        return Err(crate::volume::Error::VolumeReadOnly { name }.into());
    }
    Ok(())
}

impl FileSystem {
    /// The volume's contents are about to change: the catalogue must know
    /// before, so that a crash is followed by a count.
    ///
    /// # Errors
    /// EROFS when the volume is read-only.
    pub(super) fn about_to_change(&self, volume: &Volume) -> OpResult<()> {
        check_writable(volume)?;
        self.about_to_charge(volume)
    }

    /// What the volume is charged is about to change, or what is in it.
    pub(super) fn about_to_charge(&self, volume: &Volume) -> OpResult<()> {
        // A disk volume's own file system keeps the account.
        if volume.kind == Kind::Disk {
            return Ok(());
        }
        if !volume.account().has_mirror() {
            self.live.share(volume);
        }
        Ok(self.store.mark_dirty(volume)?)
    }

    /// Locks a file for a change of its size.
    pub(super) fn sizing<'a>(&'a self, at: &'a Located, file: impl AsFd) -> OpResult<Sizing<'a>> {
        self.about_to_change(&at.volume)?;
        let lock = self.size_locks.exclusive(at.node);
        let shape = node::shape(file)?;
        let size = shape.size;
        let inode = self.handles.inode(at.node);
        if inode.is_none() && (shape.links == 0 || self.nodes.gone(at.node).is_some()) {
            // Removed while this was on its way, and its charge given back:
            // the kernel does not lock an inode for an open with O_TRUNC.
            return Err(Errno::ESTALE.into());
        }
        let charged = inode.as_ref().and_then(|inode| inode.charged_size());
        let old = charged.unwrap_or(size);
        let charging = journal::charging(
            Item::First,
            at.volume.serial,
            Some((at.node, self.generation_of(at.node))),
            charge(Inode::File { size: old }, at.volume.unit()),
        );
        Ok(Sizing {
            volume: &at.volume,
            old,
            mode: shape.mode,
            inode,
            charging,
            _lock: lock,
        })
    }

    /// Takes into account what the kernel has written to the host's file by
    /// itself.
    pub(super) fn settle_passthrough(&self, at: &Located, file: impl AsFd) -> OpResult<()> {
        let sizing = self.sizing(at, file.as_fd())?;
        sizing.settle(None, file);
        Ok(())
    }

    /// What the intent's name will lead to is about to be made, and charged.
    pub(super) fn charging_made(&self, item: Item, volume: &Volume) -> Charging {
        journal::charging(item, volume.serial, None, Usage::default())
    }

    /// A file that has no name any more is about to be closed, maybe for the
    /// last time.
    pub(super) fn charging_closed(&self, at: &Located, handle: &Handle) -> Charging {
        let size = handle.inode.charged_size().unwrap_or_else(|| {
            let shape = handle.file.as_ref().and_then(|file| node::shape(file).ok());
            shape.map_or(0, |shape| shape.size)
        });
        let identity = Some((at.node, self.generation_of(at.node)));
        let known = charge(Inode::File { size }, at.volume.unit());
        journal::charging(Item::Second, at.volume.serial, identity, known)
    }

    /// An inode is about to lose a name, which may be its last. Takes its lock,
    /// and sees to it that a successor finds it while it is open. A directory's
    /// names are [locked](Self::naming).
    pub(super) fn about_to_remove<'a>(
        &'a self,
        dir: &'a Located,
        node: NodeId,
        fd: OwnedFd,
    ) -> OpResult<Removing<'a>> {
        let lock = self.size_locks.exclusive(node);
        if !dir.ground.shows_removals() {
            // Else it may be what it was before another name of it went.
            node::refresh(&fd)?;
        }
        let stat = node::stat(&fd)?;
        journal::victim(&Attr::from_host(node, &stat));
        let inode = self.handles.inode(node);
        let known = match inode.as_ref().and_then(|inode| inode.charged_size()) {
            Some(size) => Inode::File { size },
            None => Inode::of(&stat),
        };
        let identity = Some((node, self.generation_of(node)));
        let serial = dir.volume.serial;
        let charged = charge(known, dir.volume.unit());
        let charging = journal::charging(Item::First, serial, identity, charged);
        if stat.st_nlink == 1 && self.handles.is_open_here(node) {
            // Before the name goes: there is no moment without either.
            let place = self.keep_unnamed(node, fd.as_fd());
            self.live
                .drop_kept(place.and_then(|place| self.handles.keep(node, place)));
        }
        Ok(Removing {
            dir,
            node,
            fd,
            before: stat,
            known,
            charging,
            _lock: lock,
        })
    }

    /// Keeps for a successor an inode that has no name, or is about to have none.
    fn keep_unnamed(&self, node: NodeId, fd: BorrowedFd<'_>) -> Option<Place> {
        self.live.keep_unnamed(node, fd).unwrap_or_else(|error| {
            log::error!("an open file is removed, and is lost when this process dies: {error}");
            None
        })
    }

    /// The call has returned. If the inode has lost its last name its charge is
    /// given back now, or with its last close. One that is `kept` has a name outside of
    /// the volume.
    pub(super) fn name_removed(&self, removing: Removing<'_>, kept: bool) {
        let Removing {
            dir,
            node,
            fd,
            before,
            known,
            charging,
            _lock,
        } = removing;
        let volume = &*dir.volume;
        let after = match left_of(&dir.ground, &before, known, &fd) {
            Left::Names if kept => Some(node::stat(&fd).unwrap_or(before)),
            Left::Names => return,
            Left::Nothing(after) => after,
            Left::Unknown => return volume.account().distrust(),
        };
        // What is open under a hidden name may lose that as well: once is enough.
        let open = self.handles.unlinked(node);
        // ext4_rmdir (fs/ext4/namei.c) sets the size of a directory to 0.
        let inode = match after {
            Some(after) if !known.is_directory() => Inode::of(&after),
            _ => known,
        };
        let stat = after.unwrap_or(before);
        let may_stay = |fd: &OwnedFd| emptied(volume, inode, fd) && !is_missed(&stat, fd);
        let holds = |fd: &OwnedFd| open || !kept && may_stay(fd);
        let held = Some(fd).filter(|fd| dir.ground.shows_removals() && holds(fd));
        let mut attr = Attr::from_host(node, &stat);
        attr.nlink = 0;
        let states = (volume.is_limited(), open);
        if self.nodes.set_gone(node, attr, held, states) && self.live.has_successor() {
            self.going.push(node);
        }
        if known.is_directory() {
            self.dir_cache.remove(node);
        }
        if !open {
            give_back(volume, inode, &charging);
        }
        // Before the lock is free.
        drop(charging);
    }

    /// What the account has of an open file without a name, as far as that can
    /// be known: some file systems cannot look at such.
    pub(super) fn nameless(&self, handle: &Handle, file: Option<BorrowedFd<'_>>) -> Option<Inode> {
        match node::stat(file?) {
            Ok(stat) => Some(Inode::of(&stat)),
            Err(errno) if is_gone(errno) => {
                let size = handle.inode.charged_size();
                let size = size.or_else(|| Some(self.nodes.gone(handle.node)?.size))?;
                Some(Inode::File { size })
            }
            Err(_) => None,
        }
    }
}

/// What is left of an inode that has lost a name.
enum Left {
    /// Other names.
    Names,
    /// None; its attributes, where the file system still tells them.
    Nothing(Option<FileStat>),
    /// That cannot be known.
    Unknown,
}

/// What is left of the inode `fd`, which had the attributes `before`.
fn left_of(ground: &Ground, before: &FileStat, known: Inode, fd: &OwnedFd) -> Left {
    let had_one_name = before.st_nlink <= 1 || known.is_directory();
    match node::stat(fd) {
        // A directory has no other name; btrfs leaves its link count at 1.
        Ok(stat) if stat.st_nlink == 0 || known.is_directory() => Left::Nothing(Some(stat)),
        Ok(stat) if had_one_name && !ground.shows_removals() => Left::Nothing(Some(stat)),
        Ok(_) => Left::Names,
        Err(errno) if is_gone(errno) && had_one_name => Left::Nothing(None),
        Err(errno) if is_gone(errno) => Left::Names,
        Err(_) => Left::Unknown,
    }
}

/// What a file system says of an inode that it knows no name of.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ESTALE)
}

impl Sizing<'_> {
    /// The size before the change.
    pub(super) fn old(&self) -> u64 {
        self.old
    }

    /// Its type and permission bits.
    pub(super) fn mode(&self) -> u32 {
        self.mode
    }

    /// Room for the file to grow to `new` bytes, all or nothing.
    pub(super) fn reserve(&self, new: u64) -> OpResult<Reservation<'_>> {
        self.volume
            .account()
            .reserve(Bytes(self.growth(new)), 0)
            .map_err(OpError::OverQuota)
    }

    /// Room for the file to grow towards `new` bytes, and how far it may.
    pub(super) fn reserve_up_to(&self, new: u64) -> (Reservation<'_>, u64) {
        let wanted = self.growth(new);
        let reservation = self.volume.account().reserve_up_to(Bytes(wanted));
        let granted = reservation.amount().bytes.0;
        let end = if granted == wanted {
            new
        } else {
            self.volume.unit().round_up(self.old) + granted
        };
        (reservation, end)
    }

    /// Why nothing of a growth to `new` bytes fits, of which `room` was granted.
    pub(super) fn over(&self, room: &Reservation<'_>, new: u64) -> OpError {
        if let Some(over) = self.volume.pool_of_contents().and_then(|it| it.reached()) {
            return OpError::OverQuota(over);
        }
        let (used, limits) = self.volume.account().snapshot();
        OpError::OverQuota(OverLimit {
            resource: Resource::Bytes,
            limit: limits.bytes.map_or(u64::MAX, |limit| limit.0),
            taken: used.bytes.0,
            asked: self.growth(new).saturating_sub(room.amount().bytes.0),
            user: None,
        })
    }

    fn growth(&self, new: u64) -> u64 {
        self.volume.unit().grow(self.old, new)
    }

    /// The change is done, or has failed: the account moves by what the size
    /// has moved.
    pub(super) fn settle(&self, reserved: Option<Reservation<'_>>, file: impl AsFd) {
        let account = self.volume.account();
        let Ok(node::Shape { size: new, .. }) = node::shape(file) else {
            account.distrust();
            return;
        };
        let unit = self.volume.unit();
        let (before, after) = (unit.round_up(self.old), unit.round_up(new));
        if before == after {
            drop(reserved);
        } else {
            self.charging
                .becomes(charge(Inode::File { size: new }, unit));
            account.resettle(reserved, Bytes(before), Bytes(after));
        }
        if let Some(inode) = &self.inode {
            inode.set_charged_size(new);
        }
    }
}
