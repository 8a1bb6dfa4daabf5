//! What directories of a volume are charged while this process changes the
//! names in them by itself, in a store that has no mount.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use nix::sys::stat::FileStat;

use super::ledger::{Change, Room};
use super::name::{Inside, no_space};
use crate::meta::{DirGrowth, Inode, charge};
use crate::model::{Bytes, Usage};
use crate::sys::{dir, node};
use crate::volume::error::Result;
use crate::volume::in_memory::Volume;

/// A directory in which names are about to change. When this is dropped they
/// have changed, or that has failed.
pub(super) struct Names<'a, D: AsFd> {
    account: Option<(&'a Volume, DirGrowth)>,
    dir: D,
    /// `None` where no account is kept.
    before: Option<FileStat>,
    room: Room<'a>,
}

impl Change<'_> {
    /// Names in `dir` are about to change.
    pub(super) fn names<D: AsFd>(&self, dir: D) -> nix::Result<Names<'_, D>> {
        let account = self.keeps();
        let before = account.map(|_| node::stat(&dir)).transpose()?;
        Ok(Names {
            account,
            before,
            dir,
            room: Room::default(),
        })
    }
}

impl<'a, D: AsFd> Names<'a, D> {
    /// Names in `other` are about to change as well; `None` when that is the same
    /// directory.
    pub(super) fn and<E: AsFd>(&self, other: E) -> nix::Result<Option<Names<'a, E>>> {
        let (Some(this), Some(_)) = (&self.before, &self.account) else {
            return Ok(None);
        };
        let before = node::stat(&other)?;
        let is_same = (this.st_dev, this.st_ino) == (before.st_dev, before.st_ino);
        Ok((!is_same).then(|| Names {
            account: self.account,
            dir: other,
            before: Some(before),
            room: Room::default(),
        }))
    }

    /// Room for `made`, if anything is made, and for what the directory may grow
    /// by when it gets the name `name`. The part for `made` is returned.
    pub(super) fn reserve(
        &mut self,
        made: Option<Inode>,
        name: &OsStr,
        at: &Inside,
    ) -> Result<Room<'a>> {
        let Some((volume, growth)) = self.account else {
            return Ok(Room::default());
        };
        let unit = volume.unit();
        let made = made.map_or(Usage::default(), |made| charge(made, unit));
        let before = self.size();
        let more = growth.charge(before, growth.added(before, name.len()));
        let account = volume.account();
        let reserve = |bytes| account.reserve(Bytes(bytes), made.inodes);
        let names = || dir::name_lengths(&self.dir).ok();
        let room = match reserve(made.bytes.0.saturating_add(more)) {
            Err(_) if more > 0 && growth.surely_fits(before, name.len(), names) => {
                reserve(made.bytes.0)
            }
            room => room,
        };
        let mut room = room.map_err(|over| no_space(at.path(), &over.to_string()))?;
        let more = room.amount().bytes.0.saturating_sub(made.bytes.0);
        self.room = Room::of(room.split(Bytes(more)), unit);
        Ok(Room::of(room, unit))
    }

    fn size(&self) -> u64 {
        self.before
            .map_or(0, |before| before.st_size.unsigned_abs())
    }
}

impl<D: AsFd> Drop for Names<'_, D> {
    fn drop(&mut self) {
        let Some((volume, _)) = self.account else {
            return;
        };
        let account = volume.account();
        match node::stat(&self.dir) {
            Ok(after) => {
                let unit = volume.unit();
                let before = unit.directory_bytes(self.size());
                let after = unit.directory_bytes(after.st_size.unsigned_abs());
                account.resettle(self.room.take(), Bytes(before), Bytes(after));
            }
            Err(_) => account.distrust(),
        }
    }
}
