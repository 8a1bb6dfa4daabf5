//! Reaching the volumes of a store, for commands: through its daemon when one
//! runs, directly when none does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use volfs::control::{Client, Status};
use volfs::volume::{Error, Result, Volumes};
pub use volfs::{Access, PATIENCE};

/// The volumes of the store in `store`.
pub fn open_volumes(store: &Path, access: Access) -> Result<Arc<dyn Volumes>> {
    volfs::open_as(store, access)
}

/// Nothing tells when a lock becomes free without taking it.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(20));
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
