//! Watching attached images: errors that a file system finds in itself, servers
//! that end, and writes past the end.

use std::sync::atomic::Ordering;

use super::Face;
use crate::diskimg::Health;
use crate::fuse::error::OpError;
use crate::fuse::fs::FileSystem;
use crate::volume::Volume;

impl FileSystem {
    /// Looks at all images in use.
    pub(in crate::fuse) fn watch_disks(&self) {
        let slots: Vec<_> = self.disks.by_slot.read().keys().copied().collect();
        for volume in slots
            .into_iter()
            .filter_map(|slot| self.store.volume_in(slot))
        {
            self.has_errors(&volume);
            self.cut_image(&volume);
        }
    }

    /// Whether the file system in an attached image has found errors in itself
    /// since it was attached. The first to see them tells everybody.
    pub(in crate::fuse) fn has_errors(&self, volume: &Volume) -> bool {
        let disk = self.disks.of(volume.slot);
        let mut face = disk.face.lock();
        if let Some(why) = face.is_gone() {
            log::error!("volume {}: {why}", volume.name());
            *face = Face::Resting;
        }
        let Face::Directory(ground) = &*face else {
            return false;
        };
        let Health::Errors(errors) = ground.health() else {
            return false;
        };
        drop(face);
        if disk.told_errors.swap(errors.count, Ordering::Relaxed) < errors.count {
            let error = OpError::ImageErrors {
                name: volume.name(),
                count: errors.count,
                last_in: errors.last_in,
            };
            log::error!("{error}");
            self.last_errors.set_for_all(error.to_string());
        }
        true
    }
}
