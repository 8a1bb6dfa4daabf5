//! Space in files: fallocate, lseek, copy_file_range.

use crate::fuse::error::OpResult;
use crate::fuse::fs::FileSystem;
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
        let file = self.file_of(at.node, at.fh)?;
        let _as = self.as_writer(caller);
        Ok(node::fallocate(file, mode, at.offset, len)?)
    }

    /// Finds data or holes (`SEEK_DATA`, `SEEK_HOLE`).
    ///
    /// # Errors
    /// What the host says to `lseek(2)`: ENXIO past the end.
    pub fn lseek(&self, node: NodeId, fh: Fh, offset: i64, whence: i32) -> OpResult<i64> {
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
        let source = self.file_of(from.node, from.fh)?;
        let target = self.file_of(to.node, to.fh)?;
        let _as = self.as_writer(caller);
        let offset = |offset: u64| i64::try_from(offset).map_err(|_| nix::errno::Errno::EFBIG);
        let (mut from_at, mut to_at) = (offset(from.offset)?, offset(to.offset)?);
        let len = usize::try_from(len.min(MOST)).unwrap_or(usize::MAX);
        let copied = nix::fcntl::copy_file_range(
            &source,
            Some(&mut from_at),
            &target,
            Some(&mut to_at),
            len,
        )?;
        Ok(copied)
    }
}
