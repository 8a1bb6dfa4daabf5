//! How an image is divided: groups, descriptors, inode tables, reserved
//! descriptor blocks, and how much of the end is dropped. Pure arithmetic,
//! with the rules of mke2fs (`ext2fs_initialize` in e2fsprogs), so that no
//! size which mke2fs accepts fails here.

use serde::Serialize;

use super::backups::has_superblock;
use super::error::PlanError;
use super::inode::INODE_BYTES;
use super::options::{InodeDensity, Options};
use super::units::{BLOCK_BYTES, BLOCK_SIZE, MIB};

/// Blocks that one bitmap block can describe; also the most inodes per group.
pub(in crate::diskimg) const BITS_PER_BLOCK: u32 = 8 * BLOCK_BYTES as u32;
/// Inodes in a block of an inode table.
pub(in crate::diskimg) const INODES_PER_BLOCK: u32 = (BLOCK_BYTES / INODE_BYTES) as u32;
/// Group descriptors in a block.
pub(in crate::diskimg) const DESCS_PER_BLOCK: u32 = 64;
/// Block numbers in an indirect block, hence the most reserved descriptor
/// blocks.
pub(in crate::diskimg) const ADDRS_PER_BLOCK: u32 = (BLOCK_BYTES / 4) as u32;
/// Groups whose tables are packed together, as a power of two: mke2fs's 16.
const MIN_LOG_GROUPS_PER_FLEX: u8 = 4;
/// The most, in large images: 1024.
const MAX_LOG_GROUPS_PER_FLEX: u8 = 10;
/// Flex groups that an image should not exceed. Each has bitmaps to write, in
/// a place of its own in the host's file: mke2fs's 512 places in 1 TiB cost as
/// much time as all of this formatter's other work.
const MANY_FLEX_GROUPS: u32 = 64;
/// Descriptor blocks reserved at least, where mke2fs would reserve more: 64
/// blocks are 512 GiB of growth. mke2fs's 1024 are 4 MiB that must be written.
const MIN_RESERVED_GDT_BLOCKS: u32 = 64;
/// Data blocks that a last group must have left, or it is dropped.
const MIN_LAST_GROUP_BLOCKS: u32 = 50;
/// `first_meta_bg` of an image whose descriptors all lie behind the superblock.
pub(in crate::diskimg) const NO_META_BG: u32 = u32::MAX;
/// Inodes below the first usable one, and that one.
const MIN_INODES: u32 = 12;

/// An image's division into groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Geometry {
    pub(in crate::diskimg) blocks_count: u64,
    pub(in crate::diskimg) r_blocks_count: u64,
    pub(in crate::diskimg) blocks_per_group: u32,
    pub(in crate::diskimg) groups_count: u32,
    pub(in crate::diskimg) inodes_per_group: u32,
    pub(in crate::diskimg) inode_blocks_per_group: u32,
    pub(in crate::diskimg) desc_blocks: u32,
    pub(in crate::diskimg) reserved_gdt_blocks: u32,
    pub(in crate::diskimg) resize_inode: bool,
    /// First descriptor block that lies in the groups it describes (`meta_bg`):
    /// [`NO_META_BG`] in new images, which get it when they outgrow the reserve.
    pub(in crate::diskimg) first_meta_bg: u32,
    pub(in crate::diskimg) log_groups_per_flex: u8,
}

impl Geometry {
    /// The division that mke2fs gives an image of these options.
    ///
    /// # Errors
    /// The size does not hold one group with the inodes asked for.
    pub fn new(options: &Options) -> Result<Self, PlanError> {
        let asked = options.size.blocks();
        let asked_reserved = asked * u64::from(options.reserved_basis_points) / 10_000;
        let inodes = inodes_wanted(options.inodes, asked);
        let resize_inode = asked <= u64::from(u32::MAX);

        let mut blocks_per_group = BITS_PER_BLOCK;
        let mut blocks_count = asked;
        let mut r_blocks_count = asked_reserved;
        loop {
            let too_small = |inode_blocks| PlanError::NoRoomForGroup {
                blocks: asked,
                inode_blocks,
            };
            let groups_count = groups_in(blocks_count, blocks_per_group);
            if groups_count == 0 {
                return Err(too_small(0));
            }
            let inodes_per_group = inodes.div_ceil(groups_count);
            if inodes_per_group > BITS_PER_BLOCK {
                // Dropping the tail left too few groups for the inodes: make
                // groups shorter and try again with the whole image.
                if blocks_per_group < 256 {
                    return Err(too_small(inodes_per_group / INODES_PER_BLOCK));
                }
                blocks_per_group -= 8;
                blocks_count = asked;
                continue;
            }
            let inode_blocks_per_group = inode_blocks(inodes_per_group, groups_count);
            let desc_blocks = groups_count.div_ceil(DESCS_PER_BLOCK);
            let reserved_gdt_blocks = match resize_inode {
                true => reserved_gdt_blocks(blocks_count, blocks_per_group, desc_blocks),
                false => 0,
            };
            let geometry = Geometry {
                blocks_count,
                r_blocks_count,
                blocks_per_group,
                groups_count,
                inodes_per_group: inode_blocks_per_group * INODES_PER_BLOCK,
                inode_blocks_per_group,
                desc_blocks,
                reserved_gdt_blocks,
                resize_inode,
                first_meta_bg: NO_META_BG,
                log_groups_per_flex: log_groups_per_flex(groups_count),
            };
            let tail = (blocks_count % u64::from(blocks_per_group)) as u32; // below blocks_per_group
            if geometry.keeps_last_group(tail) {
                return Ok(geometry);
            }
            if groups_count == 1 {
                return Err(too_small(inode_blocks_per_group));
            }
            blocks_count -= u64::from(tail);
            // No overflow: both factors are below 2^34.
            r_blocks_count = asked_reserved * blocks_count / asked;
        }
    }

    /// Whether a last group of `tail` blocks (0: a full one) is worth keeping:
    /// it must hold its own tables, as if nothing were packed elsewhere, and
    /// some data.
    pub(in crate::diskimg) fn keeps_last_group(&self, tail: u32) -> bool {
        let tables = 2 + self.inode_blocks_per_group;
        let overhead = tables + self.superblock_blocks(self.groups_count - 1);
        tail == 0 || tail >= overhead + MIN_LAST_GROUP_BLOCKS
    }

    /// Blocks at the start of the group for a copy of the superblock, the
    /// descriptors and their reserve: 0 if the group has none. Groups whose
    /// descriptors `meta_bg` places have the superblock's copy alone, and the
    /// first two and the last of each 64 their descriptor block.
    pub(in crate::diskimg) fn superblock_blocks(&self, group: u32) -> u32 {
        if self.in_meta_bg(group) {
            u32::from(has_superblock(group)) + u32::from(self.holds_meta_descs(group))
        } else if has_superblock(group) {
            1 + self.contiguous_desc_blocks() + self.reserved_gdt_blocks
        } else {
            0
        }
    }

    /// Whether `meta_bg` places the group's descriptor.
    pub(in crate::diskimg) fn in_meta_bg(&self, group: u32) -> bool {
        group / DESCS_PER_BLOCK >= self.first_meta_bg
    }

    /// Whether the group, if `meta_bg` places its descriptor, has a copy of the
    /// descriptor block: the first two and the last of each 64 groups do.
    pub(in crate::diskimg) fn holds_meta_descs(&self, group: u32) -> bool {
        let index = group % DESCS_PER_BLOCK;
        index <= 1 || index == DESCS_PER_BLOCK - 1
    }

    /// Descriptor blocks that lie behind the superblock and its copies.
    pub(in crate::diskimg) fn contiguous_desc_blocks(&self) -> u32 {
        self.desc_blocks.min(self.first_meta_bg)
    }

    /// The group's first block.
    pub(in crate::diskimg) fn group_start(&self, group: u32) -> u64 {
        u64::from(group) * u64::from(self.blocks_per_group)
    }

    /// The block after the group's last.
    pub(in crate::diskimg) fn group_end(&self, group: u32) -> u64 {
        (self.group_start(group) + u64::from(self.blocks_per_group)).min(self.blocks_count)
    }

    /// The group that a block is in.
    pub(in crate::diskimg) fn group_of(&self, block: u64) -> u32 {
        (block / u64::from(self.blocks_per_group)).min(u64::from(u32::MAX)) as u32
    }

    /// Inodes in all groups: the blocks of inode tables keep the product in 32 bits.
    pub fn inodes_count(&self) -> u32 {
        self.inodes_per_group.saturating_mul(self.groups_count)
    }

    /// Blocks in the file system.
    pub fn blocks_count(&self) -> u64 {
        self.blocks_count
    }

    /// Blocks that only user 0 may fill.
    pub fn reserved_blocks(&self) -> u64 {
        self.r_blocks_count
    }

    /// Block groups.
    pub fn groups_count(&self) -> u32 {
        self.groups_count
    }

    /// Groups whose bitmaps and inode tables lie together (`flex_bg`).
    pub fn groups_per_flex(&self) -> u32 {
        1u32.checked_shl(self.log_groups_per_flex.into())
            .unwrap_or(1 << 31)
    }

    /// Blocks in each group but the last.
    pub fn blocks_per_group(&self) -> u32 {
        self.blocks_per_group
    }

    /// Inodes in each group.
    pub fn inodes_per_group(&self) -> u32 {
        self.inodes_per_group
    }

    /// Blocks kept behind the descriptors so that the image can grow.
    pub fn reserved_gdt_blocks(&self) -> u32 {
        self.reserved_gdt_blocks
    }

    /// The number of blocks up to which the image grows within the descriptor
    /// blocks reserved for it; past that it changes to `meta_bg`.
    pub fn reserved_growth_blocks(&self) -> u64 {
        let groups =
            u64::from(self.desc_blocks + self.reserved_gdt_blocks) * u64::from(DESCS_PER_BLOCK);
        let blocks = groups * u64::from(self.blocks_per_group);
        // The resize inode's block map holds 32-bit numbers.
        if self.resize_inode {
            blocks.min(u32::MAX.into())
        } else {
            blocks
        }
    }
}

/// Groups needed for so many blocks; images are far below 2^32 groups.
pub(in crate::diskimg) fn groups_in(blocks: u64, blocks_per_group: u32) -> u32 {
    blocks
        .div_ceil(u64::from(blocks_per_group))
        .min(u64::from(u32::MAX)) as u32
}

/// The number of inodes that the options ask for.
fn inodes_wanted(density: InodeDensity, blocks: u64) -> u32 {
    let bytes = blocks * BLOCK_SIZE;
    let per = |bytes_per_inode: u64| (bytes / bytes_per_inode).min(u64::from(u32::MAX)) as u32;
    match density {
        InodeDensity::BytesPerInode(n) => per(u64::from(n)),
        InodeDensity::PerGroup(n) => groups_in(blocks, BITS_PER_BLOCK).saturating_mul(n),
        InodeDensity::Auto => per(match bytes / MIB {
            ..512 => 4096,
            512..0x40_0000 => 16384,
            0x40_0000..0x100_0000 => 32768,
            _ => 65536,
        }),
    }
}

/// Blocks of one group's inode table: at least the inodes asked for, whole
/// blocks, fewer if inode numbers would not fit in 32 bits, and more if a tiny
/// image would have none left for files.
fn inode_blocks(inodes_per_group: u32, groups_count: u32) -> u32 {
    let most = (u32::MAX / groups_count) / INODES_PER_BLOCK;
    let least = MIN_INODES.div_ceil(groups_count).div_ceil(INODES_PER_BLOCK);
    inodes_per_group
        .div_ceil(INODES_PER_BLOCK)
        .min(most)
        .max(least)
}

/// mke2fs's 16 groups, more in images that would have many flex groups.
fn log_groups_per_flex(groups_count: u32) -> u8 {
    let groups_per_flex = groups_count.div_ceil(MANY_FLEX_GROUPS).next_power_of_two();
    // The logarithm of a u32 is below 32.
    (groups_per_flex.ilog2() as u8).clamp(MIN_LOG_GROUPS_PER_FLEX, MAX_LOG_GROUPS_PER_FLEX)
}

/// Descriptor blocks to reserve: by mke2fs's rule enough to grow 1024-fold, or
/// to 2^32 blocks, or as many as an indirect block can list; but not more than
/// [`MIN_RESERVED_GDT_BLOCKS`] or, if that is more, than doubling takes.
fn reserved_gdt_blocks(blocks_count: u64, blocks_per_group: u32, desc_blocks: u32) -> u32 {
    let limit = u64::from(u32::MAX);
    let target = if blocks_count < limit / 1024 {
        blocks_count * 1024
    } else {
        limit
    };
    let desc_blocks_then = groups_in(target, blocks_per_group).div_ceil(DESCS_PER_BLOCK);
    let wanted = desc_blocks_then
        .saturating_sub(desc_blocks)
        .min(ADDRS_PER_BLOCK);
    wanted.min(desc_blocks.max(MIN_RESERVED_GDT_BLOCKS))
}
