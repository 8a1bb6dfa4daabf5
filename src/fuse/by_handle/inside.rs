//! Whether an inode of the host is inside a volume.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::sys::stat::FileStat;

use crate::model::VolumeId;
use crate::sys::descent::{PASS, open_below};
use crate::sys::node;

/// Whether both are of one inode.
pub(super) fn same(one: &FileStat, other: &FileStat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Opens (`O_PATH`) the directory that `dir` is in.
///
/// # Errors
/// As `openat(2)`.
pub(super) fn parent(dir: impl AsFd) -> Result<OwnedFd, Errno> {
    open_below(dir, OsStr::new(".."), PASS)
}

/// Whether the directory `dir` is below the directory that has the attributes
/// `top`. Renames meanwhile do not matter: within a volume they leave what is
/// below its root below it, and nothing is renamed into a volume from outside.
///
/// # Errors
/// What the host says; ENOENT for a directory that is removed.
pub(super) fn is_below(dir: &OwnedFd, top: &FileStat) -> Result<bool, Errno> {
    let mut here = node::stat(dir)?;
    let mut above = parent(dir)?;
    loop {
        let found = node::stat(&above)?;
        if same(&found, top) {
            return Ok(true);
        }
        // The root of the file system, or of what is mounted of it.
        if same(&found, &here) || found.st_dev != top.st_dev {
            return Ok(false);
        }
        here = found;
        above = parent(&above)?;
    }
}

/// Opens (`O_PATH`) what the kernel says is the path of `fd`, where that is below
/// the root of the volume with this id, and is the inode with the attributes
/// `stat`. The kernel knows the path while it remembers a name of the inode.
pub(super) fn by_known_path(
    fd: &OwnedFd,
    root: &OwnedFd,
    id: VolumeId,
    stat: &FileStat,
) -> Option<OwnedFd> {
    let path = std::fs::read_link(node::proc_path(fd.as_fd())).ok()?;
    let path = path.as_os_str().as_bytes();
    // Where the store is does not matter: what is found is looked at.
    let top = format!("/{id}/data/").into_bytes();
    let at = path.windows(top.len()).position(|part| part == top)?;
    let found = node::open_path(root, OsStr::from_bytes(&path[at + top.len()..])).ok()?;
    same(&node::stat(&found).ok()?, stat).then_some(found)
}
