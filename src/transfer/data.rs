//! The contents of files with their holes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, copy_file_range};

use super::Watch;
use crate::sys::{clone, node};
use crate::volume::{Error, Result};

/// So much is copied between two looks at who may want it to stop.
const CHUNK: u64 = 8 << 20;

/// A part of a file that is no hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub offset: u64,
    pub len: u64,
}

/// Opens a file to be read as a whole, without leaving a trace of it if
/// possible.
pub(super) fn open(fd: impl AsFd) -> nix::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    // Only the owner may leave the access time alone.
    let opened: OwnedFd = node::reopen(fd.as_fd(), flags | OFlag::O_NOATIME)
        .or_else(|_| node::reopen(fd.as_fd(), flags))?;
    Ok(opened.into())
}

/// The parts of the first `size` bytes of a file that are no holes, in order.
pub(super) fn segments(file: &File, size: u64) -> nix::Result<Vec<Segment>> {
    let mut found = Vec::new();
    let mut at = 0;
    let number = |at: u64| i64::try_from(at).map_err(|_| Errno::EFBIG);
    while at < size {
        let data = match node::seek(file, number(at)?, libc::SEEK_DATA) {
            Ok(data) => data.unsigned_abs(),
            // No data from here on.
            Err(Errno::ENXIO) => break,
            Err(errno) => return Err(errno),
        };
        if data >= size {
            break;
        }
        let hole = node::seek(file, number(data)?, libc::SEEK_HOLE)?.unsigned_abs();
        // A file that shrinks meanwhile must not keep this going.
        let end = hole.clamp(data + 1, size);
        found.push(Segment {
            offset: data,
            len: end - data,
        });
        at = end;
    }
    Ok(found)
}

/// How the contents of a file were copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Both share the same space.
    Shared,
    /// Byte by byte, without the holes.
    Copied,
}

/// Copies contents between files of one store, by sharing them where that can
/// be done. What has once failed is not tried again.
#[derive(Debug, Default)]
pub(super) struct Copier {
    cannot_share: bool,
}

impl Copier {
    /// Fills the empty file `to` with the first `size` bytes of `from`.
    ///
    /// # Errors
    /// [`Error::Interrupted`]; I/O as it is said by `failed`.
    pub(super) fn copy(
        &mut self,
        from: &File,
        to: &File,
        size: u64,
        watch: &dyn Watch,
        failed: &dyn Fn(&str, Errno) -> Error,
    ) -> Result<How> {
        if watch.is_stopped() {
            return Err(Error::Interrupted);
        }
        if size == 0 {
            return Ok(How::Shared);
        }
        if !self.cannot_share {
            match clone::reflink(to, from) {
                Ok(()) => {
                    watch.advanced(size);
                    return Ok(How::Shared);
                }
                Err(Errno::EOPNOTSUPP | Errno::EXDEV | Errno::EINVAL | Errno::ENOTTY) => {
                    self.cannot_share = true;
                }
                Err(errno) => return Err(failed("share the contents of", errno)),
            }
        }
        let mut done = 0;
        for segment in segments(from, size).map_err(|e| failed("read", e))? {
            watch.advanced(segment.offset.saturating_sub(done));
            copy_segment(from, to, segment, watch, failed)?;
            done = segment.offset + segment.len;
        }
        to.set_len(size)
            .map_err(|e| failed("set the size of", errno_of(&e)))?;
        watch.advanced(size.saturating_sub(done));
        Ok(How::Copied)
    }
}

fn copy_segment(
    from: &File,
    to: &File,
    segment: Segment,
    watch: &dyn Watch,
    failed: &dyn Fn(&str, Errno) -> Error,
) -> Result<()> {
    let (mut at, end) = (segment.offset, segment.offset + segment.len);
    while at < end {
        if watch.is_stopped() {
            return Err(Error::Interrupted);
        }
        let want = (end - at).min(CHUNK);
        let offset = i64::try_from(at).map_err(|_| failed("copy", Errno::EFBIG))?;
        let (mut read, mut write) = (offset, offset);
        // At most CHUNK, which fits.
        let copied = copy_file_range(from, Some(&mut read), to, Some(&mut write), want as usize);
        let copied = match copied {
            // The file has become shorter.
            Ok(0) => return Ok(()),
            Ok(copied) => copied as u64,
            Err(Errno::EXDEV | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOSYS) => {
                let copied =
                    by_hand(from, to, at, want).map_err(|e| failed("copy", errno_of(&e)))?;
                if copied == 0 {
                    return Ok(());
                }
                copied
            }
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(failed("copy", errno)),
        };
        watch.advanced(copied);
        at += copied;
    }
    Ok(())
}

fn by_hand(from: &File, to: &File, at: u64, want: u64) -> io::Result<u64> {
    let mut buffer = vec![0; want.min(1 << 20) as usize];
    let read = from.read_at(&mut buffer, at)?;
    to.write_all_at(&buffer[..read], at)?;
    Ok(read as u64)
}

pub(super) fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_stay_holes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("from");
        let from = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        from.write_all_at(&[1; 4096], 1 << 20).unwrap();
        from.write_all_at(&[2; 10], 5 << 20).unwrap();
        from.set_len(64 << 20).unwrap();
        let parts = segments(&from, 64 << 20).unwrap();
        assert_eq!(
            parts.iter().map(|it| it.offset).collect::<Vec<_>>(),
            [1 << 20, 5 << 20]
        );
        let to = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(dir.path().join("to"))
            .unwrap();
        let failed = |action: &str, errno: Errno| Error::io(action, &path, &errno.into());
        let mut copier = Copier { cannot_share: true };
        let how = copier.copy(&from, &to, 64 << 20, &(), &failed).unwrap();
        assert_eq!(how, How::Copied);
        assert_eq!(segments(&to, 64 << 20).unwrap(), parts);
        assert_eq!(to.metadata().unwrap().len(), 64 << 20);
    }
}
