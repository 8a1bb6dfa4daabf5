//! Reaching the volumes of a store, for commands: through its daemon when one
//! runs, directly when none does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::mounts;
use volfs::control::{Client, SOCKET_NAME, Status};
use volfs::fuse::mount::{self, Answer};
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
            match mount_of(store) {
                None => return Ok(None),
                Some(Answer::Silent) if start.elapsed() >= BETWEEN_PATIENCE => {
                    return Err(nobody_serves(store));
                }
                Some(_) if start.elapsed() >= BETWEEN_PATIENCE => return Ok(None),
                Some(_) => pause(),
            }
            continue;
        };
        match client.status() {
            Ok(status) => return Ok(Some((client, status))),
            Err(Error::Daemon { .. }) if Instant::now() < deadline => pause(),
            Err(error) => return Err(error),
        }
    }
}

/// How the mount of the store answers, if there is one that is served, maybe by a
/// process that is yet to come.
fn mount_of(store: &Path) -> Option<Answer> {
    let store = store.canonicalize().ok()?;
    let mounts = mounts::all().unwrap_or_default();
    let is_it = |mount: &&mounts::MountInfo| mounts::is_volfs(mount) && mount.source == store;
    mounts
        .iter()
        .filter(is_it)
        .map(|mount| mount::answer(&mount.mountpoint))
        .find(|answer| *answer != Answer::Disconnected)
}

/// The store is mounted, whoever uses the mount waits, and nobody is there to
/// serve it.
fn nobody_serves(store: &Path) -> Error {
    let stopped = mounts::stopped_supervisors();
    let why = match stopped.first() {
        Some(pid) => format!(
            "the process that served it has ended, and the supervisor that is to start the next, process {pid}, is stopped; let it go on with 'kill -CONT {pid}', or unmount with 'volfs umount --force'"
        ),
        None => "the process that served it has ended, and no other has come; its log is daemon.log in the store, and 'volfs umount --force' takes the mount away".to_owned(),
    };
    Error::Unresponsive {
        socket: store.join(SOCKET_NAME),
        pid: stopped.first().copied(),
        why,
    }
}

/// Where the store is mounted, if it is.
pub fn mountpoint_of(store: &Path) -> Result<Option<PathBuf>> {
    Ok(daemon_of(store)?.map(|(_, status)| status.mountpoint))
}
