//! The volumes of a mounted store, for commands: the store's own calls, which
//! return when the kernel knows of the change as well.

use std::sync::Arc;

use super::fs::FileSystem;
use crate::model::{VolumeName, VolumeSpec};
use crate::volume::{
    Change, CheckHow, DiskCheck, Event, Holder, Removal, Result, TrashedVolume, Verified,
    VolumeInfo, Volumes,
};

/// See [`Mounted::volumes`](super::Mounted::volumes).
pub(super) struct MountedVolumes(Arc<FileSystem>);

impl MountedVolumes {
    pub(super) fn new(fs: Arc<FileSystem>) -> Self {
        Self(fs)
    }

    fn changed<T>(&self, result: Result<T>) -> Result<T> {
        self.0.kernel.settle();
        result
    }
}

impl Volumes for MountedVolumes {
    fn create(&self, spec: &VolumeSpec) -> Result<VolumeInfo> {
        self.changed(self.0.store().create(spec))
    }

    fn get(&self, name: &VolumeName) -> Result<VolumeInfo> {
        Ok(self.0.with_live_usage(self.0.store().get(name)?))
    }

    fn list(&self) -> Result<Vec<VolumeInfo>> {
        self.0.list()
    }

    fn rename(&self, from: &VolumeName, to: &VolumeName) -> Result<VolumeInfo> {
        self.changed(self.0.store().rename(from, to))
    }

    fn remove(&self, name: &VolumeName, how: Removal) -> Result<()> {
        self.changed(self.0.store().remove(name, how))
    }

    fn change(&self, name: &VolumeName, change: &Change) -> Result<VolumeInfo> {
        self.changed(self.0.store().change(name, change))
    }

    fn check(&self, name: &VolumeName, how: CheckHow) -> Result<DiskCheck> {
        self.changed(self.0.store().check(name, how))
    }

    fn holders(&self, name: &VolumeName) -> Result<Vec<Holder>> {
        self.0.store().holders(name)
    }

    fn events(&self) -> Result<Vec<Event>> {
        self.0.store().events()
    }

    fn verify(&self, name: &VolumeName, repair: bool) -> Result<Verified> {
        super::verify::verify(&self.0, name, repair)
    }

    fn trash(&self) -> Result<Vec<TrashedVolume>> {
        self.0.store().trash()
    }

    fn restore(&self, which: &str, new_name: Option<&VolumeName>) -> Result<VolumeInfo> {
        self.changed(self.0.store().restore(which, new_name))
    }

    fn empty_trash(&self, which: Option<&str>) -> Result<usize> {
        self.0.store().empty_trash(which)
    }
}
