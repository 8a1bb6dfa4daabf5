//! Getting at the contents of volumes in a store that has no mount: their
//! files one by one, or all of them at rest.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::{Error, Result};
use super::files::{Ledger, VolumeFs};
use super::in_memory::Volume;
use super::lease::Use;
use super::source::Source;
use super::store::Store;
use crate::diskimg::{MountedImage, Ways};
use crate::model::{Kind, VolumeName};
use crate::sys::mount::How;

impl Store {
    pub(super) fn open_files(&self, name: &VolumeName) -> Result<VolumeFs> {
        let lease = self.lease(name, Use::Files)?;
        let volume = Arc::clone(lease.volume());
        self.check_files(&volume)?;
        let ledger = Ledger::new(
            lease,
            &self.files_gate,
            self.dir().to_owned(),
            self.dir_growth(),
            self.is_read_only(),
        );
        match volume.kind {
            Kind::Directory => {
                if !self.is_read_only() {
                    // What the volume may still hold is known by then.
                    self.count_if_unknown(&volume)?;
                    self.mark_dirty(&volume)?;
                    self.keeps_account.store(true, Ordering::Release);
                }
                VolumeFs::in_store(&self.data_dir(&volume), ledger)
            }
            Kind::Disk => VolumeFs::in_image(self.attach(&volume)?, ledger),
        }
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
                    volume.name().as_shell_word()
                ),
                path,
            });
        }
        let how = How {
            read_only: self.is_read_only(),
            noatime: false,
        };
        let mounted = Ways::probe().mount(&path, how);
        let image = mounted.map_err(|error| Error::Image {
            path,
            why: error.to_string(),
        })?;
        let image = Arc::new(image);
        *attached = Arc::downgrade(&image);
        Ok(image)
    }

    pub(super) fn open_source(&self, name: &VolumeName) -> Result<Source> {
        // Nobody else gets the image meanwhile; a directory may be changed by
        // who has its files, as in a mount.
        let lease = self.lease(name, Use::Contents)?;
        let volume = Arc::clone(lease.volume());
        self.check_files(&volume)?;
        let image = self.take_image(&lease)?;
        // The image is given back first, as fields are dropped in their order.
        let guard = Box::new((image, lease));
        Ok(Source::new(volume.info(&self.layout), guard))
    }
}
