//! What is mounted where, as commands ask for it.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use volfs::control::{Client, SUPERVISOR, answering};
use volfs::fuse::mount::{self, FS_TYPE};
use volfs::fuse::mountinfo;
pub use volfs::fuse::mountinfo::MountInfo;
use volfs::sys::halted::halted;
use volfs::sys::process::{self, command_of};
use volfs::sys::procfs::Proc;
use volfs::volume::Error;

use crate::failure::{Failure, Outcome};

/// All mounts, in the order in which they were mounted.
pub fn all() -> Outcome<Vec<MountInfo>> {
    let path = Path::new("/proc/self/mountinfo");
    mountinfo::read(path).map_err(|error| Failure::io("read", path, &error))
}

/// Whether it is a mount of volfs.
pub fn is_volfs(mount: &MountInfo) -> bool {
    mount.fs_type == FS_TYPE
}

/// What is mounted exactly on `mountpoint`; the topmost of several.
pub fn on(mountpoint: &Path) -> Outcome<Option<MountInfo>> {
    Ok(all()?
        .into_iter()
        .rfind(|mount| mount.mountpoint == mountpoint))
}

/// The mount that `path` lies in: the one with the longest mountpoint.
pub fn around(path: &Path) -> Outcome<Option<MountInfo>> {
    Ok(all()?
        .into_iter()
        .filter(|mount| path.starts_with(&mount.mountpoint))
        .max_by_key(|mount| mount.mountpoint.as_os_str().len()))
}

/// Whether a file system is mounted there whose daemon has died. One that does
/// not answer has not.
pub fn is_stale(path: &Path) -> bool {
    let around = around(path).ok().flatten();
    if around.is_some_and(|mount| is_volfs(&mount) && why_silent(&mount).is_some()) {
        return false;
    }
    mount::is_disconnected(path)
}

/// Why a mount of volfs does not answer, and what to do, as far as it can be
/// told without a request, for which one would wait; `None` when nothing is
/// known against it.
pub fn why_silent(mount: &MountInfo) -> Option<String> {
    let daemon = Client::connect(&mount.source);
    let runs = match daemon {
        Ok(Some(daemon)) => match daemon.pid() {
            Ok(Some(pid)) => answering::wait_until_it_runs(pid),
            Ok(None) => Ok(()),
            Err(error) => Err(error.to_string()),
        },
        Ok(None) => Ok(()),
        Err(error @ Error::Unresponsive { .. }) => Err(error.to_string()),
        Err(_) => Ok(()),
    };
    runs.err()
}

/// Supervisors that are stopped: mounts whose serving process has died wait for
/// them.
pub fn stopped_supervisors() -> Vec<i32> {
    let processes = Proc::open().map(|mut proc| proc.processes());
    let pids = processes.unwrap_or_default().into_iter().map(|it| it.pid);
    pids.filter(|&pid| halted(pid).is_some())
        .filter(|&pid| command_of(pid).is_some_and(|name| name == SUPERVISOR))
        .collect()
}

/// The first process of another mount namespace that has a mount of this store,
/// with this device number if that is known.
pub fn elsewhere(store: &Path, device: Option<u64>) -> Option<i32> {
    let mut seen = HashSet::from([process::mount_namespace("self")]);
    let mut proc = Proc::open().ok()?;
    let processes = proc.processes();
    let has = |pid: &i32| {
        let is_new = proc
            .mount_namespace(*pid)
            .is_some_and(|namespace| seen.insert(Some(namespace)));
        let file = PathBuf::from(format!("/proc/{pid}/mountinfo"));
        let is_it = |mount: &MountInfo| {
            is_volfs(mount)
                && mount.source == store
                && device.is_none_or(|device| device == mount.device)
        };
        is_new && mountinfo::read(&file).is_ok_and(|mounts| mounts.iter().any(is_it))
    };
    processes.iter().map(|it| it.pid).find(has)
}

/// The sources of all mounts of volfs in any mount namespace.
pub fn sources() -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let Ok(mut proc) = Proc::open() else {
        return found;
    };
    for process in proc.processes() {
        let namespace = proc.mount_namespace(process.pid);
        if namespace.is_some_and(|namespace| seen.insert(namespace)) {
            let file = PathBuf::from(format!("/proc/{}/mountinfo", process.pid));
            let mounts = mountinfo::read(&file).unwrap_or_default();
            found.extend(
                mounts
                    .into_iter()
                    .filter(is_volfs)
                    .map(|mount| mount.source),
            );
        }
    }
    found.sort();
    found.dedup();
    found
}

/// A process as messages name it.
pub fn named(pid: i32) -> String {
    let command = command_of(pid).unwrap_or_default();
    format!("process {pid} ({})", command.escape_debug())
}

fn is_disconnected(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOTCONN)
}

/// `path` without symbolic links and dots, also when it is the root of a stale
/// mount. What does not exist is only made absolute.
///
/// The root of a mount that does not answer is not entered: it is found by its
/// absolute path alone.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    if let Ok(Some(mount)) = around(&absolute)
        && is_volfs(&mount)
        && why_silent(&mount).is_some()
    {
        return Ok(absolute);
    }
    match path.canonicalize() {
        Ok(resolved) => Ok(resolved),
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(path),
        Err(error) if is_disconnected(&error) => {
            let absolute = std::path::absolute(path)?;
            match (absolute.parent(), absolute.file_name()) {
                (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
                _ => Ok(absolute),
            }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_mounts() {
        assert!(on(Path::new("/")).unwrap().is_some());
        let proc = around(Path::new("/proc/self")).unwrap().unwrap();
        assert_eq!(proc.fs_type, "proc");
        assert!(!is_volfs(&proc) && !is_stale(Path::new("/proc")));
    }
}
