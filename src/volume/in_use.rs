//! Who uses a volume: in this process, in a mount, and by the path that it has
//! in the store, which nothing but `/proc` tells of.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use super::error::{Error, Result};
use super::holder::Holder;
use super::holders::{self, Called, MountSide, Namespaces, Survey, Wanted};
use super::in_memory::Volume;
use super::layout::Place;
use super::store::Store;
use crate::meta::State;
use crate::model::{Kind, VolumeId, VolumeName};

/// Nothing of a mount: where there is none.
fn stored_only(is_stored: &dyn Fn(u64, Option<VolumeId>) -> bool) -> Wanted<'_> {
    Wanted {
        is_node: &|_| false,
        called: &|_, _| Called::Never,
        is_stored,
    }
}

impl Store {
    /// A look at all processes and mount namespaces that begins from now on;
    /// which volume a file in the store is in is found out, with what is mapped,
    /// if `all` is set.
    pub(crate) fn survey(&self, all: bool) -> Arc<Survey> {
        self.surveys.get(all, |all, threads| {
            Survey::new(self.mount_side.get().copied(), self.dir(), all, threads)
        })
    }

    /// The store is mounted by this process: surveys look at that as well.
    pub(crate) fn set_mount_side(&self, mount: MountSide) {
        let _ = self.mount_side.set(mount);
    }

    /// Whether an inode of the store's file system, or what is in a volume, is
    /// the volume's.
    pub(crate) fn is_stored(&self, volume: &Volume) -> impl Fn(u64, Option<VolumeId>) -> bool {
        let place = match volume.row().state {
            State::Live => Place::Volumes,
            State::Trash | State::Purging | State::Rmdir => Place::Trash,
        };
        let paths = [
            self.layout.home(place, volume.id),
            self.contents(place, volume),
        ];
        let inode = |path: &std::path::PathBuf| Some(path.symlink_metadata().ok()?.ino());
        let inodes = paths.each_ref().map(inode);
        let id = volume.id;
        move |ino, found| match found {
            Some(found) => found == id,
            None => inodes.contains(&Some(ino)),
        }
    }

    pub(super) fn holders_of(&self, volume: &Volume) -> Vec<Holder> {
        let mut holders = volume.leases.holders();
        holders.append(&mut self.holders_outside(volume));
        holders
    }

    /// Those volumes that somebody uses, and who does.
    pub(super) fn holders_of_all(&self) -> BTreeMap<VolumeName, Vec<Holder>> {
        let volumes: Vec<_> = self.index.read().live().map(Arc::clone).collect();
        let mut seen = None;
        self.tell(|observer| seen = Some(observer.holders_of_each(&volumes)));
        let mut seen = seen.unwrap_or_else(|| self.holders_in_store(&volumes));
        seen.resize_with(volumes.len(), Vec::new);
        let all = volumes.iter().zip(seen).map(|(volume, mut seen)| {
            let mut holders = volume.leases.holders();
            holders.append(&mut seen);
            (volume.name(), holders)
        });
        all.filter(|(_, holders)| !holders.is_empty()).collect()
    }

    /// Who uses the volume in a mount, or by its path in the store.
    pub(super) fn holders_outside(&self, volume: &Volume) -> Vec<Holder> {
        let mut holders = None;
        self.tell(|observer| holders = Some(observer.holders(volume)));
        // Who shows the volumes to others looks for both at once.
        holders.unwrap_or_else(|| self.holders_by_path(volume))
    }

    fn holders_by_path(&self, volume: &Volume) -> Vec<Holder> {
        // In an empty directory there is nothing to be mapped.
        let is_empty = volume.kind == Kind::Directory && self.is_empty(volume).unwrap_or(false);
        let survey = self.survey(!is_empty);
        survey.holders(&stored_only(&self.is_stored(volume)), Namespaces::All)
    }

    /// Who uses each of these volumes by its path in the store; those in the trash
    /// are used in no other way.
    pub(super) fn holders_in_store(&self, volumes: &[Arc<Volume>]) -> Vec<Vec<Holder>> {
        if volumes.is_empty() {
            return Vec::new();
        }
        let survey = self.survey(true);
        let used = survey.touched().stored;
        let of_volume = |volume: &Arc<Volume>| match used.contains(&volume.id) {
            true => survey.holders(&stored_only(&self.is_stored(volume)), Namespaces::All),
            false => Vec::new(),
        };
        volumes.iter().map(of_volume).collect()
    }

    /// Detaches bind mounts of the volume that nobody uses; see
    /// [`Volumes::detach`](super::Volumes::detach).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InUse`].
    pub(super) fn detach_mounts(&self, name: &VolumeName) -> Result<Vec<String>> {
        let volume = self.index.read().find(name)?;
        let in_use = |holders| Error::InUse {
            name: name.clone(),
            holders,
        };
        if !volume.leases.holders().is_empty() {
            return Err(in_use(self.holders_of(&volume)));
        }
        let mut detached = None;
        self.tell(|observer| detached = Some(observer.detach(&volume)));
        let detached = detached.unwrap_or_else(|| self.detach_by_path(&volume));
        detached.map_err(in_use)
    }

    fn detach_by_path(&self, volume: &Volume) -> std::result::Result<Vec<String>, Vec<Holder>> {
        let is_stored = self.is_stored(volume);
        let wanted = stored_only(&is_stored);
        let others = self.survey(true).holders(&wanted, Namespaces::Others);
        if !others.is_empty() {
            return Err(others);
        }
        holders::detach(&wanted, self.mount_side.get().copied(), self.dir())
    }
}
