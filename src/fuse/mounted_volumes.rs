//! The volumes of a mounted store, for commands: the store's own calls, which
//! return when the kernel knows of the change as well.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::fs::FileSystem;
use crate::model::{VolumeName, VolumeSpec};
use crate::volume::{
    Change, CheckHow, DiskCheck, Event, Holder, Purge, Removal, Result, Setting, Settings, Source,
    Staged, TrashedVolume, Verified, VolumeFs, VolumeInfo, Volumes,
};

/// See [`Mounted::volumes`](super::Mounted::volumes).
pub(super) struct MountedVolumes {
    fs: Arc<FileSystem>,
    mountpoint: PathBuf,
}

impl MountedVolumes {
    pub(super) fn new(fs: Arc<FileSystem>, mountpoint: PathBuf) -> Self {
        Self { fs, mountpoint }
    }

    fn changed<T>(&self, result: Result<T>) -> Result<T> {
        self.fs.kernel.settle();
        result
    }
}

impl Volumes for MountedVolumes {
    fn create(&self, spec: &VolumeSpec) -> Result<VolumeInfo> {
        self.changed(self.fs.store().create(spec))
    }

    fn get(&self, name: &VolumeName) -> Result<VolumeInfo> {
        Ok(self.fs.with_live_usage(self.fs.store().get(name)?))
    }

    fn list(&self) -> Result<Vec<VolumeInfo>> {
        self.fs.list()
    }

    fn rename(&self, from: &VolumeName, to: &VolumeName) -> Result<VolumeInfo> {
        self.changed(self.fs.store().rename(from, to))
    }

    fn remove(&self, name: &VolumeName, how: Removal) -> Result<()> {
        self.changed(self.fs.store().remove(name, how))
    }

    fn change(&self, name: &VolumeName, change: &Change) -> Result<VolumeInfo> {
        let changed = self.fs.store().change(name, change);
        if change.read_only == Some(true)
            && changed.is_ok()
            && let Some(volume) = self.fs.store().volume(name)
        {
            // What had begun before has ended when the command says that it is done.
            self.fs.counting.settle(volume.slot);
        }
        self.changed(changed)
    }

    fn check(&self, name: &VolumeName, how: CheckHow) -> Result<DiskCheck> {
        self.changed(self.fs.store().check(name, how))
    }

    fn holders(&self, name: &VolumeName) -> Result<Vec<Holder>> {
        self.fs.store().holders(name)
    }

    fn all_holders(&self) -> Result<BTreeMap<VolumeName, Vec<Holder>>> {
        self.fs.store().all_holders()
    }

    fn events(&self) -> Result<Vec<Event>> {
        self.fs.store().events()
    }

    fn verify(&self, name: &VolumeName, repair: bool) -> Result<Verified> {
        super::verify::verify(&self.fs, name, repair)
    }

    fn trash(&self) -> Result<Vec<TrashedVolume>> {
        self.fs.store().trash()
    }

    fn restore(&self, which: &str, new_name: Option<&VolumeName>) -> Result<VolumeInfo> {
        self.changed(self.fs.store().restore(which, new_name))
    }

    fn empty_trash(&self, which: Option<&str>) -> Result<usize> {
        self.fs.store().empty_trash(which)
    }

    fn purges(&self) -> Result<Vec<Purge>> {
        self.fs.store().purges()
    }

    fn settings(&self) -> Result<Settings> {
        Ok(Settings {
            trash_retention_of_mount: self.fs.options.trash_retention,
            ..self.fs.store().settings()?
        })
    }

    fn set(&self, setting: &Setting) -> Result<Settings> {
        self.fs.store().set(setting)?;
        self.settings()
    }

    fn files(&self, name: &VolumeName) -> Result<VolumeFs> {
        VolumeFs::in_mount(&self.mountpoint, &self.get(name)?)
    }

    fn source(&self, name: &VolumeName) -> Result<Source> {
        Source::through_mount(self, &self.mountpoint, self.get(name)?)
    }

    fn adopt(&self, staged: &Staged) -> Result<VolumeInfo> {
        self.changed(self.fs.store().adopt(staged))
    }

    fn detach(&self, name: &VolumeName) -> Result<Vec<String>> {
        self.fs.store().detach(name)
    }

    fn mountpoint(&self) -> Result<Option<PathBuf>> {
        Ok(Some(self.mountpoint.clone()))
    }

    fn store_dir(&self) -> PathBuf {
        self.fs.store().store_dir()
    }
}
