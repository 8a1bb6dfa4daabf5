//! Getting at the contents of volumes in a store that has no mount: their
//! files one by one, or all of them at rest.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::{Error, Result};
use super::files::{Ledger, VolumeFs};
use super::in_memory::Volume;
use super::source::Source;
use super::store::Store;
use crate::diskimg::{MountedImage, Ways};
use crate::model::{Kind, VolumeName};

impl Store {
    pub(super) fn open_files(&self, name: &VolumeName) -> Result<VolumeFs> {
        // Not removed before it is known to be in use.
        let _life = self.life.lock();
        let volume = self.index.read().find(name)?;
        self.check_files(&volume)?;
        match volume.kind {
            Kind::Directory => {
                if !self.is_read_only() {
                    // What the volume may still hold is known by then.
                    if !volume.usage_is_exact() {
                        let used = self.recount(&volume)?;
                        self.set_counted(&volume, used)?;
                    }
                    self.mark_dirty(&volume)?;
                    self.keeps_account.store(true, Ordering::Release);
                }
                VolumeFs::in_store(&self.data_dir(&volume), self.ledger(&volume))
            }
            Kind::Disk => {
                let image = self.attach(&volume)?;
                VolumeFs::in_image(image, self.ledger(&volume))
            }
        }
    }

    fn ledger(&self, volume: &Arc<Volume>) -> Ledger {
        let dir = self.dir().to_owned();
        Ledger::new(volume, &self.files_gate, dir, self.is_read_only())
    }

    fn attach(&self, volume: &Volume) -> Result<Arc<MountedImage>> {
        let mut attached = volume.attached.lock();
        if let Some(image) = attached.upgrade() {
            return Ok(image);
        }
        let path = self.image_path(volume);
        if volume.is_guest_written() {
            return Err(Error::Image {
                why: format!(
                    "a guest may have written it, so that this machine's kernel is not given it; 'volfs disk trust {}' checks it first",
                    volume.name()
                ),
                path,
            });
        }
        let mounted = Ways::probe().mount(&path, self.is_read_only());
        let image = mounted.map_err(|error| Error::Image {
            path,
            why: error.to_string(),
        })?;
        let image = Arc::new(image);
        *attached = Arc::downgrade(&image);
        Ok(image)
    }

    pub(super) fn open_source(&self, name: &VolumeName) -> Result<Source> {
        let _life = self.life.lock();
        let volume = self.index.read().find(name)?;
        self.check_files(&volume)?;
        // Nobody else gets the image meanwhile; a directory may be changed by
        // who has its files, as in a mount.
        let image = self.take_image(&volume)?;
        let ledger = self.ledger(&volume);
        Ok(Source::new(
            volume.info(&self.layout),
            Box::new((image, ledger)),
        ))
    }

    pub(super) fn detach_mounts(&self, name: &VolumeName) -> Result<Vec<String>> {
        let volume = self.index.read().find(name)?;
        if volume.users.load(Ordering::Acquire) > 0 {
            return Err(Error::InUse {
                name: name.clone(),
                holders: self.holders_of(&volume),
            });
        }
        let mut detached = Ok(Vec::new());
        self.tell(|observer| detached = observer.detach(&volume));
        detached.map_err(|holders| Error::InUse {
            name: volume.name(),
            holders,
        })
    }
}
