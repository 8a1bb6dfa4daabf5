//! Extent trees: where a file's blocks are. Builds the root in an inode's
//! `i_block` and, past four extents, one leaf block below it. Knows nothing of
//! who owns the file.

use super::bytes::LeField;
use super::checksum::ChecksumSeed;
use super::units::{BLOCK_BYTES, BlockNumber};

/// `eh_magic`.
const EXT4_EXT_MAGIC: u16 = 0xf30a;
/// Extents that fit in `i_block`.
pub(in crate::diskimg) const ROOT_EXTENTS: usize = 4;
/// Extents that fit in a 4 KiB leaf before its 4-byte checksum.
pub(in crate::diskimg) const LEAF_EXTENTS: usize = 340;
/// Blocks in the longest initialised extent (`ee_len` of 0x8000).
pub(in crate::diskimg) const MAX_EXTENT_BLOCKS: u64 = 0x8000;

/// A run of blocks that continues where the file's previous run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::diskimg) struct Run {
    /// First block of the run.
    pub(in crate::diskimg) start: BlockNumber,
    /// Blocks in the run, from 1 to [`MAX_EXTENT_BLOCKS`].
    pub(in crate::diskimg) blocks: u64,
}

/// Where a file made at format time lies.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(in crate::diskimg) struct FileMap {
    /// The file's blocks in order.
    pub(in crate::diskimg) runs: Vec<Run>,
    /// The leaf block, needed past [`ROOT_EXTENTS`] runs.
    pub(in crate::diskimg) leaf: Option<BlockNumber>,
}

impl FileMap {
    /// Blocks of data.
    pub(in crate::diskimg) fn data_blocks(&self) -> u64 {
        self.runs.iter().map(|run| run.blocks).sum()
    }

    /// Blocks of data and tree.
    pub(in crate::diskimg) fn all_blocks(&self) -> u64 {
        self.data_blocks() + u64::from(self.leaf.is_some())
    }

    /// The file's block numbers in order.
    pub(in crate::diskimg) fn blocks(&self) -> impl Iterator<Item = BlockNumber> + '_ {
        self.runs
            .iter()
            .flat_map(|run| (0..run.blocks).map(|i| BlockNumber(run.start.get() + i)))
    }

    /// `i_block`: the tree's root.
    pub(in crate::diskimg) fn root(&self) -> [u8; 60] {
        let mut i_block = [0u8; 60];
        match self.leaf {
            None => {
                put_header(&mut i_block, self.runs.len(), ROOT_EXTENTS, 0);
                put_extents(&mut i_block, &self.runs);
            }
            Some(leaf) => {
                put_header(&mut i_block, 1, ROOT_EXTENTS, 1);
                // ext4_extent_idx: ei_block 0, then the leaf's low and high half.
                ((leaf.get() & 0xffff_ffff) as u32).put(&mut i_block, 16);
                ((leaf.get() >> 32) as u16).put(&mut i_block, 20);
            }
        }
        i_block
    }

    /// The leaf block's contents, if there is one. `owner` is the owning
    /// inode's seed.
    pub(in crate::diskimg) fn leaf_block(
        &self,
        owner: ChecksumSeed,
    ) -> Option<(BlockNumber, [u8; BLOCK_BYTES])> {
        let leaf = self.leaf?;
        let mut block = [0u8; BLOCK_BYTES];
        put_header(&mut block, self.runs.len(), LEAF_EXTENTS, 0);
        put_extents(&mut block, &self.runs);
        let et_checksum = 12 + LEAF_EXTENTS * 12;
        owner
            .over(&block[..et_checksum])
            .put(&mut block, et_checksum);
        Some((leaf, block))
    }
}

/// `ext4_extent_header`: magic, entries, capacity, depth.
fn put_header(node: &mut [u8], eh_entries: usize, eh_max: usize, eh_depth: u16) {
    EXT4_EXT_MAGIC.put(node, 0);
    (eh_entries as u16).put(node, 2);
    (eh_max as u16).put(node, 4);
    eh_depth.put(node, 6);
}

/// `ext4_extent` records: first file block, length, start high, start low.
fn put_extents(node: &mut [u8], runs: &[Run]) {
    let mut ee_block = 0u64;
    for (index, run) in runs.iter().enumerate() {
        let at = 12 + index * 12;
        ((ee_block & 0xffff_ffff) as u32).put(node, at);
        ((run.blocks & 0xffff) as u16).put(node, at + 4);
        ((run.start.get() >> 32) as u16).put(node, at + 6);
        ((run.start.get() & 0xffff_ffff) as u32).put(node, at + 8);
        ee_block += run.blocks;
    }
}
