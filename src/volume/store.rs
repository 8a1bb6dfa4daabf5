//! The store: a directory with a catalogue, a lock, and a directory per volume.
//!
//! Composes the parts: what is asked of the store as a whole is here, each
//! step of it in a file of its own. Knows nothing of mounts and sockets.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard, RwLock};

use super::api::{
    Change, CheckHow, DiskCheck, Removal, TrashedVolume, Verified, VolumeInfo, Volumes,
};
use super::error::{Error, Result};
use super::events::{Event, EventLog};
use super::files::{Gate, VolumeFs};
use super::full::DiskState;
use super::holder::Holder;
use super::holders::{MountSide, Surveys};
use super::in_memory::Volume;
use super::index::Index;
use super::layout::{Layout, Place};
use super::lock::StoreLock;
use super::observer::Observer;
use super::purge::{Purge, Purger};
use super::reconcile::{Reconciled, compare_manifest};
use super::reserve::Reserve;
use super::settings::{Setting, Settings};
use super::source::Source;
use super::staging::Staged;
use super::users::Users;
use crate::meta::{self, Catalogue, DirGrowth};
use crate::model::{AllocationUnit, Serial, Slot, Timestamp, VolumeId, VolumeName, VolumeSpec};
use crate::sys::filesystem::Filesystem;

/// How a store is opened.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// Change nothing, not even at start.
    pub read_only: bool,
    /// Make the store's directory if it is not there.
    pub create: bool,
}

/// An open store. The lock is held until it is dropped, and all that was got of
/// its volumes' contents is, too.
///
/// Lock order: a volume's `changing`, `life`, `gone`, `catalogue`, `settings`,
/// `index`.
pub struct Store {
    pub(super) layout: Layout,
    // Serialises changes of what the catalogue says of volumes. Held over the
    // commit and over what follows it in the store's directories (the move of
    // a removed volume's, a new `volume.json`, the image that an empty
    // directory volume becomes, which is made in milliseconds), so that these
    // come in the order of the commits; and over the look for uncounted
    // writers when a first limit is set, as the limit is in force by then and
    // taken back if there are any. Whatever else takes long is done before,
    // under a lease of the one volume: the search for holders, taking an
    // image, checking and growing it. Lookups, listings, accounting, and
    // opening a volume's files or contents never take it.
    pub(super) life: Mutex<()>,
    // Deleted volumes whose rows are still to be dropped. Held over the sync and
    // the commit that drop some: a slot is given up once, and after its row.
    // Only who deletes waits for it.
    pub(super) gone: Mutex<Vec<(Serial, Slot)>>,
    // One connection, one transaction at a time: held over SQLite because that
    // is what it guards. `None` in a store that is only looked at.
    catalogue: Option<Mutex<Catalogue>>,
    // Never held over anything that waits.
    pub(super) index: RwLock<Index>,
    observer: RwLock<Option<Arc<dyn Observer>>>,
    pub(super) event_log: EventLog,
    // `None` in a store that is only looked at.
    reserve: Option<Arc<Reserve>>,
    // Written with the catalogue locked, in the order of the commits. Never
    // held over anything that waits.
    pub(super) settings: RwLock<Settings>,
    pub(super) purger: Purger,
    findings: Vec<String>,
    // Whether files may still be changed by this process.
    pub(super) files_gate: Gate,
    pub(super) unit: AllocationUnit,
    pub(super) disk: DiskState,
    dir_growth: OnceLock<DirGrowth>,
    // What users may have; never set where nothing is limited.
    pub(super) users: OnceLock<Users>,
    pub(super) surveys: Surveys,
    pub(super) mount_side: OnceLock<MountSide>,
    // Volumes in the trash whose time is over, and which are kept because somebody
    // uses them; that has been told. A leaf lock.
    pub(super) kept_in_trash: Mutex<HashSet<VolumeId>>,
    // Whether this process has kept the account of any volume by itself.
    pub(super) keeps_account: AtomicBool,
    // Last, so that the catalogue is closed before another process may come.
    pub(super) lock: Option<Arc<StoreLock>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("dir", &self.layout.root())
            .field("read_only", &self.is_read_only())
            .finish_non_exhaustive()
    }
}

impl Store {
    pub(super) fn assemble(
        layout: Layout,
        catalogue: Option<(Catalogue, Reserve)>,
        found: Reconciled,
        lock: Option<StoreLock>,
        settings: Settings,
        unit: AllocationUnit,
    ) -> Self {
        let (catalogue, reserve) = catalogue.unzip();
        let reserve = reserve.map(Arc::new);
        if let Some(reserve) = &reserve {
            reserve.refill();
        }
        let purger = Purger::new(&layout, reserve.clone());
        purger.push(found.doomed);
        Self {
            event_log: EventLog::open(layout.events()),
            purger,
            findings: found.findings,
            settings: RwLock::new(settings),
            files_gate: Arc::new(RwLock::new(true)),
            unit,
            disk: DiskState::default(),
            dir_growth: OnceLock::new(),
            users: OnceLock::new(),
            surveys: Surveys::default(),
            mount_side: OnceLock::new(),
            kept_in_trash: Mutex::default(),
            keeps_account: AtomicBool::new(false),
            layout,
            reserve,
            life: Mutex::new(()),
            gone: Mutex::new(Vec::new()),
            catalogue: catalogue.map(Mutex::new),
            index: RwLock::new(found.index),
            observer: RwLock::new(None),
            lock: lock.map(Arc::new),
        }
    }

    /// The descriptor that has the store's lock, for a process that goes on
    /// with it; `None` for a store that is only looked at.
    #[must_use]
    pub fn lock_descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.catalogue.as_ref()?;
        self.lock.as_ref().map(|lock| lock.descriptor())
    }

    /// What was amiss when the store was opened, and what was done about it, a
    /// sentence each; the log has it too.
    #[must_use]
    pub fn findings(&self) -> &[String] {
        &self.findings
    }

    /// The store's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.layout.root()
    }

    /// The directory that holds a directory volume's files: `volumes/ID/data`
    /// below [`dir`](Self::dir).
    #[must_use]
    pub fn data_dir(&self, volume: &Volume) -> PathBuf {
        self.layout.data(Place::Volumes, volume.id)
    }

    /// How directories of directory volumes grow: by the file system that they
    /// are on.
    pub(crate) fn dir_growth(&self) -> DirGrowth {
        *self
            .dir_growth
            .get_or_init(|| dir_growth(&self.layout.place(Place::Volumes), self.unit))
    }

    /// The unit in which directory volumes are charged: that in which the
    /// store's file system allocates.
    #[must_use]
    pub fn unit(&self) -> AllocationUnit {
        self.unit
    }

    /// The image of a disk volume.
    #[must_use]
    pub fn image_path(&self, volume: &Volume) -> PathBuf {
        self.layout.image(Place::Volumes, volume.id)
    }

    /// Whether the store is read-only.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.catalogue.is_none()
    }

    /// When a volume was last made, renamed, removed or restored, also before the
    /// store was opened; when the store was made, if that never happened.
    #[must_use]
    pub fn last_change(&self) -> Timestamp {
        self.index.read().changed()
    }

    /// Names that led to volumes which have been removed: of those in the trash, and
    /// of those whose removal was finished when the store was opened.
    pub(crate) fn removed_names(&self) -> Vec<VolumeName> {
        self.index.read().removed_names()
    }

    /// How many volumes there are.
    #[must_use]
    pub fn volume_count(&self) -> usize {
        self.index.read().len()
    }

    /// Sets who is told of changes and asked for holders.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        *self.observer.write() = Some(observer);
    }

    /// The volume with this name. In memory; takes no time.
    #[must_use]
    pub fn volume(&self, name: &VolumeName) -> Option<Arc<Volume>> {
        self.index.read().get(name).map(Arc::clone)
    }

    /// The volume in this slot. In memory; takes no time.
    #[must_use]
    pub fn volume_in(&self, slot: Slot) -> Option<Arc<Volume>> {
        self.index.read().in_slot(slot).map(Arc::clone)
    }

    /// All volumes, also those in the trash.
    #[must_use]
    pub fn all_volumes(&self) -> Vec<Arc<Volume>> {
        let index = self.index.read();
        index.live().chain(index.trash()).map(Arc::clone).collect()
    }

    /// The next volumes in order of creation after `after` (from the start
    /// when `None`), at most `most`, each with its name.
    #[must_use]
    pub fn volumes_after(
        &self,
        after: Option<Serial>,
        most: usize,
    ) -> Vec<(VolumeName, Arc<Volume>)> {
        self.index.read().after(after, most)
    }

    /// Compares every `volume.json` with the catalogue, and writes anew those
    /// that differ. The start of a store does so for those that a crash may
    /// have left behind; this finds what was changed by hand, too, and reads
    /// a file for every volume. Returns the volumes whose file was written.
    ///
    /// # Errors
    /// [`Error::ReadOnly`]. Files that cannot be written are in the log.
    pub fn check_manifests(&self) -> Result<Vec<VolumeName>> {
        self.writable()?;
        let mut renewed = Vec::new();
        for (name, volume) in self.volumes_after(None, usize::MAX) {
            // For each anew, so that other changes are not held up.
            let _life = self.life.lock();
            match compare_manifest(&self.layout, &volume.row()) {
                Ok(true) => renewed.push(name),
                Ok(false) => {}
                Err(error) => log::warn!("volume {name:?}: {error}"),
            }
        }
        Ok(renewed)
    }

    pub(super) fn writable(&self) -> Result<()> {
        self.catalogue().map(drop)
    }

    pub(super) fn catalogue(&self) -> Result<MutexGuard<'_, Catalogue>> {
        match &self.catalogue {
            Some(catalogue) => Ok(catalogue.lock()),
            None => Err(Error::ReadOnly {
                store: self.dir().to_owned(),
            }),
        }
    }

    /// Commits a change that ends in less space being used: on a full file
    /// system with the help of what has been kept back for that.
    pub(super) fn commit_removal(
        &self,
        change: impl Fn(&mut Catalogue) -> meta::Result<()>,
    ) -> Result<()> {
        self.commit_removal_in(&mut *self.catalogue()?, change)
    }

    /// As [`commit_removal`](Self::commit_removal), with the catalogue locked.
    pub(super) fn commit_removal_in(
        &self,
        catalogue: &mut Catalogue,
        change: impl Fn(&mut Catalogue) -> meta::Result<()>,
    ) -> Result<()> {
        match change(catalogue) {
            Err(meta::Error::System { errno, .. })
                if errno == libc::ENOSPC
                    && self.reserve.as_ref().is_some_and(|it| it.release()) =>
            {
                Ok(change(catalogue)?)
            }
            other => Ok(other?),
        }
    }

    /// Keeps space back again after something has been deleted.
    pub(super) fn refill_reserve(&self) {
        if let Some(reserve) = &self.reserve {
            reserve.refill();
        }
    }

    /// Sees to it that the catalogue has room as it grows. For now and then.
    pub(super) fn keep_room(&self) {
        if let Ok(catalogue) = self.catalogue()
            && let Err(error) = catalogue.keep_room()
        {
            log::debug!("no room is kept: {error}");
        }
    }

    /// Moves the directory of a volume that is removed: on a full file system with
    /// the help of what has been kept back, as the other directory may have to
    /// grow.
    pub(super) fn relocate_removed(&self, id: VolumeId) -> Result<()> {
        let relocate = || self.layout.relocate(id, Place::Volumes, Place::Trash);
        match relocate() {
            Err(Error::Io { errno, .. })
                if errno == libc::ENOSPC
                    && self.reserve.as_ref().is_some_and(|it| it.release()) =>
            {
                relocate()
            }
            other => other,
        }
    }

    pub(super) fn tell(&self, what: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = self.observer() {
            what(&*observer);
        }
    }

    pub(super) fn observer(&self) -> Option<Arc<dyn Observer>> {
        self.observer.read().clone()
    }

    pub(super) fn claim_name(&self, name: &VolumeName) -> Result<NameClaim<'_>> {
        self.index.write().claim_name(name)?;
        Ok(NameClaim {
            store: self,
            name: name.clone(),
        })
    }
}

/// A name that nobody else can take until this is dropped.
pub(super) struct NameClaim<'a> {
    store: &'a Store,
    name: VolumeName,
}

impl Drop for NameClaim<'_> {
    fn drop(&mut self) {
        self.store.index.write().give_up_name(&self.name);
    }
}

/// How directories grow on the file system of `dir`; where that cannot be said,
/// as on one that nothing is known of.
fn dir_growth(dir: &Path, unit: AllocationUnit) -> DirGrowth {
    let found = std::fs::File::open(dir).map(Filesystem::of);
    let known = found.ok().and_then(|found| found.ok());
    DirGrowth::of(known.unwrap_or(Filesystem::Other), unit)
}

impl Drop for Store {
    fn drop(&mut self) {
        // No file is changed from here on.
        *self.files_gate.write() = false;
        self.purger.stop();
        if self.catalogue.is_some()
            && let Err(error) = {
                self.collect_events();
                // A mount settles when it has ended well, and only then.
                if self.keeps_account.load(Ordering::Acquire) {
                    self.settle()
                } else {
                    self.drop_gone()
                }
            }
        {
            log::warn!("{error}; the next start of the store makes it good");
        }
    }
}

impl Volumes for Store {
    fn create(&self, spec: &VolumeSpec) -> Result<VolumeInfo> {
        let volume = self.create_volume(spec)?;
        Ok(volume.info(&self.layout))
    }

    fn get(&self, name: &VolumeName) -> Result<VolumeInfo> {
        let volume = self.index.read().find(name)?;
        Ok(volume.info(&self.layout))
    }

    fn list(&self) -> Result<Vec<VolumeInfo>> {
        let volumes: Vec<_> = self.index.read().live().rev().map(Arc::clone).collect();
        Ok(volumes.iter().map(|it| it.info(&self.layout)).collect())
    }

    fn rename(&self, from: &VolumeName, to: &VolumeName) -> Result<VolumeInfo> {
        let volume = self.rename_volume(from, to)?;
        Ok(volume.info(&self.layout))
    }

    fn remove(&self, name: &VolumeName, how: Removal) -> Result<()> {
        self.remove_volume(name, how)
    }

    fn change(&self, name: &VolumeName, change: &Change) -> Result<VolumeInfo> {
        let volume = self.change_volume(name, change)?;
        Ok(volume.info(&self.layout))
    }

    fn check(&self, name: &VolumeName, how: CheckHow) -> Result<DiskCheck> {
        self.check_volume(name, how)
    }

    fn holders(&self, name: &VolumeName) -> Result<Vec<Holder>> {
        let volume = self.index.read().find(name)?;
        Ok(self.holders_of(&volume))
    }

    fn all_holders(&self) -> Result<BTreeMap<VolumeName, Vec<Holder>>> {
        Ok(self.holders_of_all())
    }

    fn events(&self) -> Result<Vec<Event>> {
        Ok(self.last_events())
    }

    fn verify(&self, name: &VolumeName, repair: bool) -> Result<Verified> {
        self.verify_offline(name, repair)
    }

    fn trash(&self) -> Result<Vec<TrashedVolume>> {
        let volumes: Vec<_> = self.index.read().trash().map(Arc::clone).collect();
        let mut trash: Vec<_> = volumes
            .iter()
            .map(|it| it.trashed_info(&self.layout))
            .collect();
        trash.sort_by_key(|it| std::cmp::Reverse((it.trashed, it.info.created)));
        Ok(trash)
    }

    fn restore(&self, which: &str, new_name: Option<&VolumeName>) -> Result<VolumeInfo> {
        let volume = self.restore_volume(which, new_name)?;
        Ok(volume.info(&self.layout))
    }

    fn empty_trash(&self, which: Option<&str>) -> Result<usize> {
        self.purge_trash(which)
    }

    fn purges(&self) -> Result<Vec<Purge>> {
        Ok(self.purger.list())
    }

    fn settings(&self) -> Result<Settings> {
        Ok(self.current_settings())
    }

    fn set(&self, setting: &Setting) -> Result<Settings> {
        self.save_setting(*setting)
    }

    fn files(&self, name: &VolumeName) -> Result<VolumeFs> {
        self.open_files(name)
    }

    fn source(&self, name: &VolumeName) -> Result<Source> {
        self.open_source(name)
    }

    fn adopt(&self, staged: &Staged) -> Result<VolumeInfo> {
        let volume = self.adopt_staged(staged)?;
        Ok(volume.info(&self.layout))
    }

    fn detach(&self, name: &VolumeName) -> Result<Vec<String>> {
        self.detach_mounts(name)
    }

    fn mountpoint(&self) -> Result<Option<PathBuf>> {
        Ok(None)
    }

    fn store_dir(&self) -> PathBuf {
        self.dir().to_owned()
    }
}

#[cfg(test)]
mod tests;
