//! Reaching the volumes of a store: through its daemon when one runs, directly
//! when none does. Who uses them cannot tell which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::statvfs::{FsFlags, statvfs};
use parking_lot::Mutex;

use crate::control::{Call, Client, audit};
use crate::model::{VolumeName, VolumeSpec};
use crate::volume::{
    Change, CheckHow, DiskCheck, Error, Event, Holder, Purge, Removal, Result, Setting, Settings,
    Source, Staged, Store, StoreOptions, TrashedVolume, Verified, VolumeFs, VolumeInfo, Volumes,
};

/// How long to wait for a store that is locked by a daemon that does not
/// listen yet, or no longer, or by another command.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What somebody wants to do with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Look; a store on a read-only file system will do.
    Read,
    /// Change volumes that are there.
    Change,
    /// Make volumes, and the store itself if it is not there.
    Create,
}

/// The volumes of the store in `dir`, which is made if it is not there.
///
/// As long as no daemon serves the store, it is this process's alone, until
/// the result is dropped, and with it the [files](Volumes::files) and
/// [contents](Volumes::source) that were got from it.
///
/// # Errors
/// [`Error::Locked`] after [`PATIENCE`], [`Error::BadStore`],
/// [`Error::Catalogue`], I/O.
pub fn open(dir: impl AsRef<Path>) -> Result<Arc<dyn Volumes>> {
    open_as(dir, Access::Create)
}

/// As [`open`], for what `access` says.
///
/// # Errors
/// As [`open`].
pub fn open_as(dir: impl AsRef<Path>, access: Access) -> Result<Arc<dyn Volumes>> {
    let store = dir.as_ref();
    Ok(Arc::new(Reached {
        store: store.to_owned(),
        access,
        way: Mutex::new(reach(store, access)?),
    }))
}

/// Volumes as they can be had at the moment.
#[derive(Clone)]
struct Way {
    volumes: Arc<dyn Volumes>,
    /// This process has opened the store itself.
    direct: bool,
}

fn reach(store: &Path, access: Access) -> Result<Way> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(client) = Client::connect(store)? {
            return Ok(Way {
                volumes: Arc::new(client),
                direct: false,
            });
        }
        match open_directly(store, access) {
            // Nothing tells when a lock becomes free without taking it.
            Err(Error::Locked { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error),
            Ok(store) => {
                return Ok(Way {
                    volumes: Arc::new(store),
                    direct: true,
                });
            }
        }
    }
}

fn open_directly(store: &Path, access: Access) -> Result<Store> {
    Store::open(
        store,
        &StoreOptions {
            read_only: access == Access::Read && is_on_read_only(store),
            create: access == Access::Create,
        },
    )
}

fn is_on_read_only(store: &Path) -> bool {
    statvfs(store).is_ok_and(|stat| stat.flags().contains(FsFlags::ST_RDONLY))
}

/// Volumes, by the way that there is at the moment: a daemon that ends between
/// two calls, or between its greeting and the first, changes nothing.
struct Reached {
    store: PathBuf,
    access: Access,
    /// Held only to read or replace it.
    way: Mutex<Way>,
}

impl Reached {
    fn ask<T>(&self, call: impl Fn(&dyn Volumes) -> Result<T>) -> Result<T> {
        let way = self.way.lock().clone();
        match call(&*way.volumes) {
            Err(Error::Daemon { gone: true, .. }) => {}
            result => return result,
        }
        let way = reach(&self.store, self.access)?;
        *self.way.lock() = way.clone();
        call(&*way.volumes)
    }

    /// As [`ask`](Self::ask), for a change. A daemon records it; without one this
    /// does.
    fn change_by<T>(&self, asked: &Call, call: impl Fn(&dyn Volumes) -> Result<T>) -> Result<T> {
        let result = self.ask(call);
        if asked.changes() && self.way.lock().direct {
            let refused = result.as_ref().err();
            audit::note_without_daemon(&self.store, asked, refused.map(|why| why as _));
        }
        result
    }
}

impl Volumes for Reached {
    fn create(&self, spec: &VolumeSpec) -> Result<VolumeInfo> {
        let asked = Call::Create {
            spec: Box::new(spec.clone()),
        };
        self.change_by(&asked, |volumes| volumes.create(spec))
    }

    fn get(&self, name: &VolumeName) -> Result<VolumeInfo> {
        self.ask(|volumes| volumes.get(name))
    }

    fn list(&self) -> Result<Vec<VolumeInfo>> {
        self.ask(|volumes| volumes.list())
    }

    fn rename(&self, from: &VolumeName, to: &VolumeName) -> Result<VolumeInfo> {
        let asked = Call::Rename {
            from: from.clone(),
            to: to.clone(),
        };
        self.change_by(&asked, |volumes| volumes.rename(from, to))
    }

    fn remove(&self, name: &VolumeName, how: Removal) -> Result<()> {
        let asked = Call::Remove {
            name: name.clone(),
            how,
        };
        self.change_by(&asked, |volumes| volumes.remove(name, how))
    }

    fn change(&self, name: &VolumeName, change: &Change) -> Result<VolumeInfo> {
        let asked = Call::Change {
            name: name.clone(),
            change: change.clone(),
        };
        self.change_by(&asked, |volumes| volumes.change(name, change))
    }

    fn check(&self, name: &VolumeName, how: CheckHow) -> Result<DiskCheck> {
        let asked = Call::Check {
            name: name.clone(),
            how,
        };
        self.change_by(&asked, |volumes| volumes.check(name, how))
    }

    fn holders(&self, name: &VolumeName) -> Result<Vec<Holder>> {
        self.ask(|volumes| volumes.holders(name))
    }

    fn all_holders(&self) -> Result<BTreeMap<VolumeName, Vec<Holder>>> {
        self.ask(|volumes| volumes.all_holders())
    }

    fn events(&self) -> Result<Vec<Event>> {
        self.ask(|volumes| volumes.events())
    }

    fn verify(&self, name: &VolumeName, repair: bool) -> Result<Verified> {
        let asked = Call::Verify {
            name: name.clone(),
            repair,
        };
        self.change_by(&asked, |volumes| volumes.verify(name, repair))
    }

    fn trash(&self) -> Result<Vec<TrashedVolume>> {
        self.ask(|volumes| volumes.trash())
    }

    fn restore(&self, which: &str, new_name: Option<&VolumeName>) -> Result<VolumeInfo> {
        let asked = Call::Restore {
            which: which.to_owned(),
            new_name: new_name.cloned(),
        };
        self.change_by(&asked, |volumes| volumes.restore(which, new_name))
    }

    fn empty_trash(&self, which: Option<&str>) -> Result<usize> {
        let asked = Call::EmptyTrash {
            which: which.map(str::to_owned),
        };
        self.change_by(&asked, |volumes| volumes.empty_trash(which))
    }

    fn purges(&self) -> Result<Vec<Purge>> {
        self.ask(|volumes| volumes.purges())
    }

    fn settings(&self) -> Result<Settings> {
        self.ask(|volumes| volumes.settings())
    }

    fn set(&self, setting: &Setting) -> Result<Settings> {
        let asked = Call::Set { setting: *setting };
        self.change_by(&asked, |volumes| volumes.set(setting))
    }

    fn files(&self, name: &VolumeName) -> Result<VolumeFs> {
        self.ask(|volumes| volumes.files(name))
    }

    fn source(&self, name: &VolumeName) -> Result<Source> {
        self.ask(|volumes| volumes.source(name))
    }

    fn adopt(&self, staged: &Staged) -> Result<VolumeInfo> {
        let asked = Call::Adopt {
            staged: Box::new(staged.clone()),
        };
        self.change_by(&asked, |volumes| volumes.adopt(staged))
    }

    fn detach(&self, name: &VolumeName) -> Result<Vec<String>> {
        self.ask(|volumes| volumes.detach(name))
    }

    fn mountpoint(&self) -> Result<Option<PathBuf>> {
        self.ask(|volumes| volumes.mountpoint())
    }

    fn store_dir(&self) -> PathBuf {
        self.way.lock().volumes.store_dir()
    }
}
