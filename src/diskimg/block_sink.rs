//! Joins writes of neighbouring blocks into one. The host pays for every
//! write and for every separate run of blocks, far more than for their bytes.

use super::error::AccessError;
use super::store::{ImageStore, write_blocks};
use super::units::{BLOCK_SIZE, BlockNumber};

/// Bytes held back at most.
const MAX_PENDING_BYTES: usize = 256 << 10;

/// Whole blocks on their way to a store. Order is kept; what is pending when
/// it is dropped is lost, so end with [`Self::flush`].
pub(in crate::diskimg) struct BlockSink<'s, S> {
    store: &'s mut S,
    start: BlockNumber,
    pending: Vec<u8>,
}

impl<'s, S: ImageStore> BlockSink<'s, S> {
    /// A sink with nothing pending.
    pub(in crate::diskimg) fn new(store: &'s mut S) -> Self {
        BlockSink {
            store,
            start: BlockNumber(0),
            pending: Vec::new(),
        }
    }

    /// Writes whole blocks, now or with their neighbours.
    pub(in crate::diskimg) fn put(
        &mut self,
        block: BlockNumber,
        contents: &[u8],
    ) -> Result<(), AccessError> {
        debug_assert!(
            (contents.len() as u64).is_multiple_of(BLOCK_SIZE),
            "whole blocks only"
        );
        let end = self.start.offset() + self.pending.len() as u64;
        let adjoins =
            end == block.offset() && self.pending.len() + contents.len() <= MAX_PENDING_BYTES;
        if !adjoins {
            self.flush()?;
            self.start = block;
        }
        self.pending.extend_from_slice(contents);
        Ok(())
    }

    /// Hands everything pending to the store.
    pub(in crate::diskimg) fn flush(&mut self) -> Result<(), AccessError> {
        if !self.pending.is_empty() {
            write_blocks(self.store, &self.pending, self.start)?;
            self.pending.clear();
        }
        Ok(())
    }
}
