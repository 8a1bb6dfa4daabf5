//! Inode 7, the owner of the blocks reserved for group descriptors to come. A
//! double-indirect block lists the reserved blocks behind the primary
//! descriptors; each of those lists its copies in the backup groups. It is
//! fully determined by the geometry, so it is always written whole.

use super::backups::backup_groups;
use super::bytes::LeField;
use super::geometry::{ADDRS_PER_BLOCK, Geometry};
use super::inode::{Inode, MODE_HIDDEN_FILE};
use super::units::{BLOCK_BYTES, BLOCK_SIZE, BlockNumber, Timestamp};

/// Where `i_block` holds the double-indirect block's number: word 13.
const DIND_OFFSET: usize = 13 * 4;
/// The file's size: all that direct, indirect and double-indirect blocks
/// could map.
const RESIZE_INODE_BYTES: u64 = {
    let addrs = ADDRS_PER_BLOCK as u64;
    (addrs * addrs + addrs + 12) * BLOCK_SIZE
};

/// The resize inode's blocks for one geometry.
pub(in crate::diskimg) struct ResizeInode<'a> {
    geometry: &'a Geometry,
    dind: BlockNumber,
    backups: Vec<u32>,
}

impl<'a> ResizeInode<'a> {
    /// `dind` is the double-indirect block.
    pub(in crate::diskimg) fn new(geometry: &'a Geometry, dind: BlockNumber) -> Self {
        ResizeInode {
            geometry,
            dind,
            backups: backup_groups(geometry.groups_count),
        }
    }

    /// The double-indirect block's number in an inode read from an image.
    pub(in crate::diskimg) fn dind_of(inode: &Inode) -> BlockNumber {
        BlockNumber(u32::get(&inode.i_block(), DIND_OFFSET).into())
    }

    /// A new inode.
    pub(in crate::diskimg) fn inode(&self, time: Timestamp) -> Inode {
        let mut inode = Inode::new(MODE_HIDDEN_FILE, 1, time);
        inode.set_size(RESIZE_INODE_BYTES);
        let mut i_block = [0u8; 60];
        (self.dind.get() as u32).put(&mut i_block, DIND_OFFSET); // an image with this inode has fewer than 2^32 blocks
        inode.set_i_block(&i_block);
        inode.set_i_blocks_lo(self.sectors());
        inode
    }

    /// `i_blocks`: 8 sectors for the double-indirect block and for every
    /// reserved block and its copies. At most 1024 times 50 blocks.
    pub(in crate::diskimg) fn sectors(&self) -> u32 {
        let copies = 1 + self.backups.len() as u32;
        8 * (1 + self.geometry.reserved_gdt_blocks * copies)
    }

    /// The double-indirect block. The reserved block that would hold the
    /// descriptors of block `n` of the table is entry `n`, modulo its length.
    pub(in crate::diskimg) fn dind_block(&self) -> (BlockNumber, [u8; BLOCK_BYTES]) {
        let mut block = [0u8; BLOCK_BYTES];
        for index in 0..self.geometry.reserved_gdt_blocks {
            let entry = (self.geometry.desc_blocks + index) % ADDRS_PER_BLOCK;
            self.reserved(index).put(&mut block, entry as usize * 4);
        }
        (self.dind, block)
    }

    /// Each reserved block behind the primary descriptors, listing its copies.
    pub(in crate::diskimg) fn indirect_blocks(
        &self,
    ) -> impl Iterator<Item = (BlockNumber, [u8; BLOCK_BYTES])> + '_ {
        (0..self.geometry.reserved_gdt_blocks).map(|index| {
            let reserved = self.reserved(index);
            let mut block = [0u8; BLOCK_BYTES];
            for (at, group) in self.backups.iter().enumerate() {
                // Below 2^32: the image has fewer blocks than that.
                let copy = u64::from(reserved) + self.geometry.group_start(*group);
                (copy as u32).put(&mut block, at * 4);
            }
            (BlockNumber(reserved.into()), block)
        })
    }

    /// The primary table is one block behind the superblock's.
    fn reserved(&self, index: u32) -> u32 {
        1 + self.geometry.desc_blocks + index
    }
}
