//! `lost+found` in the root of a disk volume: ext4's own, where e2fsck puts what it
//! finds. While it is empty it is not shown. A program that wants an empty directory
//! (initdb) would refuse the volume, and whoever reads all of it (tar) may not read
//! this as the volume's owner. It stays in the image: e2fsck has no room to make one
//! where it is needed.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use crate::diskimg::{LOST_AND_FOUND, ROOT_INODE};
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::Located;
use crate::fuse::node::NodeId;
use crate::model::Kind;
use crate::sys::dir;
use crate::volume::Volume;

/// Whether `name` in the directory `parent` of `volume` is that of ext4's own.
pub(in crate::fuse) fn is_its_name(volume: &Volume, parent: NodeId, name: &OsStr) -> bool {
    name == LOST_AND_FOUND && parent.ino().0 == ROOT_INODE && volume.kind == Kind::Disk
}

/// Whether `name` in the directory `at`, open as `fd`, is not shown.
pub(in crate::fuse) fn is_hidden(at: &Located, fd: impl AsFd, name: &OsStr) -> bool {
    is_its_name(&at.volume, at.node, name) && dir::is_empty_below(fd, name)
}

/// Refuses to make `name` in the directory `at`: what is made there would not be
/// seen, or would be in the way of e2fsck.
///
/// # Errors
/// [`OpError::LostFound`].
pub(in crate::fuse) fn check_new(at: &Located, name: &OsStr) -> OpResult<()> {
    if is_its_name(&at.volume, at.node, name) {
        return Err(OpError::LostFound(at.volume.name()));
    }
    Ok(())
}
