//! The descriptor table of a grown image and where its copies go: behind the
//! superblock and its backups, and past `s_first_meta_bg` in the first, second
//! and last of the 64 groups that each block describes.

use std::ops::Range;

use super::super::backups::has_superblock;
use super::super::error::GrowError;
use super::super::geometry::DESCS_PER_BLOCK;
use super::super::group_desc::{DESC_BYTES, GroupDesc};
use super::super::store::{ImageStore, write, write_blocks};
use super::super::superblock::Superblock;
use super::super::units::{BLOCK_BYTES, BLOCK_SIZE, BlockNumber};
use super::super::writer::backup_superblock;
use super::plan::GrowPlan;

/// All descriptors, in whole blocks.
pub(in crate::diskimg) struct DescriptorTable {
    blocks: Vec<u8>,
}

impl DescriptorTable {
    /// The table of these descriptors.
    pub(in crate::diskimg) fn new(descs: &[GroupDesc]) -> Self {
        let mut blocks =
            Vec::with_capacity((descs.len() * DESC_BYTES).next_multiple_of(BLOCK_BYTES));
        for desc in descs {
            blocks.extend_from_slice(desc.as_bytes());
        }
        blocks.resize(blocks.len().next_multiple_of(BLOCK_BYTES), 0);
        DescriptorTable { blocks }
    }

    /// Writes the copies that lie in `groups`, and backups of the superblock;
    /// the primary superblock (group 0) is left to the caller.
    pub(in crate::diskimg) fn write_copies(
        &self,
        store: &mut impl ImageStore,
        plan: &GrowPlan,
        superblock: &Superblock,
        groups: Range<u32>,
    ) -> Result<(), GrowError> {
        let geometry = &plan.geometry;
        let contiguous = geometry.contiguous_desc_blocks() as usize * BLOCK_BYTES;
        for group in groups.filter(|group| geometry.superblock_blocks(*group) > 0) {
            let start = geometry.group_start(group);
            if has_superblock(group) && group != 0 {
                write(
                    store,
                    &backup_superblock(superblock, group),
                    start * BLOCK_SIZE,
                )?;
            }
            let block = BlockNumber(start + u64::from(has_superblock(group)));
            if !geometry.in_meta_bg(group) {
                write_blocks(
                    store,
                    &self.blocks[..contiguous.min(self.blocks.len())],
                    block,
                )?;
            } else if self.changes_block_of(plan, group) && geometry.holds_meta_descs(group) {
                let at = (group / DESCS_PER_BLOCK) as usize * BLOCK_BYTES;
                write_blocks(store, &self.blocks[at..at + BLOCK_BYTES], block)?;
            }
        }
        Ok(())
    }

    /// Whether a descriptor of the group's block is new or was the last.
    fn changes_block_of(&self, plan: &GrowPlan, group: u32) -> bool {
        group / DESCS_PER_BLOCK >= (plan.old.groups_count - 1) / DESCS_PER_BLOCK
    }
}
