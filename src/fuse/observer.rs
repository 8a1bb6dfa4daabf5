//! Keeps the kernel's view of the root in step with the store, and answers the
//! store's question who uses a volume.

use std::cell::Cell;
use std::sync::{Arc, Weak};

use super::fs::FileSystem;
use super::image_file;
use super::node::NodeId;
use crate::diskimg::ImageSize;
use crate::model::{Kind, VolumeName};
use crate::volume::{Growth, Holder, ImageGuard, Observer, Volume};

thread_local! {
    static IN_REQUEST: Cell<bool> = const { Cell::new(false) };
}

/// Runs a change that the kernel itself has asked for: it knows what becomes
/// of the name, and must not be told.
pub(super) fn in_request<T>(run: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            IN_REQUEST.set(false);
        }
    }
    IN_REQUEST.set(true);
    let _reset = Reset;
    run()
}

/// The mount as an observer of its store.
pub(super) struct MountObserver(pub(super) Weak<FileSystem>);

impl MountObserver {
    /// `renamed` when the volume has another name, or had one before: whoever
    /// works in it goes on to, with what is mounted there.
    fn name_changed(&self, name: &VolumeName, volume: &Volume, renamed: bool) {
        let Some(fs) = self.0.upgrade() else {
            return;
        };
        if volume.kind == Kind::Disk {
            // The kernel does not connect this name with the volume's.
            let image = image_file::name_of(name);
            fs.kernel.entry_changed(image_file::DIR, &image);
        }
        if !IN_REQUEST.get() {
            if renamed {
                fs.kernel
                    .entry_expired(NodeId::ROOT, name.as_str().as_ref());
            } else {
                fs.kernel.entry_changed(NodeId::ROOT, name.as_str());
            }
        }
    }
}

impl Observer for MountObserver {
    fn holders(&self, volume: &Volume) -> Vec<Holder> {
        self.0
            .upgrade()
            .map(|fs| super::holders::of_volume(&fs, volume))
            .unwrap_or_default()
    }

    fn holders_of_each(&self, volumes: &[Arc<Volume>]) -> Vec<Vec<Holder>> {
        self.0
            .upgrade()
            .map(|fs| super::holders::of_each(&fs, volumes))
            .unwrap_or_default()
    }

    fn unaccounted_writers(&self, volume: &Volume) -> Vec<Holder> {
        let Some(fs) = self.0.upgrade() else {
            return Vec::new();
        };
        let writers = super::holders::unaccounted_writers(&fs, volume);
        if writers.is_empty() && volume.had_unclean_stop() {
            // Files that were in passthrough when the daemon was killed may
            // have been written to since the count at the start.
            volume.account().distrust();
            super::housekeeping::hold_uncounted(&fs);
        }
        writers
    }

    fn take_image(&self, volume: &Volume) -> Result<ImageGuard, Vec<Holder>> {
        match self.0.upgrade() {
            Some(fs) => fs.take_image(volume),
            // Nobody serves it any more.
            None => Ok(Box::new(())),
        }
    }

    fn grow_image(&self, volume: &Volume, size: ImageSize) -> Growth {
        match self.0.upgrade() {
            Some(fs) => fs.grow_image(volume, size),
            None => Growth::Unmounted { why: None },
        }
    }

    fn detach(&self, volume: &Volume) -> Result<Vec<String>, Vec<Holder>> {
        match self.0.upgrade() {
            Some(fs) => super::holders::detach(&fs, volume),
            None => Ok(Vec::new()),
        }
    }

    fn renaming(&self, name: &VolumeName, volume: &Volume) {
        if let Some(fs) = self.0.upgrade() {
            fs.former_names.note(fs.store(), &fs.live, volume, name);
        }
    }

    fn appeared(&self, name: &VolumeName, volume: &Volume) {
        if let Some(fs) = self.0.upgrade() {
            fs.volume_stats.appeared(volume.slot, volume.serial);
        }
        // Back from the trash after an unclean stop: counted before it grows.
        if !volume.usage_is_exact()
            && let Some(fs) = self.0.upgrade()
        {
            super::housekeeping::hold_uncounted(&fs);
        }
        let renamed = self
            .0
            .upgrade()
            .is_some_and(|fs| fs.former_names.has_any(volume));
        self.name_changed(name, volume, renamed);
    }

    fn vanished(&self, name: &VolumeName, volume: &Volume) {
        self.name_changed(name, volume, volume.name() != *name);
    }
}
