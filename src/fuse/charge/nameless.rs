//! The charges of inodes that have no name any more: of files that are opened without one,
//! and of those whose last open file is closed.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::stat::FileStat;
use nix::sys::statvfs::fstatvfs;

use crate::failpoint;
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::{FileSystem, Located};
use crate::fuse::live::Live;
use crate::fuse::live::journal::{self, Charging, Item};
use crate::fuse::node::NodeId;
use crate::keeper::Place;
use crate::meta::{Inode, Reservation, charge};
use crate::model::Usage;
use crate::sys::node;
use crate::volume::Volume;

/// A file that lost its last name when it was not open, and is about to be: charged
/// as one that is open, until this is dropped or it is [opened](Nameless::opened).
pub(in crate::fuse) struct Nameless<'a> {
    fs: &'a FileSystem,
    node: NodeId,
    room: Reservation<'a>,
    charging: Charging,
    kept: Kept<'a>,
}

/// What is kept for a successor, unless it is taken.
struct Kept<'a> {
    live: &'a Live,
    place: Option<Place>,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.live.drop_kept(self.place.take());
    }
}

impl FileSystem {
    /// A file of so many bytes without a name is about to be opened, as on the host
    /// by whoever has got as far as its inode. Its size lock is held.
    ///
    /// # Errors
    /// ESTALE, upon which the kernel looks the name up again, once: where what has
    /// no name is emptied.
    pub(in crate::fuse) fn charge_again<'a>(
        &'a self,
        at: &'a Located,
        fd: BorrowedFd<'_>,
        size: u64,
    ) -> OpResult<Nameless<'a>> {
        // It may have had a limit when the name went.
        if at.volume.is_limited() || !self.nodes.is_whole(at.node) {
            return Err(Errno::ESTALE.into());
        }
        self.about_to_charge(&at.volume)?;
        let charge = charge(Inode::File { size }, at.volume.unit());
        let room = at.volume.account().reserve(charge.bytes, charge.inodes);
        let room = room.map_err(OpError::OverQuota)?;
        let identity = Some((at.node, self.generation_of(at.node)));
        let none = Usage::default();
        let charging = journal::charging(Item::First, at.volume.serial, identity, none);
        Ok(Nameless {
            fs: self,
            node: at.node,
            room,
            charging,
            kept: Kept {
                live: &self.live,
                place: self.keep_unnamed(at.node, fd),
            },
        })
    }
}

impl Nameless<'_> {
    /// It is open: its charge is given back with its last close.
    pub(in crate::fuse) fn opened(mut self) {
        failpoint::hit("live.open.nameless");
        self.charging.becomes(self.room.amount());
        self.room.commit();
        failpoint::hit("live.open.charged");
        self.fs.handles.unlinked(self.node);
        if let Some(place) = self.kept.place.take() {
            let before = self.fs.handles.keep(self.node, place);
            self.fs.live.drop_kept(before);
        }
        // Before the lock is free.
        drop(self.charging);
    }
}

impl FileSystem {
    /// The last of the open files of an inode that has no name any more has been
    /// closed; `file` is any descriptor of it, and `None` where there is none.
    /// `by_kernel` is whether a mapping of the host's file may be left.
    pub(in crate::fuse) fn last_closed(
        &self,
        at: &Located,
        file: Option<(BorrowedFd<'_>, Inode, Option<FileStat>)>,
        by_kernel: bool,
        charging: &Charging,
    ) {
        match file {
            // It is kept, with its contents.
            Some((_, inode, Some(stat))) if stat.st_nlink > 0 && at.ground.shows_removals() => {
                self.nodes.set_emptied(at.node);
                self.nodes.let_host_free(at.node);
                self.nodes.set_closed(at.node);
                if let Ok(root) = at.ground.root_of(&at.volume) {
                    at.volume.removed().closed(&root, &stat);
                }
                give_back(&at.volume, inode, charging);
            }
            Some((file, inode, _)) => {
                if at.volume.is_limited() {
                    self.nodes.set_emptied(at.node);
                }
                let missed = node::stat(file).is_ok_and(|stat| is_missed(&stat, file));
                if missed && !by_kernel {
                    // The supervisor may have it for a moment longer.
                    let _ = node::truncate(file, 0);
                }
                if missed || !at.ground.shows_removals() || !emptied(&at.volume, inode, file) {
                    self.nodes.let_host_free(at.node);
                }
                self.nodes.set_closed(at.node);
                give_back(&at.volume, inode, charging);
            }
            None => {
                self.nodes.let_host_free(at.node);
                at.volume.account().distrust();
            }
        }
    }
}

/// Gives back the charge of an inode that has no name and is not open, and that
/// is [`emptied`] or not held any more.
pub(super) fn give_back(volume: &Volume, inode: Inode, charging: &Charging) {
    let charge = charge(inode, volume.unit());
    charging.becomes(Usage::default());
    volume.account().release(charge.bytes, charge.inodes);
}

/// Frees what an inode takes of the host's space that has no name and is not
/// open. Whether it may be held from now on: if not, its number may soon be
/// another's, as that of any beyond the most that are held.
///
/// It would be held until the kernel forgets it, and a caller decides when that
/// is. Nobody can get at its contents any more: what is no longer charged must
/// not go on taking the host's space.
pub(super) fn emptied(volume: &Volume, inode: Inode, fd: impl AsFd) -> bool {
    // Without a limit a mapping may be left that the kernel has made of the
    // host's file itself.
    if !volume.is_limited() {
        return true;
    }
    match inode {
        // Not opened for that: callers may have taken all descriptors.
        Inode::File { size: 1.. } => {
            let emptied = node::truncate(fd, 0);
            if let Err(errno) = emptied {
                log::debug!("a removed file is not emptied: {}", errno.desc());
            }
            emptied.is_ok()
        }
        // Its blocks stay although no name is left in it: no more than every
        // directory is charged, and than an emptied file may take in extended
        // attributes.
        Inode::Directory { size } => size <= volume.unit().bytes(),
        _ => true,
    }
}

/// Whether an inode that has no name and is not open takes more of its file system
/// than that has left. Then it is not held for who may still refer to it: by
/// passthrough the kernel writes to other files without asking, and must find room
/// as soon as the removal has returned.
pub(super) fn is_missed(stat: &FileStat, fd: impl AsFd) -> bool {
    let taken = stat.st_blocks.unsigned_abs().saturating_mul(512);
    taken > 0
        && fstatvfs(fd)
            .is_ok_and(|all| all.blocks_available().saturating_mul(all.fragment_size()) < taken)
}
