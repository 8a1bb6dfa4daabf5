//! Reaching the volumes of a store, for commands: through its daemon when one
//! runs, directly when none does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::mounts;
use volfs::control::{Client, Status};
use volfs::volume::{Error, Result, Volumes};
pub use volfs::{Access, PATIENCE};

/// The volumes of the store in `store`.
pub fn open_volumes(store: &Path, access: Access) -> Result<Arc<dyn Volumes>> {
    volfs::open_as(store, access)
}

/// How long there may be nobody between two processes that serve a mount. A mount
/// that is only looked at may have no daemon to speak with at all.
const BETWEEN_PATIENCE: Duration = Duration::from_secs(2);

/// Nothing tells when a lock becomes free without taking it.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// The daemon that serves the store, and what it says of itself; a daemon that
/// is just ending is waited for, and is none then. One that is between two
/// processes is waited for too: the store is mounted all the while.
pub fn daemon_of(store: &Path) -> Result<Option<(Client, Status)>> {
    let start = Instant::now();
    let deadline = start + PATIENCE;
    loop {
        let Some(client) = Client::connect(store)? else {
            if start.elapsed() < BETWEEN_PATIENCE && is_mounted(store) {
                pause();
                continue;
            }
            return Ok(None);
        };
        match client.status() {
            Ok(status) => return Ok(Some((client, status))),
            Err(Error::Daemon { .. }) if Instant::now() < deadline => pause(),
            Err(error) => return Err(error),
        }
    }
}

/// Whether a mount of the store is served, maybe by a process that is yet to come.
fn is_mounted(store: &Path) -> bool {
    let store = store.canonicalize();
    let mounts = mounts::all().unwrap_or_default();
    mounts.iter().any(|mount| {
        mounts::is_volfs(mount)
            && store
                .as_ref()
                .is_ok_and(|store| Path::new(&mount.source) == store)
            && !mounts::is_stale(&mount.mountpoint)
    })
}

/// Where the store is mounted, if it is.
pub fn mountpoint_of(store: &Path) -> Result<Option<PathBuf>> {
    Ok(daemon_of(store)?.map(|(_, status)| status.mountpoint))
}
