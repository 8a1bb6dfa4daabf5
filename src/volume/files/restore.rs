//! Bringing a removed file back, which is a copy: it is charged and written as any
//! new file, and appears at once when it is whole.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;

use super::name::{self, Inside};
use super::{VolumeFs, node};
use crate::sys::xattr;
use crate::volume::error::Result;
use crate::volume::removed::{RemovedFile, TEMPORARY};

/// How much is copied at once.
const CHUNK: usize = 1 << 20;

impl VolumeFs {
    /// Brings a removed file back as `to`, with its contents, holes, owner, permissions,
    /// times and extended attributes. Directories that are missing on the way are made.
    /// The file stays among those that are kept.
    ///
    /// # Errors
    /// [`Error::NoSpace`](crate::volume::Error::NoSpace), I/O; `EEXIST` when there is
    /// something at `to`. Nothing is there then that was not before, but directories.
    pub fn restore(&self, file: &RemovedFile, to: impl AsRef<Path>) -> Result<()> {
        let to = to.as_ref();
        let at = Inside::new(to)?;
        let kept = File::open(&file.kept).map_err(|e| at.failed("restore", errno(&e)))?;
        let Some((above, _)) = at.split() else {
            return Err(at.failed("restore", Errno::EEXIST));
        };
        self.mkdir(above.path())?;
        let (parent, name) = self.parent_of(&at, "restore")?;
        if node::open_path(&parent, name.as_os_str()).is_ok() {
            return Err(at.failed("restore", Errno::EEXIST));
        }
        let temporary = format!("{TEMPORARY}{}", std::process::id());
        let temporary = above.path().join(temporary);
        let copied = self
            .copy_kept(&kept, &temporary, to)
            .and_then(|()| self.rename_new(&parent, &temporary, name, &at));
        if copied.is_err() {
            let _ = self.remove(&temporary);
        }
        copied
    }

    fn copy_kept(&self, kept: &File, temporary: &Path, to: &Path) -> Result<()> {
        let new = File::from(self.create(&Inside::new(temporary)?)?);
        self.copy_data(kept, &new)
            .map_err(|error| name::failed_io("restore", to, &error))?;
        copy_attributes(kept, &new).map_err(|errno| name::failed("restore", to, errno))
    }

    fn copy_data(&self, kept: &File, new: &File) -> io::Result<()> {
        let size = kept.metadata()?.len();
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < size {
            let next = |offset: u64, whence| {
                let found = node::seek(kept, offset.cast_signed(), whence);
                found.map(i64::unsigned_abs)
            };
            let begin = match next(at, libc::SEEK_DATA) {
                Ok(begin) => begin,
                Err(Errno::ENXIO) => break,
                Err(errno) => return Err(errno.into()),
            };
            let end = next(begin, libc::SEEK_HOLE)?.min(size);
            at = begin;
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
                let len = kept.read_at(&mut buffer[..most], at)?;
                if len == 0 {
                    return Ok(());
                }
                self.write_all_at(new, &buffer[..len], at)?;
                at += len as u64;
            }
        }
        // A hole at the end.
        match new.metadata()?.len() < size {
            true => self.write_all_at(new, &[0], size - 1),
            false => Ok(()),
        }
    }

    fn write_all_at(&self, file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let change = self.begin().map_err(io::Error::other)?;
            let written = change.write(file, at, bytes.len(), |most| {
                file.write_at(&bytes[..most.min(bytes.len())], at)
            })?;
            bytes = &bytes[written..];
            at += written as u64;
        }
        Ok(())
    }

    /// Gives a file its name, which nothing must have.
    fn rename_new(&self, dir: &OwnedFd, from: &Path, to: &Path, at: &Inside) -> Result<()> {
        let change = self.begin()?;
        let failed = |errno| at.failed("restore", errno);
        let mut names = change.names(dir).map_err(failed)?;
        names.reserve(None, to.as_os_str(), at)?;
        let from = from.file_name().unwrap_or_default();
        node::rename(dir, from, dir, to.as_os_str(), libc::RENAME_NOREPLACE).map_err(failed)
    }
}

/// Times last: all else changes them.
fn copy_attributes(kept: &File, new: &File) -> nix::Result<()> {
    let found = kept.metadata().map_err(|error| errno(&error))?;
    node::chown(new, Some(found.uid()), Some(found.gid()))?;
    node::chmod(new, Mode::from_bits_truncate(found.mode() & 0o7777))?;
    for name in attribute_names(kept)? {
        let mut value = vec![0; xattr::get(kept, &name, &mut [])?];
        let len = xattr::get(kept, &name, &mut value)?;
        xattr::set(new, &name, &value[..len], 0)?;
    }
    let time = |seconds, nanoseconds| TimeSpec::new(seconds, nanoseconds);
    let atime = time(found.atime(), found.atime_nsec());
    let mtime = time(found.mtime(), found.mtime_nsec());
    node::set_times(new.as_fd(), &atime, &mtime)
}

fn attribute_names(kept: &File) -> nix::Result<Vec<OsString>> {
    let mut names = vec![0; xattr::list(kept, &mut [])?];
    let len = xattr::list(kept, &mut names)?;
    let names = names[..len].split(|&byte| byte == 0);
    let names = names.filter(|name| !name.is_empty());
    Ok(names
        .map(|name| OsStr::from_bytes(name).to_owned())
        .collect())
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
