//! Where each group's block bitmap, inode bitmap and inode table lie: those of
//! 16 groups packed together (`flex_bg`), as mke2fs packs them. Serves new
//! images and the new groups of a grown one.

use std::ops::Range;

use super::error::PlanError;
use super::geometry::Geometry;
use super::space::Space;

/// Where one group's tables are, in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::diskimg) struct GroupTables {
    /// The block bitmap.
    pub(in crate::diskimg) block_bitmap: u64,
    /// The inode bitmap.
    pub(in crate::diskimg) inode_bitmap: u64,
    /// The first block of the inode table.
    pub(in crate::diskimg) inode_table: u64,
}

/// Places the tables of `groups`, each flex group's at the start of the first
/// of its groups that is among them, around what is taken.
pub(in crate::diskimg) fn place_tables(
    geometry: &Geometry,
    groups: Range<u32>,
    space: &mut Space,
) -> Result<Vec<GroupTables>, PlanError> {
    let groups_per_flex = geometry.groups_per_flex();
    let mut placed = Vec::with_capacity(groups.len());
    let mut first = groups.start;
    while first < groups.end {
        let next_flex = (first / groups_per_flex + 1).saturating_mul(groups_per_flex);
        let end = next_flex.min(groups.end);
        placed.extend(place_flex(geometry, first..end, space)?);
        first = end;
    }
    Ok(placed)
}

fn place_flex(
    geometry: &Geometry,
    groups: Range<u32>,
    space: &mut Space,
) -> Result<Vec<GroupTables>, PlanError> {
    let start = geometry.group_start(groups.start);
    let table_blocks = u64::from(geometry.inode_blocks_per_group);
    let block_bitmaps = space.allocate_row("a block bitmap", start, 1, groups.len())?;
    let behind = block_bitmaps.last().map_or(start, |block| block + 1);
    let inode_bitmaps = space.allocate_row("an inode bitmap", behind, 1, groups.len())?;
    let behind = inode_bitmaps.last().map_or(start, |block| block + 1);
    let inode_tables = space.allocate_row("an inode table", behind, table_blocks, groups.len())?;
    let rows = block_bitmaps
        .into_iter()
        .zip(inode_bitmaps)
        .zip(inode_tables);
    Ok(rows
        .map(|((block_bitmap, inode_bitmap), inode_table)| GroupTables {
            block_bitmap,
            inode_bitmap,
            inode_table,
        })
        .collect())
}
