//! The one or two old groups whose block bitmap growing changes: a last group
//! that was shorter than the others gets the blocks that it lacked, and the
//! group of a resize inode that is given up gets its block back.

use super::super::bitmap::Bitmap;
use super::super::checksum::ChecksumSeed;
use super::super::error::GrowError;
use super::super::geometry::Geometry;
use super::super::group_desc::{BG_BLOCK_UNINIT, GroupDesc};
use super::super::store::{ImageStore, read_block};
use super::super::units::{BlockNumber, GroupNumber};
use super::plan::GrowPlan;

/// An old group as it will be.
pub(in crate::diskimg) struct ChangedGroup {
    pub(in crate::diskimg) desc: GroupDesc,
    pub(in crate::diskimg) bitmap: Bitmap,
}

impl ChangedGroup {
    /// A group with its new blocks, and `freed`, free; or nothing if it stays
    /// as it is.
    pub(in crate::diskimg) fn new(
        store: &impl ImageStore,
        plan: &GrowPlan,
        group: u32,
        desc: &GroupDesc,
        freed: Option<BlockNumber>,
        seed: ChecksumSeed,
    ) -> Result<Option<Self>, GrowError> {
        let length =
            |geometry: &Geometry| (geometry.group_end(group) - geometry.group_start(group)) as u32;
        let (old, new) = (length(&plan.old), length(&plan.geometry));
        let freed = freed
            .and_then(|block| block.get().checked_sub(plan.old.group_start(group)))
            .filter(|bit| *bit < u64::from(old))
            .map(|bit| bit as u32); // below `old`
        if old == new && freed.is_none() {
            return Ok(None);
        }
        let mut desc = *desc;
        let mut bitmap = match desc.bg_flags() & BG_BLOCK_UNINIT {
            0 => read_bitmap(store, plan, group, &desc, (old, new, freed), seed)?,
            _ => initial_bitmap(plan, group, &desc, old),
        };
        bitmap.set(old, Bitmap::BITS); // an interrupted attempt may have freed some
        bitmap.clear(old, new);
        if let Some(bit) = freed {
            bitmap.clear(bit, bit + 1);
        }
        desc.set_bg_flags(desc.bg_flags() & !BG_BLOCK_UNINIT);
        desc.set_free_blocks(bitmap.count_free(new));
        desc.set_block_bitmap_checksum(seed.over(bitmap.summed(plan.old.blocks_per_group)));
        desc.seal(seed, group);
        Ok(Some(ChangedGroup { desc, bitmap }))
    }
}

/// Reads the bitmap and verifies it. An attempt that was interrupted between
/// bitmap and descriptor, whichever came first to the disk, leaves a checksum
/// of the bitmap as it was, or as it will be: bits past the old end and the
/// freed one used, or free. Any of the three forms is right.
fn read_bitmap(
    store: &impl ImageStore,
    plan: &GrowPlan,
    group: u32,
    desc: &GroupDesc,
    (old, new, freed): (u32, u32, Option<u32>),
    seed: ChecksumSeed,
) -> Result<Bitmap, GrowError> {
    let block = BlockNumber(desc.block_bitmap());
    let damaged = GrowError::Damaged {
        what: "block bitmap",
        group: GroupNumber(group),
        block,
    };
    if block.get() == 0 || block.get() >= plan.old.blocks_count {
        return Err(damaged);
    }
    let bitmap = Bitmap::from_bytes(read_block(store, block)?);
    let mut before = bitmap.clone();
    before.set(old, Bitmap::BITS);
    if let Some(bit) = freed {
        before.set(bit, bit + 1);
    }
    let matches = |bitmap: &Bitmap| {
        seed.over(bitmap.summed(plan.old.blocks_per_group)) == desc.block_bitmap_checksum()
    };
    let mut after = before.clone();
    after.clear(old, new);
    if let Some(bit) = freed {
        after.clear(bit, bit + 1);
    }
    if matches(&bitmap) || matches(&before) || matches(&after) {
        Ok(bitmap)
    } else {
        Err(damaged)
    }
}

/// What the kernel takes an uninitialised bitmap to say: the superblock's
/// copy, and those of the group's own tables that lie in the group.
fn initial_bitmap(plan: &GrowPlan, group: u32, desc: &GroupDesc, old: u32) -> Bitmap {
    let start = plan.old.group_start(group);
    let mut bitmap = Bitmap::free_until(old);
    bitmap.set(0, plan.old.superblock_blocks(group));
    let table_blocks = u64::from(plan.old.inode_blocks_per_group);
    for (block, blocks) in [
        (desc.block_bitmap(), 1),
        (desc.inode_bitmap(), 1),
        (desc.inode_table(), table_blocks),
    ] {
        if let Some(at) = block.checked_sub(start)
            && at < u64::from(old)
        {
            let end = at.saturating_add(blocks).min(old.into());
            bitmap.set(at as u32, end as u32); // both at most `old`
        }
    }
    bitmap
}
