//! Keeping a volume's account while names change: what their directories may
//! grow by is reserved before, and what they have grown or shrunk by is settled
//! after.
//!
//! Every change of a name happens while a [`Naming`] of its directory lives, so
//! that the account moves by exactly what the directory's size moved.

use std::ffi::OsStr;

use nix::errno::Errno;
use parking_lot::{Mutex, MutexGuard};

use super::error::{OpError, OpResult};
use super::fs::{FileSystem, OpenDir};
use super::live::journal::{self, Charging, Item};
use super::node::NodeId;
use crate::failpoint;
use crate::meta::{Inode, Reservation, charge};
use crate::model::{Bytes, Kind, Usage};
use crate::sys::creds::Acting;
use crate::sys::{dir, node};
use crate::volume::Volume;

const SHARDS: usize = 1024;

/// One lock per directory, shared by directories of equal hash. Held over the
/// host call that changes its names, as the account has to move by what that
/// does: the kernel has a directory locked over a request, but not over what
/// goes on of one whose caller was killed.
///
/// Lock order: these, by their place in the array and each once; then the lock
/// of an inode's size, then open files, then the account.
pub(super) struct DirLocks {
    shards: Box<[Mutex<()>]>,
}

/// The most directories that one request changes: two, and one that is removed.
const MOST: usize = 3;

impl Default for DirLocks {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(())).collect(),
        }
    }
}

impl DirLocks {
    fn lock(&self, nodes: [Option<NodeId>; MOST]) -> [Option<MutexGuard<'_, ()>>; MOST] {
        let mut shards = nodes.map(|node| node.map(|node| (node.raw() % SHARDS as u64) as usize));
        shards.sort_unstable();
        let mut last = None;
        shards.map(|shard| {
            let again = shard == last;
            last = shard;
            let shard = shard.filter(|_| !again)?;
            Some(self.shards[shard].lock())
        })
    }
}

/// What happens to the names of a directory.
#[derive(Clone, Copy)]
pub(super) enum Grows<'n> {
    /// At most, some go.
    Never,
    /// This one is added.
    Added(&'n OsStr),
    /// One gets another inode.
    Replaced,
}

/// One or two directories whose names are about to change, locked. When this is
/// dropped the change is done, or has failed.
pub(super) struct Naming<'a> {
    fs: &'a FileSystem,
    volume: &'a Volume,
    dirs: [Option<Dir<'a>>; 2],
    room: Option<Reservation<'a>>,
    // Last: until they are free nobody else changes the charges.
    _locks: [Option<MutexGuard<'a, ()>>; MOST],
}

struct Dir<'a> {
    dir: &'a OpenDir,
    /// The size that the account knows.
    before: u64,
    charging: Charging,
}

impl FileSystem {
    /// Names are about to be made, moved or taken away in `dir` and `other`,
    /// and the directory `removed` is about to lose its own.
    ///
    /// # Errors
    /// ENOENT when a directory has been removed; the catalogue cannot be
    /// written.
    pub(super) fn naming<'a>(
        &'a self,
        dir: &'a OpenDir,
        other: Option<&'a OpenDir>,
        removed: Option<NodeId>,
    ) -> OpResult<Naming<'a>> {
        self.about_to_change(&dir.at.volume)?;
        let mut naming = Naming {
            fs: self,
            volume: &dir.at.volume,
            dirs: [None, None],
            room: None,
            _locks: [None, None, None],
        };
        if dir.at.volume.kind == Kind::Disk {
            return Ok(naming);
        }
        let other = other.filter(|other| other.at.node != dir.at.node);
        let nodes = [Some(dir.at.node), other.map(|dir| dir.at.node), removed];
        naming._locks = self.dir_locks.lock(nodes);
        naming.dirs[0] = Some(self.named(Item::Dir, dir)?);
        if let Some(other) = other {
            naming.dirs[1] = Some(self.named(Item::OtherDir, other)?);
        }
        Ok(naming)
    }

    fn named<'a>(&self, item: Item, dir: &'a OpenDir) -> OpResult<Dir<'a>> {
        let node = dir.at.node;
        let shape = node::shape(&dir.fd)?;
        // btrfs leaves the link count at 1.
        if shape.links == 0 || self.nodes.gone(node).is_some() {
            return Err(Errno::ENOENT.into());
        }
        let identity = Some((node, self.generation_of(node)));
        let known = charge(Inode::Directory { size: shape.size }, dir.at.volume.unit());
        Ok(Dir {
            dir,
            before: shape.size,
            charging: journal::charging(item, dir.at.volume.serial, identity, known),
        })
    }
}

impl<'a> Naming<'a> {
    /// Room for an inode that is charged `made`, and for what `first` makes of
    /// the directory and `second` of the other one, or of the same. The part
    /// for `made` is returned.
    ///
    /// Who holds this waits for no lock any more: others may wait for its end.
    ///
    /// # Errors
    /// [`OpError::OverQuota`].
    pub(super) fn reserve(
        &mut self,
        made: Usage,
        first: Grows<'_>,
        second: Grows<'_>,
    ) -> OpResult<Reservation<'a>> {
        let account = self.volume.account();
        let reserve = |bytes| account.reserve_passing(Bytes(bytes), made.inodes);
        let growth = self.growth(first, second);
        let mut room = match reserve(made.bytes.0.saturating_add(growth)) {
            Err(_) if growth > 0 && self.surely_fit(first, second) => reserve(made.bytes.0),
            result => result,
        }
        .map_err(OpError::OverQuota)?;
        let more = room.amount().bytes.0.saturating_sub(made.bytes.0);
        self.room = Some(room.split(Bytes(more)));
        Ok(room)
    }

    /// What is done to each of the directories, the other one being the same
    /// where there is no other.
    fn changes<'n>(
        &self,
        first: Grows<'n>,
        second: Grows<'n>,
    ) -> impl Iterator<Item = (&Dir<'a>, [Grows<'n>; 2])> {
        let changes = match self.dirs {
            [_, Some(_)] => [[first, Grows::Never], [Grows::Never, second]],
            [_, None] => [[first, second], [Grows::Never; 2]],
        };
        let dirs = self.dirs.iter().zip(changes);
        dirs.filter_map(|(dir, changes)| Some((dir.as_ref()?, changes)))
    }

    /// The most that the charges of the directories grow by.
    fn growth(&self, first: Grows<'_>, second: Grows<'_>) -> u64 {
        if !self.volume.is_limited_in_bytes() {
            return 0;
        }
        let growth = self.fs.store.dir_growth();
        let of = |dir: &Dir<'_>, changes: [Grows<'_>; 2]| {
            // No two names are added to one, and a name that gets another inode
            // takes nothing where there is room for one more.
            let sizes = changes.iter().map(|change| match change {
                Grows::Never => dir.before,
                Grows::Added(name) => growth.added(dir.before, name.len()),
                Grows::Replaced => growth.replaced(dir.before),
            });
            let most = sizes.max().unwrap_or(dir.before);
            growth.charge(dir.before, most)
        };
        self.changes(first, second)
            .map(|(dir, changes)| of(dir, changes))
            .sum()
    }

    /// Whether no directory grows. Looks at all of their names, where that may
    /// tell; for when there is no room for their growing.
    fn surely_fit(&self, first: Grows<'_>, second: Grows<'_>) -> bool {
        let growth = self.fs.store.dir_growth();
        let fits = |dir: &Dir<'_>, change: &Grows<'_>| match change {
            Grows::Never => true,
            Grows::Replaced => growth.replaced(dir.before) == dir.before,
            Grows::Added(name) => {
                let names = || {
                    let _as = Acting::daemon();
                    dir::name_lengths(&dir.dir.fd).ok()
                };
                growth.surely_fits(dir.before, name.len(), names)
            }
        };
        self.changes(first, second)
            .all(|(dir, changes)| changes.iter().all(|change| fits(dir, change)))
    }
}

impl Drop for Naming<'_> {
    fn drop(&mut self) {
        let account = self.volume.account();
        for dir in self.dirs.iter().flatten() {
            let Ok(node::Shape { size, .. }) = node::shape(&dir.dir.fd) else {
                account.distrust();
                continue;
            };
            let unit = self.volume.unit();
            let (before, after) = (unit.directory_bytes(dir.before), unit.directory_bytes(size));
            if before != after {
                failpoint::hit("live.names.grown");
                dir.charging
                    .becomes(charge(Inode::Directory { size }, unit));
                // What was reserved for it stays, for the other directory.
                account.resettle(None, Bytes(before), Bytes(after));
                failpoint::hit("live.names.settled");
            }
        }
        // Now, before somebody waits for the directories.
        drop(self.room.take());
    }
}
