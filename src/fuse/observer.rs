//! Keeps the kernel's view of the root in step with the store, and answers the
//! store's question who uses a volume.

use std::cell::Cell;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::announce::RootChange;
use super::fs::FileSystem;
use super::image_file;
use crate::diskimg::ImageSize;
use crate::model::{Kind, Serial, VolumeName};
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
pub(super) struct MountObserver {
    fs: Weak<FileSystem>,
    /// The volume that has just been told to have lost its name for another one: it
    /// appears next.
    renamed: Mutex<Option<Serial>>,
}

impl MountObserver {
    pub(super) fn new(fs: &Arc<FileSystem>) -> Self {
        Self {
            fs: Arc::downgrade(fs),
            renamed: Mutex::new(None),
        }
    }

    /// `change` is what to tell the kernel of the root. `mounts_stay` when the volume
    /// has another name, or had one before: whoever works in it goes on to, with what
    /// is mounted there.
    fn name_changed(
        &self,
        name: &VolumeName,
        volume: &Volume,
        change: Option<RootChange>,
        mounts_stay: bool,
    ) {
        let Some(fs) = self.fs.upgrade() else {
            return;
        };
        if volume.kind == Kind::Disk {
            // The kernel does not connect this name with the volume's.
            let image = image_file::name_of(name);
            fs.kernel.entry_changed(image_file::DIR, &image);
            fs.kernel.listing_changed(image_file::DIR);
        }
        if let (false, Some(change)) = (IN_REQUEST.get(), change) {
            fs.kernel.root_changed(change, mounts_stay);
        }
    }
}

impl Observer for MountObserver {
    fn holders(&self, volume: &Volume) -> Vec<Holder> {
        self.fs
            .upgrade()
            .map(|fs| super::holders::of_volume(&fs, volume))
            .unwrap_or_default()
    }

    fn holders_of_each(&self, volumes: &[Arc<Volume>]) -> Vec<Vec<Holder>> {
        self.fs
            .upgrade()
            .map(|fs| super::holders::of_each(&fs, volumes))
            .unwrap_or_default()
    }

    fn unaccounted_writers(&self, volume: &Volume) -> Vec<Holder> {
        let Some(fs) = self.fs.upgrade() else {
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

    fn writers(&self, volume: &Volume) -> Vec<Holder> {
        self.fs
            .upgrade()
            .map(|fs| super::holders::writers(&fs, volume))
            .unwrap_or_default()
    }

    fn still(&self, volume: &Volume, work: &mut dyn FnMut()) {
        match self.fs.upgrade() {
            Some(fs) => {
                let held = fs.counting.hold(volume.slot);
                // Those that are under way have ended then.
                held.still(|| ());
                work();
            }
            None => work(),
        }
    }

    fn take_image(&self, volume: &Volume) -> Result<ImageGuard, Vec<Holder>> {
        match self.fs.upgrade() {
            Some(fs) => fs.take_image(volume),
            // Nobody serves it any more.
            None => Ok(Box::new(())),
        }
    }

    fn grow_image(&self, volume: &Volume, size: ImageSize) -> Growth {
        match self.fs.upgrade() {
            Some(fs) => fs.grow_image(volume, size),
            None => Growth::Unmounted { why: None },
        }
    }

    fn detach(&self, volume: &Volume) -> Result<Vec<String>, Vec<Holder>> {
        match self.fs.upgrade() {
            Some(fs) => super::holders::detach(&fs, volume),
            None => Ok(Vec::new()),
        }
    }

    fn renaming(&self, name: &VolumeName, volume: &Volume) {
        if let Some(fs) = self.fs.upgrade() {
            fs.former_names.note(fs.store(), &fs.live, volume, name);
        }
    }

    fn appeared(&self, name: &VolumeName, volume: &Volume) {
        if let Some(fs) = self.fs.upgrade() {
            fs.volume_stats.appeared(volume.slot, volume.serial);
        }
        // Back from the trash after an unclean stop: counted before it grows.
        if !volume.usage_is_exact()
            && let Some(fs) = self.fs.upgrade()
        {
            super::housekeeping::hold_uncounted(&fs);
        }
        let had_other_name = self
            .fs
            .upgrade()
            .is_some_and(|fs| fs.former_names.has_any(volume));
        // With its new name it has been announced already.
        let change = match self.renamed.lock().take() {
            Some(serial) if serial == volume.serial => None,
            _ => Some(RootChange::Made(name.clone())),
        };
        self.name_changed(name, volume, change, had_other_name);
    }

    fn vanished(&self, name: &VolumeName, volume: &Volume) {
        let now = volume.name();
        let (change, renamed) = if now == *name {
            (RootChange::Removed(name.clone(), volume.serial), false)
        } else {
            *self.renamed.lock() = (!IN_REQUEST.get()).then_some(volume.serial);
            (RootChange::Renamed(name.clone(), now, volume.serial), true)
        };
        self.name_changed(name, volume, Some(change), renamed);
    }
}
