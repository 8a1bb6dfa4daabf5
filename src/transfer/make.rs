//! Making files of a volume that is being built. What they are called comes
//! from elsewhere: a name is made in a directory that is held open, and never
//! through a link.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};
use nix::unistd::symlinkat;

use crate::sys::node::{open_path, read_link};

/// Makes an empty file for writing.
pub(super) fn file(dir: impl AsFd, name: &OsStr) -> nix::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let fd = openat(dir, name, flags, Mode::from_bits_truncate(0o600))?;
    Ok(fd.into())
}

/// Makes a directory, and opens it (`O_PATH`).
pub(super) fn directory(dir: impl AsFd, name: &OsStr) -> nix::Result<OwnedFd> {
    mkdirat(dir.as_fd(), name, Mode::S_IRWXU)?;
    open_path(dir, name)
}

/// Makes a symbolic link.
pub(super) fn symlink(target: &OsStr, dir: impl AsFd, name: &OsStr) -> nix::Result<()> {
    symlinkat(target, dir, name)
}

/// Makes a fifo, socket or device node.
pub(super) fn special(dir: impl AsFd, name: &OsStr, kind: SFlag, device: u64) -> nix::Result<()> {
    mknodat(dir, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, device)
}

/// Where a symbolic link that is held by `fd` (`O_PATH`) leads.
pub(super) fn target(fd: &OwnedFd) -> nix::Result<OsString> {
    let mut target = vec![0; libc::PATH_MAX as usize];
    let len = read_link(fd, &mut target)?;
    target.truncate(len);
    Ok(OsString::from_vec(target))
}
