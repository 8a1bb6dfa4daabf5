//! Reaching the volumes of a store: through its daemon when one runs, directly
//! when none does. The rest of the command cannot tell which.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::statvfs::{FsFlags, statvfs};
use parking_lot::Mutex;
use volfs::control::{Client, Status};
use volfs::model::{VolumeName, VolumeSpec};
use volfs::volume::{
    Change, CheckHow, DiskCheck, Error, Event, Holder, Removal, Result, Store, StoreOptions,
    TrashedVolume, Verified, VolumeInfo, Volumes,
};

/// How long to wait for a store that is locked by a daemon that does not
/// listen yet, or no longer, or by another command.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What a command wants to do with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Look; a store on a read-only file system will do.
    Read,
    /// Change volumes that are there.
    Change,
    /// Make volumes, and the store itself if it is not there.
    Create,
}

/// The volumes of the store in `store`.
pub fn open_volumes(store: &Path, access: Access) -> Result<Box<dyn Volumes>> {
    let reached = Reached {
        store: store.to_owned(),
        access,
        way: Mutex::new(reach(store, access)?),
    };
    Ok(Box::new(reached))
}

fn reach(store: &Path, access: Access) -> Result<Arc<dyn Volumes>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(client) = Client::connect(store)? {
            return Ok(Arc::new(client));
        }
        match open_directly(store, access) {
            Err(Error::Locked { .. }) if Instant::now() < deadline => pause(),
            Err(error) => return Err(error),
            Ok(store) => return Ok(Arc::new(store)),
        }
    }
}

/// Nothing tells when a lock becomes free without taking it.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(20));
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

/// The daemon that serves the store, and what it says of itself; a daemon that
/// is just ending is waited for, and is none then.
pub fn daemon_of(store: &Path) -> Result<Option<(Client, Status)>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Some(client) = Client::connect(store)? else {
            return Ok(None);
        };
        match client.status() {
            Ok(status) => return Ok(Some((client, status))),
            Err(Error::Daemon { .. }) if Instant::now() < deadline => pause(),
            Err(error) => return Err(error),
        }
    }
}

/// Where the store is mounted, if it is.
pub fn mountpoint_of(store: &Path) -> Result<Option<PathBuf>> {
    Ok(daemon_of(store)?.map(|(_, status)| status.mountpoint))
}

/// Volumes, by the way that there is at the moment: a daemon that ends between
/// two calls, or between its greeting and the first, changes nothing.
struct Reached {
    store: PathBuf,
    access: Access,
    /// Held only to read or replace it.
    way: Mutex<Arc<dyn Volumes>>,
}

impl Reached {
    fn ask<T>(&self, call: impl Fn(&dyn Volumes) -> Result<T>) -> Result<T> {
        let way = Arc::clone(&self.way.lock());
        match call(&*way) {
            Err(Error::Daemon { gone: true, .. }) => {}
            result => return result,
        }
        let way = reach(&self.store, self.access)?;
        *self.way.lock() = Arc::clone(&way);
        call(&*way)
    }
}

impl Volumes for Reached {
    fn create(&self, spec: &VolumeSpec) -> Result<VolumeInfo> {
        self.ask(|volumes| volumes.create(spec))
    }

    fn get(&self, name: &VolumeName) -> Result<VolumeInfo> {
        self.ask(|volumes| volumes.get(name))
    }

    fn list(&self) -> Result<Vec<VolumeInfo>> {
        self.ask(|volumes| volumes.list())
    }

    fn rename(&self, from: &VolumeName, to: &VolumeName) -> Result<VolumeInfo> {
        self.ask(|volumes| volumes.rename(from, to))
    }

    fn remove(&self, name: &VolumeName, how: Removal) -> Result<()> {
        self.ask(|volumes| volumes.remove(name, how))
    }

    fn change(&self, name: &VolumeName, change: &Change) -> Result<VolumeInfo> {
        self.ask(|volumes| volumes.change(name, change))
    }

    fn check(&self, name: &VolumeName, how: CheckHow) -> Result<DiskCheck> {
        self.ask(|volumes| volumes.check(name, how))
    }

    fn holders(&self, name: &VolumeName) -> Result<Vec<Holder>> {
        self.ask(|volumes| volumes.holders(name))
    }

    fn events(&self) -> Result<Vec<Event>> {
        self.ask(|volumes| volumes.events())
    }

    fn verify(&self, name: &VolumeName, repair: bool) -> Result<Verified> {
        self.ask(|volumes| volumes.verify(name, repair))
    }

    fn trash(&self) -> Result<Vec<TrashedVolume>> {
        self.ask(|volumes| volumes.trash())
    }

    fn restore(&self, which: &str, new_name: Option<&VolumeName>) -> Result<VolumeInfo> {
        self.ask(|volumes| volumes.restore(which, new_name))
    }

    fn empty_trash(&self, which: Option<&str>) -> Result<usize> {
        self.ask(|volumes| volumes.empty_trash(which))
    }
}
