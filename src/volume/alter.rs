//! What can be changed of a volume while it is there: its name and settings.
//! Its files stay where they are, so that it may be in use.

use std::sync::Arc;

use parking_lot::MutexGuard;

use super::api::Change;
use super::error::{Error, Result};
use super::image;
use super::in_memory::Volume;
use super::index::Index;
use super::layout::Place;
use super::lease::{Lease, Use};
use super::observer::Growth;
use super::store::Store;
use super::unused;
use crate::failpoint;
use crate::meta::VolumeRow;
use crate::model::{Bytes, InvalidSpec, Kind, Labels, Limits, Timestamp, VolumeName};

impl Store {
    pub(super) fn rename_volume(&self, from: &VolumeName, to: &VolumeName) -> Result<Arc<Volume>> {
        self.writable()?;
        let _life = self.life.lock();
        let volume = self.index.read().find(from)?;
        if from == to {
            return Ok(volume);
        }
        self.check_name(to)?;
        let claim = self.claim_name(to)?;
        self.tell(|observer| observer.renaming(from, &volume));
        let now = Timestamp::now();
        self.catalogue()?.rename(volume.serial, to, now)?;
        failpoint::hit("rename.committed");
        set_name(&mut self.index.write(), &volume, to, now);
        drop(claim);
        self.tell(|observer| {
            observer.vanished(from, &volume);
            observer.appeared(to, &volume);
        });
        self.renew_manifest(&volume);
        failpoint::hit("rename.manifest");
        Ok(volume)
    }

    /// Exchanges the names of two volumes, in one transaction.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn exchange(&self, a: &VolumeName, b: &VolumeName) -> Result<()> {
        self.writable()?;
        let _life = self.life.lock();
        let (first, second) = {
            let index = self.index.read();
            (index.find(a)?, index.find(b)?)
        };
        if a == b {
            return Ok(());
        }
        self.tell(|observer| {
            observer.renaming(a, &first);
            observer.renaming(b, &second);
        });
        let now = Timestamp::now();
        self.catalogue()?
            .exchange((first.serial, a), (second.serial, b), now)?;
        failpoint::hit("rename.committed");
        {
            let mut index = self.index.write();
            set_name(&mut index, &first, b, now);
            set_name(&mut index, &second, a, now);
        }
        self.tell(|observer| {
            observer.vanished(a, &first);
            observer.vanished(b, &second);
            observer.appeared(b, &first);
            observer.appeared(a, &second);
        });
        self.renew_manifest(&first);
        failpoint::hit("rename.manifest");
        self.renew_manifest(&second);
        Ok(())
    }

    pub(super) fn change_volume(&self, name: &VolumeName, change: &Change) -> Result<Arc<Volume>> {
        self.writable()?;
        let Some(size) = change.size else {
            let readied = self.ready_for_limit(name, change)?;
            let life = self.life.lock();
            let found = self.index.read().find(name);
            // Removed meanwhile, and maybe made again.
            let volume = found.and_then(|found| match &readied {
                Some(readied) if readied.id != found.id => {
                    Err(Error::NotFound { name: name.clone() })
                }
                _ => Ok(found),
            });
            return match (volume, readied) {
                (Ok(volume), _) => self.save_change(&life, &volume, change),
                (Err(error), Some(readied)) => {
                    readied.account().set_limits(readied.row().limits);
                    Err(error)
                }
                (Err(error), None) => Err(error),
            };
        };
        // Until the new size is in the catalogue: of several who want to
        // change it, one comes after the other.
        let lease = self.lease(name, Use::Alone)?;
        let volume = lease.volume();
        if volume.kind == Kind::Disk {
            let (before, after) = (volume.row(), changed(&volume.row(), change)?);
            self.resize_own(volume, &after)?;
            let grown = self
                .grow(&lease, size)
                .and_then(|()| self.save_change(&self.life.lock(), volume, change));
            if grown.is_err() {
                // It is no more than it was.
                self.resize_own(volume, &before)?;
            }
            return grown;
        }
        let size_alone = Change {
            size: change.size,
            ..Change::default()
        };
        if *change != size_alone {
            return Err(InvalidSpec::SizeAlone.into());
        }
        let holders = self.holders_outside(volume);
        if !holders.is_empty() {
            return Err(Error::InUse {
                name: name.clone(),
                holders,
            });
        }
        self.become_disk(&self.life.lock(), volume, size)
    }

    fn save_change(
        &self,
        _life: &MutexGuard<'_, ()>,
        volume: &Arc<Volume>,
        change: &Change,
    ) -> Result<Arc<Volume>> {
        let row = changed(&volume.row(), change)?;
        let before = volume.row().limits;
        // In force before it is looked who writes, so that nobody slips by.
        volume.account().set_limits(row.limits);
        let was_read_only = volume.is_read_only();
        volume.set_read_only(was_read_only || row.read_only);
        let saved = self
            .check_accounted(volume, before)
            .and_then(|()| match row.read_only && !was_read_only {
                true => self.check_nobody_writes(volume),
                false => Ok(()),
            })
            .and_then(|()| self.commit_removal(|it| it.save_settings(&row)));
        if let Err(error) = saved {
            volume.account().set_limits(before);
            volume.set_read_only(was_read_only);
            return Err(error);
        }
        volume.set_read_only(row.read_only);
        volume.removed.set_limit(row.trash_files);
        volume.set_row(row);
        volume
            .removed
            .trim(&self.layout.data(Place::Volumes, volume.id));
        self.renew_manifest(volume);
        Ok(Arc::clone(volume))
    }
}

impl Store {
    /// A volume that is to have its first limit of bytes has the limit in force
    /// when this returns, and nothing that is not charged because its size does
    /// not show it. Returns it; its row is as before.
    fn ready_for_limit(&self, name: &VolumeName, change: &Change) -> Result<Option<Arc<Volume>>> {
        let Some(Some(_)) = change.quota_bytes else {
            return Ok(None);
        };
        let volume = {
            let _life = self.life.lock();
            let volume = self.index.read().find(name)?;
            let before = volume.row().limits;
            let row = changed(&volume.row(), change)?;
            if before.bytes.is_some() || volume.kind == Kind::Disk {
                return Ok(None);
            }
            volume.account().set_limits(row.limits);
            if let Err(error) = self.check_accounted(&volume, before) {
                volume.account().set_limits(before);
                return Err(error);
            }
            volume
        };
        let mut freed = Ok(0);
        let mut work = || {
            let _still = volume.changing.lock();
            freed = unused::free(&self.data_dir(&volume), volume.unit());
        };
        match self.observer() {
            Some(observer) => observer.still(&volume, &mut work),
            None => work(),
        }
        match freed {
            Ok(0) => {}
            Ok(files) => log::info!(
                "volume {name}: what {files} files had allocated beyond their ends is freed, before its first limit"
            ),
            Err(error) => {
                volume.account().set_limits(volume.row().limits);
                return Err(error);
            }
        }
        Ok(Some(volume))
    }

    /// Grows the image, before the catalogue has its new size: cut between the
    /// two, the same change can be asked for again.
    fn grow(&self, lease: &Lease, size: Bytes) -> Result<()> {
        let volume = lease.volume();
        let path = self.image_path(volume);
        let bytes = image::check_size(size)?;
        let mut growth = if volume.is_guest_written() {
            Growth::FileOnly
        } else {
            Growth::Unmounted { why: None }
        };
        self.tell(|observer| growth = observer.grow_image(volume, bytes));
        let why = match growth {
            Growth::Done => return Ok(()),
            Growth::FileOnly => return image::lengthen(&path, size),
            Growth::Unmounted { why } => why,
        };
        let _image = self.take_image(lease).map_err(|error| match (error, why) {
            (Error::InUse { name, holders }, Some(why)) => Error::NotGrown { name, holders, why },
            (error, _) => error,
        })?;
        image::grow(&path, size)
    }

    /// Notes whether a guest may have written the image of a disk volume;
    /// durable when it returns.
    ///
    /// # Errors
    /// The catalogue cannot be written.
    pub fn set_guest_written(&self, volume: &Volume, guest_written: bool) -> Result<()> {
        if volume.is_guest_written() == guest_written {
            return Ok(());
        }
        let _life = self.life.lock();
        let mut row = (*volume.row()).clone();
        let Some(disk) = row.disk.as_mut() else {
            return Ok(());
        };
        disk.guest_written = guest_written;
        self.catalogue()?.save_settings(&row)?;
        volume.set_row(row);
        Ok(())
    }

    /// A volume is read-only from when nobody can write to it any more.
    fn check_nobody_writes(&self, volume: &Volume) -> Result<()> {
        let mut holders = Vec::new();
        self.tell(|observer| holders = observer.writers(volume));
        if holders.is_empty() {
            return Ok(());
        }
        let name = volume.name();
        Err(Error::OpenForWriting { name, holders })
    }

    /// A volume that had no limit `before` may get one only while nobody
    /// writes to it uncounted.
    pub(super) fn check_accounted(&self, volume: &Volume, before: Limits) -> Result<()> {
        if before != Limits::default() || !volume.is_limited() {
            return Ok(());
        }
        let mut holders = Vec::new();
        self.tell(|observer| holders = observer.unaccounted_writers(volume));
        if holders.is_empty() {
            return Ok(());
        }
        Err(Error::Unaccounted {
            name: volume.name(),
            holders,
        })
    }
}

fn set_name(index: &mut Index, volume: &Arc<Volume>, name: &VolumeName, now: Timestamp) {
    let mut row = (*volume.row()).clone();
    row.name.clone_from(name);
    row.updated = now;
    volume.set_row(row);
    index.rename(volume, name);
}

fn changed(row: &VolumeRow, change: &Change) -> Result<VolumeRow> {
    let mut row = row.clone();
    let limits = Limits {
        bytes: change.quota_bytes.unwrap_or(row.limits.bytes),
        inodes: change.quota_inodes.unwrap_or(row.limits.inodes),
    };
    limits.check()?;
    if row.kind == Kind::Disk && limits != Limits::default() {
        return Err(InvalidSpec::DiskWithQuota.into());
    }
    row.limits = limits;
    if let Some(size) = change.size {
        image::check_size(size)?;
        let disk = row.disk.as_mut().ok_or(InvalidSpec::SizeOfDirectory)?;
        if size < disk.size {
            return Err(InvalidSpec::Shrink { now: disk.size }.into());
        }
        disk.size = size;
    }
    for key in &change.unset_labels {
        row.labels.unset(key);
    }
    for (key, value) in &change.set_labels {
        Labels::check(key, value)?;
        row.labels.set(key, value);
    }
    if !change.set_labels.is_empty() {
        // A volume from before there was a limit can be changed otherwise.
        row.labels.check_all()?;
    }
    row.pinned = change.pinned.unwrap_or(row.pinned);
    row.read_only = change.read_only.unwrap_or(row.read_only);
    match change.trash_files {
        Some(Some(_)) if row.kind == Kind::Disk => return Err(InvalidSpec::TrashOfDisk.into()),
        Some(limit) => row.trash_files = limit.filter(|limit| limit.0 > 0),
        None => {}
    }
    row.updated = Timestamp::now();
    Ok(row)
}
