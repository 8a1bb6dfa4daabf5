//! An empty directory volume becomes a disk volume: another volume takes its
//! name, in one transaction.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::build::Build;
use super::error::{Error, Result};
use super::image;
use super::in_memory::Volume;
use super::layout::Place;
use super::make::new_row;
use super::store::Store;
use super::trash::{Emptied, rmdir_contents};
use crate::failpoint;
use crate::meta::State;
use crate::model::{Bytes, InvalidSpec, Kind, Limits, Owner, Slot, Timestamp, VolumeSpec};

impl Store {
    /// Makes `old`, an empty directory volume, a disk volume of `size` bytes
    /// with the same name, labels and owner. Called by who has `old` alone, with
    /// `life` locked.
    ///
    /// A file that somebody puts into the directory meanwhile is not lost: the
    /// directory is in the trash with it then.
    pub(super) fn become_disk(
        &self,
        _life: &MutexGuard<'_, ()>,
        old: &Arc<Volume>,
        size: Bytes,
    ) -> Result<Arc<Volume>> {
        image::check_size(size)?;
        let row = old.row();
        if old.limits() != Limits::default() {
            return Err(InvalidSpec::DiskWithQuota.into());
        }
        if !self.is_empty(old)? {
            return Err(InvalidSpec::SizeOfDirectory.into());
        }
        let data = self.data_dir(old);
        let found = data
            .metadata()
            .map_err(|error| Error::io("look at", &data, &error))?;
        let spec = VolumeSpec {
            kind: Kind::Disk,
            size: Some(size),
            labels: row.labels.clone(),
            owner: Some(Owner {
                uid: found.uid(),
                gid: found.gid(),
                mode: found.mode() & 0o7777,
            }),
            ..VolumeSpec::directory(row.name.clone())
        };
        let place = self.index.write().claim_place();
        let Some((serial, slot)) = place else {
            return Err(Error::BadStore {
                store: self.dir().to_owned(),
                why: format!("it holds {} volumes already, trash included", Slot::MAX),
            });
        };
        let mut new = new_row(&spec, serial, slot);
        new.pinned = row.pinned;
        new.read_only = row.read_only;
        let member = match self.take_over(old, &new) {
            Ok(member) => member,
            Err(error) => {
                self.index.write().give_up_slot(slot);
                return Err(error);
            }
        };
        let built = Build::new(&self.layout, &new, spec.owner).and_then(|mut build| {
            build.publish()?;
            new.contents = build.contents();
            let now = Timestamp::now();
            self.catalogue()?
                .replace(old.serial, State::Rmdir, &new, now)?;
            build.keep();
            Ok(now)
        });
        let now = match built {
            Ok(now) => now,
            Err(error) => {
                self.index.write().give_up_slot(slot);
                self.hand_back(old, member);
                return Err(error);
            }
        };
        failpoint::hit("convert.committed");
        let volume = Arc::new(Volume::new(new, self.unit));
        if let Some(member) = member {
            volume.account().join(member);
        }
        self.set_state_in_memory(old, State::Rmdir, now);
        {
            let mut index = self.index.write();
            index.vanish(old);
            index.appear(&spec.name, &volume);
        }
        self.tell(|observer| {
            observer.vanished(&spec.name, old);
            observer.appeared(&spec.name, &volume);
        });
        if let Err(error) = self.put_aside(old) {
            // The next start does it.
            log::warn!(
                "the directory that volume {:?} was is left: {error}",
                spec.name
            );
        }
        Ok(volume)
    }

    fn put_aside(&self, old: &Arc<Volume>) -> Result<()> {
        self.layout.relocate(old.id, Place::Volumes, Place::Trash)?;
        match rmdir_contents(&self.layout, Place::Trash, old.id)? {
            Emptied::Yes => self.delete_for_good(old),
            Emptied::HoldsFiles => {
                log::warn!(
                    "volume {:?} got files while it became a disk volume; they are in the trash",
                    old.name()
                );
                let now = Timestamp::now();
                self.catalogue()?
                    .set_state(&[old.serial], State::Trash, None, now)?;
                self.set_state_in_memory(old, State::Trash, now);
                self.count_again(old);
                self.index.write().put_in_trash(old);
                Ok(())
            }
        }
    }
}
