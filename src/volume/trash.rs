//! The end of a volume: removal, the trash, coming back from it, and deletion
//! for good.
//!
//! The row is committed first, always; a directory follows its row. That makes
//! the restoration, too, one commit and then a move: whatever is cut, the next
//! start moves the directory to where its row says, and no other rule is
//! needed.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use nix::dir::Dir;
use nix::errno::Errno;

use super::api::Removal;
use super::delete::delete_whole_tree;
use super::error::{Error, Result};
use super::holder::{Holder, holders_text};
use super::image;
use super::in_memory::Volume;
use super::layout::{Layout, Place};
use super::lease::Use;
use super::manifest::Manifest;
use super::purge::Doomed;
use super::store::Store;
use crate::failpoint;
use crate::meta::State;
use crate::model::{Kind, Retention, Timestamp, VolumeId, VolumeName};
use crate::sys::descent;

/// How many deleted volumes' rows are dropped together. Dropping takes two
/// fsyncs, for one row or for many.
const DROP_TOGETHER: usize = 64;

/// Whether a volume that was to be removed as empty was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emptied {
    Yes,
    HoldsFiles,
}

/// Removes the root directory of a removed volume in `place` if it is empty: looked
/// at and removed in one system call, so that no file that somebody puts there
/// meanwhile is lost.
pub(super) fn rmdir_contents(layout: &Layout, place: Place, id: VolumeId) -> Result<Emptied> {
    let data = layout.data(place, id);
    match fs::remove_dir(&data) {
        Ok(()) => Ok(Emptied::Yes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Emptied::Yes),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(Emptied::HoldsFiles),
        Err(error) => Err(Error::io("remove", &data, &error)),
    }
}

/// A volume that somebody uses, and who does.
type InUse = (Arc<Volume>, Vec<Holder>);

/// A volume as the thread that deletes has it.
fn doomed(volume: &Volume) -> Doomed {
    let known = volume.kind == Kind::Directory && volume.usage_is_exact();
    Doomed {
        id: volume.id,
        name: Some(volume.name()),
        row: Some((volume.serial, volume.slot)),
        // Its root, its own directory and what describes it as well.
        total: known.then(|| volume.usage().inodes + 2),
        _lock: None,
    }
}

impl Store {
    pub(super) fn remove_volume(&self, name: &VolumeName, how: Removal) -> Result<()> {
        self.writable()?;
        let check_pin = |volume: &Volume| match volume.row().pinned {
            true => Err(Error::Pinned { name: name.clone() }),
            false => Ok(()),
        };
        let volume = self.index.read().find(name)?;
        check_pin(&volume)?;
        drop(volume);
        // Until it is removed, or is not.
        let lease = self.lease(name, Use::Alone)?;
        let volume = Arc::clone(lease.volume());
        let holders = self.holders_outside(&volume);
        if !holders.is_empty() {
            return Err(Error::InUse {
                name: name.clone(),
                holders,
            });
        }
        let _image = self.take_image(&lease)?;
        let life = self.life.lock();
        // All that may have happened to it meanwhile.
        if !self.is_called(name, &volume) {
            return Err(Error::NotFound { name: name.clone() });
        }
        check_pin(&volume)?;
        match how {
            Removal::Trash => {
                self.check_files(&volume)?;
                self.bury(&volume, State::Trash)
            }
            Removal::Purge => {
                self.bury(&volume, State::Purging)?;
                drop(life);
                self.purge([volume])
            }
            // With files that can be restored: as 'rm -rf' of a volume leaves it.
            Removal::Empty if self.keeps_removed(&volume) && self.is_empty(&volume)? => {
                self.bury(&volume, State::Trash)
            }
            Removal::Empty => {
                self.remove_if_empty(name, &volume)?;
                drop(life);
                self.delete_for_good(&volume)
            }
        }
    }

    fn keeps_removed(&self, volume: &Volume) -> bool {
        let data = self.layout.data(Place::Volumes, volume.id);
        volume.kind == Kind::Directory && super::removed::are_any(&data)
    }

    /// Takes a live volume out of sight and its directory to the trash.
    fn bury(&self, volume: &Arc<Volume>, state: State) -> Result<()> {
        let now = Timestamp::now();
        let name = volume.name();
        self.commit_removal(|it| it.set_state(&[volume.serial], state, None, now))?;
        failpoint::hit("remove.committed");
        self.set_state_in_memory(volume, state, now);
        {
            let mut index = self.index.write();
            index.vanish(volume);
            if state == State::Trash {
                index.put_in_trash(volume);
            }
        }
        let moved = self.relocate_removed(volume.id);
        if let Err(error) = moved
            && self.layout.home(Place::Volumes, volume.id).exists()
        {
            // It is removed, as its row says; the next start moves it.
            log::warn!("volume {name:?} is removed but its directory did not move: {error}");
        }
        failpoint::hit("remove.moved");
        self.tell(|observer| observer.vanished(&name, volume));
        Ok(())
    }

    fn remove_if_empty(&self, name: &VolumeName, volume: &Arc<Volume>) -> Result<()> {
        if !self.is_empty(volume)? {
            return Err(Error::NotEmpty { name: name.clone() });
        }
        let now = Timestamp::now();
        self.commit_removal(|it| it.set_state(&[volume.serial], State::Rmdir, None, now))?;
        failpoint::hit("remove.committed");
        let emptied = match self.relocate_removed(volume.id) {
            Ok(()) => {
                failpoint::hit("remove.moved");
                rmdir_contents(&self.layout, Place::Trash, volume.id)
            }
            // A directory would have to grow for the move. The next start makes
            // no difference between the two.
            Err(Error::Io { errno, .. }) if errno == libc::ENOSPC => {
                rmdir_contents(&self.layout, Place::Volumes, volume.id)
            }
            Err(error) => Err(error),
        };
        match emptied {
            Ok(Emptied::Yes) => {
                self.set_state_in_memory(volume, State::Rmdir, now);
                self.index.write().vanish(volume);
                self.tell(|observer| observer.vanished(name, volume));
                Ok(())
            }
            other => {
                // Somebody put a file there after the first look: it stays.
                self.catalogue()?
                    .set_state(&[volume.serial], State::Live, None, now)?;
                // Unless it was there all the time.
                if self.layout.home(Place::Trash, volume.id).exists() {
                    self.layout
                        .relocate(volume.id, Place::Trash, Place::Volumes)?;
                }
                other.and(Err(Error::NotEmpty { name: name.clone() }))
            }
        }
    }

    pub(super) fn is_empty(&self, volume: &Volume) -> Result<bool> {
        match volume.kind {
            Kind::Directory => {
                let data = self.data_dir(volume);
                match holds_nothing(&data) {
                    Err(Errno::ENOENT) => Err(self.files_missing(volume)),
                    result => result.map_err(|errno| Error::io("list", &data, &errno.into())),
                }
            }
            Kind::Disk => {
                self.check_files(volume)?;
                image::is_empty(&self.contents(Place::Volumes, volume))
            }
        }
    }

    /// Has volumes that nobody sees any more deleted in the background.
    fn purge(&self, volumes: impl IntoIterator<Item = Arc<Volume>>) -> Result<()> {
        self.purger.push(volumes.into_iter().map(|it| doomed(&it)));
        let mut gone = self.gone.lock();
        gone.append(&mut self.purger.take_gone());
        if gone.len() >= DROP_TOGETHER {
            self.drop_rows(&mut gone)?;
        }
        Ok(())
    }

    /// Deletes, at once, what an empty volume that nobody sees any more has
    /// left.
    pub(super) fn delete_for_good(&self, volume: &Volume) -> Result<()> {
        for place in [Place::Trash, Place::Volumes] {
            delete_whole_tree(&self.layout.home(place, volume.id))?;
        }
        failpoint::hit("remove.purged");
        self.refill_reserve();
        let mut gone = self.gone.lock();
        gone.push((volume.serial, volume.slot));
        if gone.len() >= DROP_TOGETHER {
            self.drop_rows(&mut gone)?;
        }
        Ok(())
    }

    /// Drops the rows of volumes that are deleted.
    ///
    /// Until then the next start finds rows without directories and drops
    /// them, so that nothing depends on this being done soon. The directories
    /// are made to be gone on disk before their rows: a row is all that tells
    /// a deleted volume from somebody's lost directory.
    pub(super) fn drop_gone(&self) -> Result<()> {
        let mut gone = self.gone.lock();
        gone.append(&mut self.purger.take_gone());
        self.drop_rows(&mut gone)
    }

    fn drop_rows(&self, gone: &mut Vec<(crate::model::Serial, crate::model::Slot)>) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        self.layout.sync(Place::Volumes)?;
        self.layout.sync(Place::Trash)?;
        let serials: Vec<_> = gone.iter().map(|(serial, _)| *serial).collect();
        self.commit_removal(|it| it.forget(&serials))?;
        let mut index = self.index.write();
        for (_, slot) in gone.drain(..) {
            index.give_up_slot(slot);
        }
        Ok(())
    }

    pub(super) fn restore_volume(
        &self,
        which: &str,
        new_name: Option<&VolumeName>,
    ) -> Result<Arc<Volume>> {
        self.writable()?;
        let _life = self.life.lock();
        let volume = self.index.read().find_in_trash(which)?;
        if let Some(name) = new_name {
            self.check_name(name)?;
        }
        let name = new_name.cloned().unwrap_or_else(|| volume.name());
        let claim = self.claim_name(&name)?;
        // A move that failed may have left it in the other place.
        if self
            .contents(Place::Trash, &volume)
            .symlink_metadata()
            .is_err()
            && self.check_files(&volume).is_err()
        {
            let path = self.contents(Place::Trash, &volume);
            return Err(Error::FilesMissing { name, path });
        }
        let now = Timestamp::now();
        self.catalogue()?
            .set_state(&[volume.serial], State::Live, Some(&name), now)?;
        failpoint::hit("restore.committed");
        if let Err(error) = self
            .layout
            .relocate(volume.id, Place::Trash, Place::Volumes)
        {
            self.catalogue()?
                .set_state(&[volume.serial], State::Trash, None, now)?;
            return Err(error);
        }
        failpoint::hit("restore.moved");
        let mut row = (*volume.row()).clone();
        row.name.clone_from(&name);
        row.state = State::Live;
        row.trashed = None;
        row.orphan = false;
        row.updated = now;
        volume.set_row(row);
        self.index.write().appear(&name, &volume);
        drop(claim);
        self.tell(|observer| observer.appeared(&name, &volume));
        self.renew_manifest(&volume);
        Ok(volume)
    }

    pub(super) fn purge_trash(&self, which: Option<&str>) -> Result<usize> {
        self.writable()?;
        let doomed: Vec<Arc<Volume>> = match which {
            Some(which) => vec![self.index.read().find_in_trash(which)?],
            None => self.index.read().trash().map(Arc::clone).collect(),
        };
        let (purged, mut kept) = self.purge_these(&doomed, &|_| true)?;
        match kept.pop() {
            None => Ok(purged.len()),
            Some((volume, holders)) => Err(Error::TrashInUse {
                name: volume.name(),
                holders,
                kept: kept.len(),
                deleted: purged.len(),
            }),
        }
    }

    /// Deletes volumes in the trash that are `due`, but for those that somebody
    /// uses by their path in the store; returns both.
    fn purge_these(
        &self,
        volumes: &[Arc<Volume>],
        due: &dyn Fn(&Volume) -> bool,
    ) -> Result<(Vec<Arc<Volume>>, Vec<InUse>)> {
        let (mut purged, mut kept) = (Vec::new(), Vec::new());
        // In small steps, so that a full file system has room for each.
        for some in volumes.chunks(DROP_TOGETHER) {
            let mut free = Vec::new();
            for (volume, holders) in some.iter().zip(self.holders_in_store(some)) {
                match holders.is_empty() {
                    true => free.push(Arc::clone(volume)),
                    false => kept.push((Arc::clone(volume), holders)),
                }
            }
            let doomed = self.doom(&free, due)?;
            purged.extend(doomed.iter().map(Arc::clone));
            self.purge(doomed)?;
        }
        Ok((purged, kept))
    }

    /// Deletes for ever, in the background, what has been in the trash for
    /// longer than `retention`. Returns how many.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], the catalogue cannot be written.
    pub fn expire_trash(&self, retention: Retention) -> Result<usize> {
        let now = Timestamp::now();
        let is_over = |volume: &Volume| {
            let row = volume.row();
            // Nobody has removed an orphan.
            !row.orphan && row.trashed.is_some_and(|at| retention.is_over(at, now))
        };
        let over: Vec<_> = {
            let index = self.index.read();
            let over = index.trash().filter(|volume| is_over(volume));
            over.map(Arc::clone).collect()
        };
        if over.is_empty() {
            return Ok(0);
        }
        let (purged, kept) = self.purge_these(&over, &is_over)?;
        let mut told = self.kept_in_trash.lock();
        told.retain(|id| kept.iter().any(|(volume, _)| volume.id == *id));
        for (volume, holders) in &kept {
            if told.insert(volume.id) {
                log::warn!(
                    "removed volume {} ({}) has been in the trash for {retention}, and is kept while it is in use by {}",
                    volume.name(),
                    volume.id,
                    holders_text(holders)
                );
            }
        }
        drop(told);
        for volume in &purged {
            log::info!(
                "removed volume {} ({}) has been in the trash for {retention} and is deleted",
                volume.name(),
                volume.id
            );
        }
        Ok(purged.len())
    }

    /// Commits that volumes in the trash are to be deleted; returns those that
    /// nobody has restored meanwhile. One that was, and was removed again, has
    /// to be `due` again, too.
    fn doom(
        &self,
        volumes: &[Arc<Volume>],
        due: &dyn Fn(&Volume) -> bool,
    ) -> Result<Vec<Arc<Volume>>> {
        let _life = self.life.lock();
        let doomed: Vec<_> = volumes
            .iter()
            .filter(|volume| volume.row().state == State::Trash && due(volume))
            .map(Arc::clone)
            .collect();
        if doomed.is_empty() {
            return Ok(doomed);
        }
        let serials: Vec<_> = doomed.iter().map(|volume| volume.serial).collect();
        let now = Timestamp::now();
        self.commit_removal(|it| it.set_state(&serials, State::Purging, None, now))?;
        failpoint::hit("trash.purge");
        for volume in &doomed {
            self.set_state_in_memory(volume, State::Purging, now);
            self.index.write().take_from_trash(volume);
        }
        Ok(doomed)
    }

    pub(super) fn set_state_in_memory(&self, volume: &Volume, state: State, now: Timestamp) {
        let mut row = (*volume.row()).clone();
        row.state = state;
        if matches!(state, State::Purging | State::Rmdir) {
            // Nobody can bring it back: it counts against nobody.
            drop(volume.account().leave());
        }
        row.trashed = (state != State::Live).then_some(now);
        row.updated = now;
        volume.set_row(row);
    }

    /// Writes `volume.json` anew after a change. The change itself is
    /// committed: a failure here is made good at the next start.
    pub(super) fn renew_manifest(&self, volume: &Volume) {
        let home = self.layout.home(Place::Volumes, volume.id);
        let renewed = Manifest::of(&volume.row()).replace(&home).and_then(|()| {
            self.catalogue()?
                .manifests_are_current(&[volume.serial])
                .map_err(Error::from)
        });
        if let Err(error) = renewed {
            log::warn!("volume {:?}: {error}", volume.name());
        }
    }
}

#[cfg(test)]
mod tests;

/// Whether a directory is empty. Looking leaves no trace in its access time.
fn holds_nothing(path: &Path) -> nix::Result<bool> {
    let mut dir = Dir::from_fd(descent::open_top(path, descent::LIST)?)?;
    for entry in dir.iter() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}
