//! The store: a directory with a catalogue, a lock, and a directory per volume.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::api::{Change, Removal, TrashedVolume, VolumeInfo, Volumes};
use super::error::{Error, Holder, Result};
use crate::model::{Kind, Owner, Serial, Slot, VolumeId, VolumeName, VolumeSpec};

/// How a store is opened.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// Change nothing, not even at start.
    pub read_only: bool,
    /// Make the store's directory if it is not there.
    pub create: bool,
}

/// What the store tells, and asks, whoever shows its volumes to others.
///
/// Called without any lock of the store held, except that no other life-cycle
/// change runs meanwhile.
pub trait Observer: Send + Sync {
    /// Who uses the volume now.
    fn holders(&self, volume: &Volume) -> Vec<Holder>;
    /// The name now leads to this volume (made, renamed to it, restored).
    fn appeared(&self, name: &VolumeName, volume: &Volume);
    /// The name leads to this volume no longer (removed, renamed away).
    fn vanished(&self, name: &VolumeName, volume: &Volume);
}

/// A volume that is there (not in the trash), as the running process knows it.
#[derive(Debug)]
pub struct Volume {
    /// Its identity.
    pub id: VolumeId,
    /// Its place in the node id space.
    pub slot: Slot,
    /// Its place in the order of creation.
    pub serial: Serial,
    /// Its kind.
    pub kind: Kind,
}

/// An open store. The lock is held until it is dropped.
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the store in `dir`, takes its lock, and brings directories and
    /// catalogue into agreement.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::BadStore`], [`Error::Catalogue`], I/O.
    pub fn open(dir: &Path, _options: &StoreOptions) -> Result<Self> {
        Err(Error::BadStore {
            store: dir.to_owned(),
            why: "not written yet".into(),
        })
    }

    /// The store's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory that holds a directory volume's files: `volumes/ID/data`
    /// below [`dir`](Self::dir).
    #[must_use]
    pub fn data_dir(&self, volume: &Volume) -> PathBuf {
        self.dir
            .join("volumes")
            .join(volume.id.to_string())
            .join("data")
    }

    /// Whether the store is read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        unimplemented!()
    }

    /// Sets who is told of changes and asked for holders.
    pub fn observe(&self, _observer: Arc<dyn Observer>) {
        unimplemented!()
    }

    /// The volume with this name. In memory; takes no time.
    #[must_use]
    pub fn volume(&self, _name: &VolumeName) -> Option<Arc<Volume>> {
        unimplemented!()
    }

    /// The volume in this slot. In memory; takes no time.
    #[must_use]
    pub fn volume_in(&self, _slot: Slot) -> Option<Arc<Volume>> {
        unimplemented!()
    }

    /// The next volumes in order of creation after `after` (from the start
    /// when `None`), at most `most`, each with its name.
    #[must_use]
    pub fn volumes_after(
        &self,
        _after: Option<Serial>,
        _most: usize,
    ) -> Vec<(VolumeName, Arc<Volume>)> {
        unimplemented!()
    }

    /// Exchanges the names of two volumes, in one transaction.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn exchange(&self, _a: &VolumeName, _b: &VolumeName) -> Result<()> {
        unimplemented!()
    }
}

impl Volumes for Store {
    fn create(&self, _spec: &VolumeSpec) -> Result<VolumeInfo> {
        let _: Option<Owner> = None;
        unimplemented!()
    }
    fn get(&self, _name: &VolumeName) -> Result<VolumeInfo> {
        unimplemented!()
    }
    fn list(&self) -> Result<Vec<VolumeInfo>> {
        unimplemented!()
    }
    fn rename(&self, _from: &VolumeName, _to: &VolumeName) -> Result<VolumeInfo> {
        unimplemented!()
    }
    fn remove(&self, _name: &VolumeName, _how: Removal) -> Result<()> {
        unimplemented!()
    }
    fn change(&self, _name: &VolumeName, _change: &Change) -> Result<VolumeInfo> {
        unimplemented!()
    }
    fn holders(&self, _name: &VolumeName) -> Result<Vec<Holder>> {
        unimplemented!()
    }
    fn trash(&self) -> Result<Vec<TrashedVolume>> {
        unimplemented!()
    }
    fn restore(&self, _which: &str, _new_name: Option<&VolumeName>) -> Result<VolumeInfo> {
        unimplemented!()
    }
    fn empty_trash(&self, _which: Option<&str>) -> Result<usize> {
        unimplemented!()
    }
}
