//! What volumes hold, over the life of the process and after its end.
//!
//! The account of a volume is in memory. The catalogue has what it was when it
//! was last saved, and whether that can be relied on: a volume is marked dirty
//! there before it changes for the first time in a run, and clean again only
//! when the store is closed in order. One that is found dirty has to be
//! counted.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::unistd::syncfs;

use super::api::Verified;
use super::error::{Error, Result};
use super::in_memory::Volume;
use super::lease::Use;
use super::store::Store;
use super::walk::count;
use crate::meta::UsageRow;
use crate::model::{Kind, Usage, VolumeName};

impl Store {
    /// Says that the usage of a volume is about to change. Only the first call
    /// of a run (and after [`settle`](Self::settle)) costs anything: it
    /// returns when the catalogue has it on disk. Call it before the change.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], or the catalogue cannot be written: the change
    /// must not be made then.
    pub fn mark_dirty(&self, volume: &Volume) -> Result<()> {
        if volume.is_dirty() {
            return Ok(());
        }
        // A volume on a full file system is changed to make room, too.
        self.commit_removal(|catalogue| {
            // Somebody may have been first while this waited for the catalogue.
            if !volume.is_dirty() {
                catalogue.mark_usage_dirty(volume.serial)?;
                volume.set_dirty(true);
            }
            Ok(())
        })
    }

    /// Saves the usage of volumes that have changed, for those who look at the
    /// catalogue later. They stay dirty. For now and then while running.
    ///
    /// # Errors
    /// The catalogue cannot be written.
    pub fn save_usage(&self) -> Result<()> {
        self.collect_events();
        self.drop_gone()?;
        self.refill_reserve();
        self.keep_room();
        self.watch_disk();
        let rows: Vec<_> = self
            .dirty_volumes()
            .iter()
            .map(|volume| usage_row(volume, false))
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        self.catalogue()?.save_usage(&rows).map_err(Error::from)
    }

    /// Saves the usage of all volumes that have changed, and marks those clean
    /// whose figures are exact. For an orderly end: no mount may change a volume
    /// while this runs, and files that were got from the store
    /// ([`Volumes::files`](super::Volumes::files)) can be changed no more.
    ///
    /// # Errors
    /// The catalogue cannot be written; the volumes are counted at the next
    /// start then.
    pub fn settle(&self) -> Result<()> {
        // For ever: who has files has marked their volume dirty when it got
        // them, and does so no second time.
        *self.files_gate.write() = false;
        self.drop_gone()?;
        let volumes = self.dirty_volumes();
        if volumes.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = volumes
            .iter()
            .map(|volume| usage_row(volume, volume.usage_is_exact()))
            .collect();
        // What was counted must be on disk before it is said to be exact: the
        // host's file system may lose its last seconds in a power failure.
        if rows.iter().any(|row| row.clean) {
            let sync = File::open(self.dir()).and_then(|dir| Ok(syncfs(dir)?));
            sync.map_err(|e| Error::io("sync", self.dir(), &e))?;
        }
        let mut catalogue = self.catalogue()?;
        catalogue.save_usage(&rows)?;
        for (volume, row) in volumes.iter().zip(&rows) {
            volume.set_dirty(!row.clean);
        }
        Ok(())
    }

    /// The volumes whose usage is not known exactly, oldest first; those in
    /// the trash are left out until they are restored.
    #[must_use]
    pub fn needs_recount(&self) -> Vec<Arc<Volume>> {
        let index = self.index.read();
        index
            .live()
            .filter(|volume| volume.kind == Kind::Directory && !volume.usage_is_exact())
            .map(Arc::clone)
            .collect()
    }

    /// Counts what a directory volume holds, by walking it. Exact if nothing
    /// changes it meanwhile. Follows no symbolic link and no mount; counts an
    /// inode with several links once.
    ///
    /// # Errors
    /// [`Error::FilesMissing`], or I/O.
    pub fn recount(&self, volume: &Volume) -> Result<Usage> {
        self.check_files(volume)?;
        match volume.kind {
            Kind::Directory => {
                let progress = volume.begin_count();
                count(&self.data_dir(volume), volume.unit(), &progress)
            }
            // Its own file system keeps the account.
            Kind::Disk => Ok(Usage::default()),
        }
    }

    /// Takes over what [`recount`](Self::recount) found: the volume's usage is
    /// exact from here on.
    ///
    /// # Errors
    /// The catalogue cannot be written.
    pub fn set_counted(&self, volume: &Volume, used: Usage) -> Result<()> {
        volume.set_counted(used);
        self.catalogue()?
            .save_usage(&[usage_row(volume, false)])
            .map_err(Error::from)
    }

    /// As [`set_counted`](Self::set_counted), in memory alone: for a volume
    /// that is [marked dirty](Self::mark_dirty), so that the catalogue gets it
    /// with the next save and counts again after a crash.
    pub fn adopt_count(&self, volume: &Volume, used: Usage) {
        volume.set_counted(used);
    }

    /// Counts a volume whose files are to be changed by this process, if it is
    /// not known what it holds.
    pub(super) fn count_if_unknown(&self, volume: &Volume) -> Result<()> {
        // One counts, and who has the files already waits for it.
        let _still = volume.changing.lock();
        if !volume.usage_is_exact() {
            let used = self.recount(volume)?;
            self.set_counted(volume, used)?;
        }
        Ok(())
    }

    /// Compares the account with a walk, in a store that has no mount.
    pub(super) fn verify_offline(&self, name: &VolumeName, repair: bool) -> Result<Verified> {
        check_is_directory(&*self.index.read().find(name)?)?;
        let lease = self.lease(name, Use::Contents)?;
        let volume = lease.volume();
        // Another may have got the name meanwhile.
        check_is_directory(volume)?;
        let _still = volume.changing.lock();
        let (accounted, was_exact) = (volume.usage(), volume.usage_is_exact());
        let found = self.recount(volume)?;
        let repaired = repair && (accounted != found || !was_exact);
        if repaired {
            self.mark_dirty(volume)?;
            self.adopt_count(volume, found);
            // Believed after an orderly end of this process, and only then.
            self.keeps_account.store(true, Ordering::Release);
        }
        Ok(Verified {
            name: volume.name(),
            accounted,
            was_exact,
            found,
            repaired,
        })
    }

    fn dirty_volumes(&self) -> Vec<Arc<Volume>> {
        let index = self.index.read();
        index
            .live()
            .chain(index.trash())
            .filter(|volume| volume.is_dirty())
            .map(Arc::clone)
            .collect()
    }
}

/// The account of a disk volume is its own file system's.
///
/// # Errors
/// [`Error::Unsupported`].
pub fn check_is_directory(volume: &Volume) -> Result<()> {
    match volume.kind {
        Kind::Directory => Ok(()),
        Kind::Disk => Err(Error::Unsupported {
            what: format!("verifying the disk volume {:?}", volume.name()),
            when: "its own file system keeps its account; see e2fsck(8)".to_owned(),
        }),
    }
}

fn usage_row(volume: &Volume, clean: bool) -> UsageRow {
    UsageRow {
        serial: volume.serial,
        used: volume.usage(),
        clean,
    }
}

#[cfg(test)]
mod tests;
