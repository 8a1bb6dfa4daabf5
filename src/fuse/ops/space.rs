//! Space in files: fallocate, lseek, copy_file_range.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::failpoint;
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::FileSystem;
use crate::fuse::image_file;
use crate::fuse::node::NodeId;
use crate::fuse::types::{Caller, Fh};
use crate::sys::node;

/// The most that one request copies. Room for it is reserved meanwhile.
const MOST_COPIED: u64 = 64 << 20;
/// What is copied before it is known how fast that is: what one write may carry.
const FIRST_PIECE: usize = 1 << 20;
/// No piece is longer, and so no longer than so many of those by time.
const LONGEST_PIECE: usize = 16 << 20;
/// After this no further piece is begun.
const COPY_TIME: Duration = Duration::from_micros(250);

/// A range in an open file.
#[derive(Clone, Copy, Debug)]
pub struct FileRange {
    /// The file's node.
    pub node: NodeId,
    /// Its handle.
    pub fh: Fh,
    /// Where the range starts, in bytes.
    pub offset: u64,
}

impl FileSystem {
    /// Allocates, punches, zeroes, collapses or inserts, as the host can.
    ///
    /// # Errors
    /// What the host says to `fallocate(2)`.
    pub fn fallocate(&self, caller: Caller, at: FileRange, len: u64, mode: i32) -> OpResult<()> {
        if image_file::is_image(at.node) {
            return image_file::fallocate(self, at.fh, at.offset, len, mode);
        }
        let file = self.file_of(at.node, at.fh)?;
        let located = self.locate(at.node)?;
        let sizing = self.sizing(&located, &file)?;
        let end = at.offset.saturating_add(len);
        let most = if mode & libc::FALLOC_FL_INSERT_RANGE != 0 {
            sizing.old().saturating_add(len)
        } else if mode & libc::FALLOC_FL_KEEP_SIZE != 0 {
            let allocates = mode & libc::FALLOC_FL_PUNCH_HOLE == 0;
            if allocates && end > sizing.old() && located.volume.is_limited_in_bytes() {
                return Err(OpError::HiddenAllocation);
            }
            sizing.old()
        } else if mode & libc::FALLOC_FL_COLLAPSE_RANGE != 0 {
            sizing.old()
        } else {
            sizing.old().max(end)
        };
        let room = sizing.reserve(most)?;
        let result = {
            let _as = self.as_writer(caller, sizing.mode())?;
            failpoint::hit("live.fallocate.room");
            node::fallocate(&file, mode, at.offset, len)
        };
        failpoint::hit("live.fallocate.host");
        sizing.settle(Some(room), &file);
        let old = sizing.old();
        drop(sizing);
        if result.is_ok() {
            let inside = old.saturating_sub(at.offset).min(len);
            self.overwritten(&located, &file, inside);
        }
        Ok(result?)
    }

    /// Finds data or holes (`SEEK_DATA`, `SEEK_HOLE`).
    ///
    /// # Errors
    /// What the host says to `lseek(2)`: ENXIO past the end.
    pub fn lseek(&self, node: NodeId, fh: Fh, offset: i64, whence: i32) -> OpResult<i64> {
        if image_file::is_image(node) {
            return image_file::seek(self, fh, offset, whence);
        }
        if let Some((_, view)) = self.view_of(node)? {
            return Self::view_seek(&view, node, offset, whence);
        }
        let file = self.file_of(node, fh)?;
        Ok(node::seek(file, offset, whence)?)
    }

    /// Copies a range on the host, by reference where the host can; returns
    /// how many bytes: not all in one request, so that others are served, too. The
    /// caller asks for the rest (copy_file_range(2)).
    ///
    /// # Errors
    /// EXDEV between volumes, so that the caller copies by itself; what the
    /// host says to `copy_file_range(2)`.
    pub fn copy_file_range(
        &self,
        caller: Caller,
        from: FileRange,
        to: FileRange,
        len: u64,
    ) -> OpResult<usize> {
        if from.node.slot().is_none() || to.node.slot().is_none() {
            // The caller reads and writes by itself.
            return Err(OpError::CrossVolume);
        }
        let source = self.file_of(from.node, from.fh)?;
        let target = self.file_of(to.node, to.fh)?;
        let offset = |offset: u64| i64::try_from(offset).map_err(|_| Errno::EFBIG);
        let (mut from_at, mut to_at) = (offset(from.offset)?, offset(to.offset)?);
        let there = node::stat(&source)?.st_size.unsigned_abs();
        let len = len.min(MOST_COPIED).min(there.saturating_sub(from.offset));
        let located = self.locate(to.node)?;
        let sizing = self.sizing(&located, &target)?;
        let (room, allowed_end) = sizing.reserve_up_to(sizing.old().max(to.offset + len));
        let fits = allowed_end.saturating_sub(to.offset).min(len);
        let result = if fits == 0 && len > 0 {
            Err(sizing.over(&room, to.offset + len))
        } else {
            let _as = self.as_writer(caller, sizing.mode())?;
            let fits = usize::try_from(fits).unwrap_or(usize::MAX);
            let ways = ((&source, &mut from_at), (&target, &mut to_at));
            if self.rewrites(&located.volume) {
                // What is shared is held by the one when the other is removed.
                copy_bytes(ways.0, ways.1, fits).map_err(OpError::from)
            } else {
                copy(ways.0, ways.1, fits).map_err(OpError::from)
            }
        };
        failpoint::hit("live.copy.host");
        sizing.settle(Some(room), &target);
        let old = sizing.old();
        drop(sizing);
        if let Ok(copied) = result {
            let inside = old.saturating_sub(to.offset).min(copied as u64);
            self.overwritten(&located, &target, inside);
        }
        result
    }
}

/// Copies up to `len` bytes, as many as one write carries, and shares none.
fn copy_bytes(
    (source, from): (impl AsFd, &mut i64),
    (target, to): (impl AsFd, &mut i64),
    len: usize,
) -> nix::Result<usize> {
    let mut buffer = vec![0; len.min(FIRST_PIECE)];
    let read = nix::sys::uio::pread(source, &mut buffer, *from)?;
    nix::sys::uio::pwrite(target, &buffer[..read], *to)
}

/// Copies up to `len` bytes, as many as can be copied in a short time: all where
/// it is done by reference, of what is read and written about as much as a write
/// carries. Pieces end at multiples of any block, if the range begins at one:
/// otherwise the host could not share what follows.
fn copy(
    (source, from): (impl AsFd, &mut i64),
    (target, to): (impl AsFd, &mut i64),
    len: usize,
) -> nix::Result<usize> {
    let start = Instant::now();
    let (mut copied, mut piece) = (0, FIRST_PIECE);
    loop {
        let (source, target) = (source.as_fd(), target.as_fd());
        let most = piece.min(len - copied);
        match nix::fcntl::copy_file_range(source, Some(from), target, Some(to), most) {
            Ok(more) => {
                copied += more;
                if more < most || copied == len || start.elapsed() >= COPY_TIME {
                    return Ok(copied);
                }
            }
            // The next request will meet it.
            Err(_) if copied > 0 => return Ok(copied),
            Err(errno) => return Err(errno),
        }
        piece = LONGEST_PIECE.min(piece * 2);
    }
}
