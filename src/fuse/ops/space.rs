//! Space in files: fallocate, lseek, copy_file_range.

use nix::errno::Errno;

use crate::failpoint;
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::FileSystem;
use crate::fuse::image_file;
use crate::fuse::node::NodeId;
use crate::fuse::types::{Caller, Fh};
use crate::sys::node;

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
            if allocates && end > sizing.old() && located.volume.limits().bytes.is_some() {
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
        let file = self.file_of(node, fh)?;
        Ok(node::seek(file, offset, whence)?)
    }

    /// Copies a range on the host, by reference where the host can; returns
    /// how many bytes.
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
        /// The most that one reply can say was copied, page-aligned.
        const MOST: u64 = 1 << 30;
        if from.node.slot().is_none() || to.node.slot().is_none() {
            // The caller reads and writes by itself.
            return Err(OpError::CrossVolume);
        }
        let source = self.file_of(from.node, from.fh)?;
        let target = self.file_of(to.node, to.fh)?;
        let offset = |offset: u64| i64::try_from(offset).map_err(|_| Errno::EFBIG);
        let (mut from_at, mut to_at) = (offset(from.offset)?, offset(to.offset)?);
        let there = node::stat(&source)?.st_size.unsigned_abs();
        let len = len.min(MOST).min(there.saturating_sub(from.offset));
        let located = self.locate(to.node)?;
        let sizing = self.sizing(&located, &target)?;
        let (room, allowed_end) = sizing.reserve_up_to(sizing.old().max(to.offset + len));
        let fits = allowed_end.saturating_sub(to.offset).min(len);
        let result = if fits == 0 && len > 0 {
            Err(Errno::ENOSPC)
        } else {
            let _as = self.as_writer(caller, sizing.mode())?;
            let fits = usize::try_from(fits).unwrap_or(usize::MAX);
            nix::fcntl::copy_file_range(
                &source,
                Some(&mut from_at),
                &target,
                Some(&mut to_at),
                fits,
            )
        };
        failpoint::hit("live.copy.host");
        sizing.settle(Some(room), &target);
        Ok(result?)
    }
}
