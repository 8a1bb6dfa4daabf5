//! What files of a volume are, as programs are told.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};

use crate::model::{Bytes, Timestamp};

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A fifo, socket or device node.
    Other,
}

/// The attributes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Its length.
    pub size: Bytes,
    /// Permission bits.
    pub mode: u32,
    /// User id of the owner.
    pub uid: u32,
    /// Group id of the owner.
    pub gid: u32,
    /// How many names it has.
    pub links: u64,
    /// When its contents last changed.
    pub modified: Timestamp,
}

/// What is in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: OsString,
    /// The thing itself; a symbolic link is not followed.
    pub stat: Stat,
}

impl Stat {
    pub(super) fn of(found: &FileStat) -> Self {
        let kind = match SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => FileKind::File,
            SFlag::S_IFDIR => FileKind::Directory,
            SFlag::S_IFLNK => FileKind::Symlink,
            _ => FileKind::Other,
        };
        let nanos = found
            .st_mtime
            .saturating_mul(1_000_000_000)
            .saturating_add(found.st_mtime_nsec);
        Self {
            kind,
            size: Bytes(found.st_size.unsigned_abs()),
            mode: found.st_mode & 0o7777,
            uid: found.st_uid,
            gid: found.st_gid,
            links: found.st_nlink,
            modified: Timestamp::from_nanos(nanos),
        }
    }
}

pub(super) fn list(dir: OwnedFd) -> nix::Result<Vec<Entry>> {
    let mut dir = Dir::from_fd(dir)?;
    let here = dir
        .as_fd()
        .try_clone_to_owned()
        .map_err(|e| Errno::try_from(e).unwrap_or(Errno::EMFILE))?;
    let mut entries = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match fstatat(&here, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => entries.push(Entry {
                name: std::ffi::OsStr::from_bytes(name.to_bytes()).to_owned(),
                stat: Stat::of(&found),
            }),
            // Removed since it was listed.
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}
