//! Volumes that are built in the store's `tmp/` by whoever has their contents
//! (an import, a clone), and then taken over whole.
//!
//! What is built there is nobody's volume yet. Who builds it holds a lock on
//! its directory, so that what a dead process has left can be told from what
//! is still being built.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::unistd::syncfs;
use serde::{Deserialize, Serialize};

use super::api::{VolumeInfo, Volumes};
use super::build::{Build, make_dir};
use super::delete::delete_whole_tree;
use super::error::{Error, Result};
use super::image;
use super::in_memory::Volume;
use super::layout::{Layout, Place};
use super::make::new_row;
use super::purge::Doomed;
use super::store::Store;
use crate::failpoint;
use crate::model::{AllocationUnit, Kind, Owner, Slot, Usage, VolumeId, VolumeSpec};

/// How old something in `tmp/` is at least that is not locked because nobody
/// builds it any more, and not because its builder has just made it.
pub(super) const NEWBORN: Duration = Duration::from_secs(60);

/// A volume whose contents are complete, to be taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Its identity, and the name of its directory in `tmp/`.
    pub id: VolumeId,
    /// What it is to be.
    pub spec: VolumeSpec,
    /// What was charged while it was built.
    pub used: Usage,
    /// In what unit.
    #[serde(default)]
    pub unit: AllocationUnit,
    /// Whether its image comes from elsewhere, or from an image that a guest
    /// may have written.
    pub guest_written: bool,
}

/// A volume that is being built in a store. Deleted when it is dropped, unless
/// it was [taken over](Self::finish).
#[derive(Debug)]
pub struct Staging {
    home: PathBuf,
    spec: VolumeSpec,
    id: VolumeId,
    unit: AllocationUnit,
    kept: bool,
    // Held, never read: says that somebody builds here.
    _lock: File,
}

impl Staging {
    /// Begins to build the volume that `spec` asks for in the store of
    /// `volumes`. A directory volume has an empty root directory to be filled;
    /// a disk volume has nothing yet.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::InvalidSpec`], I/O.
    pub fn begin(volumes: &dyn Volumes, spec: &VolumeSpec) -> Result<Self> {
        spec.check()?;
        // Looked at again when it is taken over; here it saves the work.
        volumes.settings()?.names.check(&spec.name)?;
        if volumes.get(&spec.name).is_ok() {
            let name = spec.name.clone();
            return Err(Error::Exists { name });
        }
        let layout = Layout::new(&volumes.store_dir());
        let id = VolumeId::random();
        let home = layout.home(Place::Tmp, id);
        make_dir(&home)?;
        let lock = lock(&home).and_then(|lock| lock.ok_or(io::ErrorKind::WouldBlock.into()));
        let staging = Self {
            _lock: lock.map_err(|e| Error::io("lock", &home, &e))?,
            home,
            spec: spec.clone(),
            id,
            unit: super::unit::find(&layout).unwrap_or_default(),
            kept: false,
        };
        if spec.kind == Kind::Directory {
            make_dir(&staging.contents())?;
        }
        Ok(staging)
    }

    /// What is to be filled: the root directory of a directory volume, the
    /// image of a disk volume.
    #[must_use]
    pub fn contents(&self) -> PathBuf {
        contents(&self.home, self.spec.kind)
    }

    /// The unit in which its contents are charged.
    #[must_use]
    pub fn unit(&self) -> AllocationUnit {
        self.unit
    }

    /// What it is to be.
    #[must_use]
    pub fn spec(&self) -> &VolumeSpec {
        &self.spec
    }

    /// Has the store take it over, with the owner and mode that its root
    /// directory has now. On disk in full when this returns.
    ///
    /// # Errors
    /// As [`Volumes::adopt`]; nothing of it is left then.
    pub fn finish(
        mut self,
        volumes: &dyn Volumes,
        used: Usage,
        guest_written: bool,
    ) -> Result<VolumeInfo> {
        let staged = Staged {
            id: self.id,
            spec: self.spec.clone(),
            used,
            unit: self.unit,
            guest_written,
        };
        let adopted = volumes.adopt(&staged);
        self.kept = adopted.is_ok();
        adopted
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = delete_whole_tree(&self.home) {
            log::warn!("what was built of a volume that could not be made is left: {error}");
        }
    }
}

fn contents(home: &Path, kind: Kind) -> PathBuf {
    home.join(match kind {
        Kind::Directory => super::layout::DATA,
        Kind::Disk => super::layout::IMAGE,
    })
}

/// Locks a directory of `tmp/`; `None` when somebody builds there.
pub(super) fn lock(home: &Path) -> io::Result<Option<File>> {
    let dir = File::open(home)?;
    match dir.try_lock() {
        Ok(()) => Ok(Some(dir)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// What is left in `tmp/` of a builder that is gone; `None` while it may be
/// there still. What is younger than `age` is left to its builder.
pub(super) fn abandoned(layout: &Layout, id: VolumeId, age: Duration) -> Option<Doomed> {
    let home = layout.home(Place::Tmp, id);
    let made = home.symlink_metadata().and_then(|found| found.modified());
    let is_old = |made: SystemTime| {
        // One from the future is as old as a clock that was set back.
        made.elapsed().map_or(true, |passed| passed >= age)
    };
    if !made.is_ok_and(is_old) {
        return None;
    }
    let lock = lock(&home).ok().flatten()?;
    Some(Doomed {
        id,
        name: None,
        row: None,
        total: None,
        _lock: Some(lock),
    })
}

impl Store {
    /// Deletes, in the background, what dead processes have left in `tmp/`.
    ///
    /// # Errors
    /// It cannot be listed.
    pub fn sweep_tmp(&self) -> Result<()> {
        let listing = self.layout.list(Place::Tmp)?.unwrap_or_default();
        let abandoned = |id: &VolumeId| abandoned(&self.layout, *id, NEWBORN);
        self.purger
            .push(listing.ids.iter().filter_map(abandoned).inspect(|doomed| {
                log::info!("what was built of volume {} is deleted", doomed.id);
            }));
        Ok(())
    }

    pub(super) fn adopt_staged(&self, staged: &Staged) -> Result<Arc<Volume>> {
        let spec = &staged.spec;
        spec.check()?;
        self.writable()?;
        self.check_name(&spec.name)?;
        let home = self.layout.home(Place::Tmp, staged.id);
        check_contents(&contents(&home, spec.kind), spec)?;
        let claim = self.claim_name(&spec.name)?;
        let place = self.index.write().claim_place();
        let Some((serial, slot)) = place else {
            return Err(Error::BadStore {
                store: self.dir().to_owned(),
                why: format!("it holds {} volumes already, trash included", Slot::MAX),
            });
        };
        let mut row = new_row(spec, serial, slot);
        row.id = staged.id;
        row.used = staged.used;
        if spec.kind == Kind::Directory {
            row.owner = Some(owner_of_root(&contents(&home, spec.kind))?);
        }
        // Otherwise it is counted before it grows.
        row.usage_clean = staged.unit == self.unit || spec.kind == Kind::Disk;
        if let Some(disk) = &mut row.disk {
            disk.guest_written = staged.guest_written;
        }
        let mut build = Build::of_staged(&self.layout, &row);
        let admitted = self.admit(&row);
        let taken = build.complete(&row).and_then(|()| {
            // Nobody has made its files durable yet.
            let synced = File::open(&home).and_then(|dir| Ok(syncfs(dir)?));
            synced.map_err(|e| Error::io("sync", &home, &e))?;
            failpoint::hit("adopt.synced");
            build.publish()?;
            self.insert(row, build, admitted?)
        });
        if taken.is_err() {
            self.index.write().give_up_slot(slot);
        }
        drop(claim);
        taken
    }
}

/// Whose the root directory of what was built is.
fn owner_of_root(data: &Path) -> Result<u32> {
    let found = data.symlink_metadata();
    let found = found.map_err(|e| Error::io("look at", data, &e))?;
    Ok(found.uid())
}

fn check_contents(contents: &Path, spec: &VolumeSpec) -> Result<()> {
    let found = contents
        .symlink_metadata()
        .map_err(|e| Error::io("look at", contents, &e))?;
    let serves = match spec.kind {
        Kind::Directory => found.is_dir(),
        Kind::Disk => found.is_file(),
    };
    if !serves {
        return Err(Error::Archive {
            why: format!("{contents:?} is no {} volume", spec.kind),
        });
    }
    if let Some(size) = spec.size {
        image::check_size(size)?;
        if found.len() != size.0 {
            return Err(Error::Archive {
                why: format!("its image has {} bytes instead of {}", found.len(), size.0),
            });
        }
    }
    Ok(())
}

/// Gives the root directory of a volume that is being built its owner and
/// mode.
///
/// # Errors
/// I/O.
pub(super) fn set_owner(data: &Path, owner: Owner) -> Result<()> {
    let dir = File::open(data).map_err(|e| Error::io("open", data, &e))?;
    fchown(&dir, Some(owner.uid), Some(owner.gid))
        .map_err(|e| Error::io("set the owner of", data, &e))?;
    // After the owner, as a change of owner may take mode bits away.
    dir.set_permissions(fs::Permissions::from_mode(owner.mode & 0o7777))
        .map_err(|e| Error::io("set the mode of", data, &e))
}
