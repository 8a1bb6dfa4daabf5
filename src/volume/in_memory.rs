//! A volume as the running process knows it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use super::api::{DiskInfo, TrashedVolume, VolumeInfo};
use super::image;
use super::layout::{Layout, Place};
use super::lease::Leases;
use super::removed::Removed;
use crate::diskimg::MountedImage;
use crate::meta::{Account, Pool, State, VolumeRow};
use crate::model::{AllocationUnit, Kind, Limits, Serial, Slot, Usage, VolumeId, VolumeName};

/// A volume, as the running process knows it. One object for as long as the
/// store is open, also while the volume is in the trash.
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
    account: Account,
    // Whether the catalogue did not know the usage when it was loaded.
    unclean: bool,
    // Whether the account was exact when it was loaded, or counted since.
    counted: AtomicBool,
    // Whether the catalogue says that usage may change. Set and cleared with
    // the catalogue locked, so that it never says more than the catalogue.
    dirty: AtomicBool,
    // Inodes that a count has found so far; NOT_COUNTING when there is none.
    progress: AtomicU64,
    // Whether changes of its contents are refused: set before it is looked who makes
    // any, and so before the row says it.
    read_only: AtomicBool,
    // The files that were removed from it and are kept.
    pub(super) removed: Removed,
    // Who in this process uses it without a mount.
    pub(super) leases: Leases,
    // Locked over each change of its files that this process makes by itself,
    // see `files::ledger`, and over a walk that counts them: what is counted
    // must hold still, and changes wait for it. Reads do not.
    pub(super) changing: Mutex<()>,
    // Its image, while this process has it attached. Locked over attaching, so
    // that it is attached once.
    pub(super) attached: Mutex<Weak<MountedImage>>,
    // Replaced as a whole: a reader has one version of it. Locked inside the
    // index and inside nothing else.
    row: RwLock<Arc<VolumeRow>>,
}

const NOT_COUNTING: u64 = u64::MAX;

/// The progress of a count; it has ended when this is dropped.
pub(super) struct Progress<'a>(&'a AtomicU64);

impl std::ops::Deref for Progress<'_> {
    type Target = AtomicU64;

    fn deref(&self) -> &AtomicU64 {
        self.0
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.0.store(NOT_COUNTING, Ordering::Relaxed);
    }
}

impl Volume {
    pub(super) fn new(row: VolumeRow, unit: AllocationUnit) -> Self {
        Self {
            id: row.id,
            slot: row.slot,
            serial: row.serial,
            kind: row.kind,
            account: Account::new(row.used, row.limits, unit),
            unclean: !row.usage_clean,
            counted: AtomicBool::new(row.usage_clean),
            dirty: AtomicBool::new(!row.usage_clean),
            progress: AtomicU64::new(NOT_COUNTING),
            read_only: AtomicBool::new(row.read_only),
            removed: Removed::new(row.trash_files),
            leases: Leases::default(),
            changing: Mutex::new(()),
            attached: Mutex::new(Weak::new()),
            row: RwLock::new(Arc::new(row)),
        }
    }

    /// The running account: what the volume holds and may hold.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The unit in which its contents are charged.
    #[must_use]
    pub fn unit(&self) -> AllocationUnit {
        self.account.unit()
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.account.limits()
    }

    /// Whether a guest may have written its image.
    #[must_use]
    pub fn is_guest_written(&self) -> bool {
        self.row().disk.is_some_and(|disk| disk.guest_written)
    }

    /// Whether the volume has a byte or inode limit.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        self.limits() != Limits::default() || self.pool_of_contents().is_some()
    }

    /// Whether a limit on bytes holds for what is in it, its own or its user's.
    #[must_use]
    pub fn is_limited_in_bytes(&self) -> bool {
        let of_user = || self.pool_of_contents();
        self.limits().bytes.is_some() || of_user().is_some_and(|pool| pool.limits().bytes.is_some())
    }

    /// What the volumes of its user take together, if that is limited in bytes
    /// or inodes and it is a directory volume, of which that is counted.
    #[must_use]
    pub fn pool_of_contents(&self) -> Option<Arc<Pool>> {
        let pool = self.account.pool();
        pool.filter(|pool| self.kind == Kind::Directory && pool.limits().is_on_contents())
    }

    /// Whether nobody may change what it holds.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::SeqCst)
    }

    pub(super) fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::SeqCst);
    }

    /// Its files that were removed and are kept.
    #[must_use]
    pub(crate) fn removed(&self) -> &Removed {
        &self.removed
    }

    /// What the volume holds.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.account.usage()
    }

    /// Whether [`usage`](Self::usage) is exact. It is not after an unclean
    /// stop until the volume has been counted.
    #[must_use]
    pub fn usage_is_exact(&self) -> bool {
        self.counted.load(Ordering::Acquire) && self.account.is_trusted()
    }

    /// The name that leads to the volume, or led to it when it was removed.
    #[must_use]
    pub fn name(&self) -> VolumeName {
        self.row().name.clone()
    }

    pub(super) fn row(&self) -> Arc<VolumeRow> {
        Arc::clone(&self.row.read())
    }

    pub(super) fn set_row(&self, row: VolumeRow) {
        *self.row.write() = Arc::new(row);
    }

    pub(super) fn set_counted(&self, used: Usage) {
        self.account.set_counted(used);
        self.counted.store(true, Ordering::Release);
    }

    /// Whether the last process that had the store ended without saying what
    /// the volume holds.
    #[must_use]
    pub fn had_unclean_stop(&self) -> bool {
        self.unclean
    }

    pub(super) fn begin_count(&self) -> Progress<'_> {
        self.progress.store(0, Ordering::Relaxed);
        Progress(&self.progress)
    }

    /// Inodes that a count has found so far; `None` when it is not counted.
    #[must_use]
    pub fn counting(&self) -> Option<u64> {
        Some(self.progress.load(Ordering::Relaxed)).filter(|&found| found != NOT_COUNTING)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    pub(super) fn set_dirty(&self, dirty: bool) {
        self.dirty.store(dirty, Ordering::Release);
    }

    pub(super) fn info(&self, layout: &Layout) -> VolumeInfo {
        let row = self.row();
        let place = match row.state {
            State::Live => Place::Volumes,
            State::Trash | State::Purging | State::Rmdir => Place::Trash,
        };
        let disk = row.disk.map(|disk| {
            let path = layout.image(place, self.id);
            (disk, image::look(&path), path)
        });
        // A disk volume's own file system keeps the account.
        let used = match &disk {
            Some((_, summary, _)) => summary.as_ref().map(image::usage).unwrap_or_default(),
            None => self.usage(),
        };
        VolumeInfo {
            name: row.name.clone(),
            id: self.id,
            kind: self.kind,
            path: layout.data(place, self.id),
            limits: self.limits(),
            allocation_unit: self.unit(),
            used,
            used_is_exact: self.usage_is_exact(),
            counting: self.counting(),
            disk: disk.map(|(disk, summary, path)| DiskInfo {
                size: disk.size,
                format: disk.format,
                fstype: disk.fstype,
                path,
                state: image::state(summary.as_ref()),
                guest_written: disk.guest_written,
            }),
            labels: row.labels.clone(),
            pinned: row.pinned,
            read_only: row.read_only,
            owner: row.owner,
            trash_files: row.trash_files,
            created: row.created,
            updated: row.updated,
        }
    }

    pub(super) fn trashed_info(&self, layout: &Layout) -> TrashedVolume {
        let row = self.row();
        TrashedVolume {
            info: self.info(layout),
            // A row in the trash has the time; the schema says so.
            trashed: row.trashed.unwrap_or(row.updated),
            orphan: row.orphan,
        }
    }
}
