//! The descriptor and bitmaps of a group that holds nothing but what the
//! planner put there. Serves new images and the new groups of a grown one.

use super::bitmap::Bitmap;
use super::checksum::ChecksumSeed;
use super::geometry::Geometry;
use super::group_desc::{BG_BLOCK_UNINIT, BG_INODE_UNINIT, BG_INODE_ZEROED, GroupDesc};
use super::space::Space;
use super::tables::GroupTables;

/// What a group's first inodes are used for.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::diskimg) struct UsedInodes {
    /// Inodes in use, from the group's first on.
    pub(in crate::diskimg) count: u32,
    /// How many of them are directories.
    pub(in crate::diskimg) directories: u32,
}

/// A group's descriptor and those of its bitmaps that must be written.
pub(in crate::diskimg) struct Described {
    pub(in crate::diskimg) desc: GroupDesc,
    pub(in crate::diskimg) block_bitmap: Option<Bitmap>,
    pub(in crate::diskimg) inode_bitmap: Option<Bitmap>,
}

/// Describes a group. Its inode table reads as zeros: it lies in a hole.
///
/// A bitmap that says nothing the kernel could not compute (at most a copy of
/// the superblock and descriptors) is left out and marked uninitialised; the last group's block bitmap never is, because its
/// padding must be on disk.
pub(in crate::diskimg) fn describe_group(
    geometry: &Geometry,
    space: &Space,
    tables: GroupTables,
    group: u32,
    used: UsedInodes,
    seed: ChecksumSeed,
) -> Described {
    let (start, end) = (geometry.group_start(group), geometry.group_end(group));
    let blocks = (end - start) as u32; // at most blocks_per_group
    let mut desc = GroupDesc::zeroed();
    desc.set_tables(tables.block_bitmap, tables.inode_bitmap, tables.inode_table);
    desc.set_free_inodes(geometry.inodes_per_group - used.count);
    desc.set_itable_unused(geometry.inodes_per_group - used.count);
    desc.set_bg_used_dirs_count_lo(used.directories as u16); // at most 2

    let mut flags = BG_INODE_ZEROED;
    let taken = space.count_taken(start..end) as u32; // at most `blocks`
    desc.set_free_blocks(blocks - taken);
    let block_bitmap =
        if taken == geometry.superblock_blocks(group) && group + 1 != geometry.groups_count {
            flags |= BG_BLOCK_UNINIT;
            None
        } else {
            let mut bitmap = Bitmap::free_until(blocks);
            for run in space.taken_in(start..end) {
                bitmap.set((run.start - start) as u32, (run.end - start) as u32);
            }
            desc.set_block_bitmap_checksum(seed.over(bitmap.summed(geometry.blocks_per_group)));
            Some(bitmap)
        };
    let inode_bitmap = if used.count == 0 {
        flags |= BG_INODE_UNINIT;
        None
    } else {
        let mut bitmap = Bitmap::free_until(geometry.inodes_per_group);
        bitmap.set(0, used.count);
        desc.set_inode_bitmap_checksum(seed.over(bitmap.summed(geometry.inodes_per_group)));
        Some(bitmap)
    };
    desc.set_bg_flags(flags);
    desc.seal(seed, group);
    Described {
        desc,
        block_bitmap,
        inode_bitmap,
    }
}
