//! What is mounted where, as commands ask for it.

use std::io;
use std::path::{Path, PathBuf};

use volfs::fuse::mount::{self, FS_TYPE};
use volfs::fuse::mountinfo::{self, MountInfo};

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

/// Whether a file system is mounted there whose daemon has died.
pub fn is_stale(path: &Path) -> bool {
    mount::is_disconnected(path)
}

fn is_disconnected(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOTCONN)
}

/// `path` without symbolic links and dots, also when it is the root of a stale
/// mount. What does not exist is only made absolute.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
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
