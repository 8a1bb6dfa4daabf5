//! The pure part of growing: the new division into groups, and where the new
//! groups' tables go.

use super::super::error::GrowError;
use super::super::features::Feature;
use super::super::geometry::{DESCS_PER_BLOCK, Geometry, INODES_PER_BLOCK, NO_META_BG, groups_in};
use super::super::header::Header;
use super::super::space::Space;
use super::super::tables::{GroupTables, place_tables};
use super::super::units::{BLOCK_SIZE, ImageSize};

/// An image's division before and after.
pub(in crate::diskimg) struct GrowPlan {
    /// As it is.
    pub(in crate::diskimg) old: Geometry,
    /// As it will be.
    pub(in crate::diskimg) geometry: Geometry,
    /// The tables of the groups from `old.groups_count` on.
    pub(in crate::diskimg) tables: Vec<GroupTables>,
    /// The blocks taken in those groups; everything before counts as taken.
    pub(in crate::diskimg) space: Space,
    /// The file's new length in bytes.
    pub(in crate::diskimg) asked_bytes: u64,
}

impl GrowPlan {
    /// Plans to grow an image, which [`super::check_usable`] has admitted.
    pub(in crate::diskimg) fn new(header: &Header, size: ImageSize) -> Result<Self, GrowError> {
        let old = geometry_of(header);
        let asked = size.blocks();
        if asked < old.blocks_count {
            return Err(GrowError::Shrink {
                wanted: size.bytes(),
                now: header.bytes(),
            });
        }
        let most = max_blocks(&old);
        if asked > most {
            let most = most.saturating_mul(BLOCK_SIZE);
            return Err(GrowError::TooManyInodes {
                wanted: size.bytes(),
                most,
            });
        }
        let mut geometry = resized(&old, asked);
        let tail = (asked % u64::from(old.blocks_per_group)) as u32; // below blocks_per_group
        if geometry.groups_count > old.groups_count && !geometry.keeps_last_group(tail) {
            geometry = resized(&old, asked - u64::from(tail));
        }

        let mut space = Space::new(geometry.blocks_count);
        space.take(
            0..geometry
                .group_start(old.groups_count)
                .min(geometry.blocks_count),
        );
        for group in old.groups_count..geometry.groups_count {
            let start = geometry.group_start(group);
            space.take(start..start + u64::from(geometry.superblock_blocks(group)));
        }
        let new_groups = old.groups_count..geometry.groups_count;
        let tables = place_tables(&geometry, new_groups, &mut space)?;
        Ok(GrowPlan {
            old,
            geometry,
            tables,
            space,
            asked_bytes: size.bytes(),
        })
    }

    /// Whether the image changes to `meta_bg` and gives its resize inode up.
    pub(in crate::diskimg) fn drops_resize_inode(&self) -> bool {
        self.old.resize_inode && !self.geometry.resize_inode
    }

    /// Blocks that the new groups' tables take.
    pub(in crate::diskimg) fn added_overhead(&self) -> u64 {
        let start = self.geometry.group_start(self.old.groups_count);
        self.space
            .count_taken(start..self.geometry.blocks_count.max(start))
    }
}

/// The division that a superblock describes.
fn geometry_of(header: &Header) -> Geometry {
    let sb = &header.superblock;
    Geometry {
        blocks_count: header.blocks_count,
        r_blocks_count: sb.r_blocks_count(),
        blocks_per_group: sb.s_blocks_per_group(),
        groups_count: header.groups_count,
        inodes_per_group: sb.s_inodes_per_group(),
        inode_blocks_per_group: sb.s_inodes_per_group().div_ceil(INODES_PER_BLOCK),
        desc_blocks: header.desc_blocks(),
        reserved_gdt_blocks: u32::from(sb.s_reserved_gdt_blocks()),
        resize_inode: header.features.has(Feature::ResizeInode),
        first_meta_bg: match header.features.has(Feature::MetaBg) {
            true => sb.s_first_meta_bg(),
            false => NO_META_BG,
        },
        log_groups_per_flex: match header.features.has(Feature::FlexBg) {
            true => sb.s_log_groups_per_flex(), // at most 31: checked
            false => 0,
        },
    }
}

/// The same kind of division with another number of blocks: descriptor blocks
/// come out of the reserve, so that everything behind them stays where it is.
/// Past the reserve, the image changes to `meta_bg`: all that was reserved
/// holds descriptors, and the resize inode has nothing left to own.
fn resized(old: &Geometry, blocks_count: u64) -> Geometry {
    let groups_count = groups_in(blocks_count, old.blocks_per_group);
    let desc_blocks = groups_count.div_ceil(DESCS_PER_BLOCK);
    let reserved_share =
        u128::from(old.r_blocks_count) * u128::from(blocks_count) / u128::from(old.blocks_count);
    let grown = Geometry {
        blocks_count,
        // At most blocks_count, since the old share is at most the old count.
        r_blocks_count: reserved_share.min(u128::from(blocks_count)) as u64,
        groups_count,
        desc_blocks,
        ..*old
    };
    let contiguous = old.desc_blocks + old.reserved_gdt_blocks;
    if old.first_meta_bg != NO_META_BG {
        grown
    } else if blocks_count <= old.reserved_growth_blocks() {
        Geometry {
            reserved_gdt_blocks: contiguous.saturating_sub(desc_blocks),
            ..grown
        }
    } else {
        Geometry {
            first_meta_bg: contiguous.min(desc_blocks),
            reserved_gdt_blocks: 0,
            resize_inode: false,
            ..grown
        }
    }
}

/// The most blocks: as far as inode numbers fit in 32 bits.
fn max_blocks(old: &Geometry) -> u64 {
    let groups = u64::from(u32::MAX / old.inodes_per_group.max(1));
    groups * u64::from(old.blocks_per_group)
}
