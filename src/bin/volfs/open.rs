//! Reaching the volumes of a store: through its daemon when one runs, directly
//! when none does. The rest of the command cannot tell which.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use volfs::control::Client;
use volfs::volume::{Error, Result, Store, StoreOptions, Volumes};

/// How long to wait for a store that is locked by a daemon that does not
/// listen yet, or no longer, or by another command.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

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
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        if let Some(client) = Client::connect(store)? {
            return Ok(Box::new(client));
        }
        match open_directly(store, access) {
            Err(Error::Locked { .. }) if Instant::now() < deadline => {
                // Nothing tells when a lock becomes free without taking it.
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(error),
            Ok(store) => return Ok(Box::new(store)),
        }
    }
}

fn open_directly(store: &Path, access: Access) -> Result<Store> {
    let options = StoreOptions {
        read_only: false,
        create: access == Access::Create,
    };
    match Store::open(store, &options) {
        Err(error) if access == Access::Read && is_read_only(&error) => Store::open(
            store,
            &StoreOptions {
                read_only: true,
                create: false,
            },
        ),
        opened => opened,
    }
}

fn is_read_only(error: &Error) -> bool {
    matches!(error, Error::ReadOnly { .. })
        || matches!(error, Error::Io { errno, .. } if *errno == libc::EROFS)
}

/// Where the store is mounted, if it is.
pub fn mountpoint_of(store: &Path) -> Result<Option<PathBuf>> {
    Ok(match Client::connect(store)? {
        Some(daemon) => Some(daemon.status()?.mountpoint),
        None => None,
    })
}
