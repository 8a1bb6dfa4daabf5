//! A group descriptor: where a group's bitmaps and inode table are, and what
//! is free. 64 bytes with `64bit`, else the first 32 of them. Knows one
//! descriptor, not where it lies.

use super::bytes::le_fields;
use super::checksum::{ChecksumSeed, crc16, crc32c};

/// Size of a descriptor with `64bit`, in bytes.
pub(in crate::diskimg) const DESC_BYTES: usize = 64;
/// `bg_flags`: the inode bitmap and table are not initialised.
pub(in crate::diskimg) const BG_INODE_UNINIT: u16 = 1;
/// `bg_flags`: the block bitmap is not initialised.
pub(in crate::diskimg) const BG_BLOCK_UNINIT: u16 = 2;
/// `bg_flags`: the inode table reads as zeros.
pub(in crate::diskimg) const BG_INODE_ZEROED: u16 = 4;
/// Where `bg_checksum` is.
const CHECKSUM_OFFSET: usize = 0x1e;

/// A descriptor as it is on disk; the upper half is zero if it has 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::diskimg) struct GroupDesc {
    raw: [u8; DESC_BYTES],
}

le_fields!(GroupDesc {
    /// Block of the block bitmap, low half.
    0x00 bg_block_bitmap_lo set_bg_block_bitmap_lo u32;
    /// Block of the inode bitmap, low half.
    0x04 bg_inode_bitmap_lo set_bg_inode_bitmap_lo u32;
    /// First block of the inode table, low half.
    0x08 bg_inode_table_lo set_bg_inode_table_lo u32;
    /// Free blocks, low half.
    0x0c bg_free_blocks_count_lo set_bg_free_blocks_count_lo u16;
    /// Free inodes, low half.
    0x0e bg_free_inodes_count_lo set_bg_free_inodes_count_lo u16;
    /// Directories, low half.
    0x10 bg_used_dirs_count_lo set_bg_used_dirs_count_lo u16;
    /// `BG_*`.
    0x12 bg_flags set_bg_flags u16;
    /// crc32c of the block bitmap, low half.
    0x18 bg_block_bitmap_csum_lo set_bg_block_bitmap_csum_lo u16;
    /// crc32c of the inode bitmap, low half.
    0x1a bg_inode_bitmap_csum_lo set_bg_inode_bitmap_csum_lo u16;
    /// Inodes at the end of the table that were never used, low half.
    0x1c bg_itable_unused_lo set_bg_itable_unused_lo u16;
    /// crc32c, cut to 16 bits, of the group's number and this descriptor.
    0x1e bg_checksum set_bg_checksum u16;
    /// Block of the block bitmap, high half.
    0x20 bg_block_bitmap_hi set_bg_block_bitmap_hi u32;
    /// Block of the inode bitmap, high half.
    0x24 bg_inode_bitmap_hi set_bg_inode_bitmap_hi u32;
    /// First block of the inode table, high half.
    0x28 bg_inode_table_hi set_bg_inode_table_hi u32;
    /// Free blocks, high half.
    0x2c bg_free_blocks_count_hi set_bg_free_blocks_count_hi u16;
    /// Free inodes, high half.
    0x2e bg_free_inodes_count_hi set_bg_free_inodes_count_hi u16;
    /// Directories, high half.
    0x30 bg_used_dirs_count_hi set_bg_used_dirs_count_hi u16;
    /// Unused inodes, high half.
    0x32 bg_itable_unused_hi set_bg_itable_unused_hi u16;
    /// crc32c of the block bitmap, high half.
    0x38 bg_block_bitmap_csum_hi set_bg_block_bitmap_csum_hi u16;
    /// crc32c of the inode bitmap, high half.
    0x3a bg_inode_bitmap_csum_hi set_bg_inode_bitmap_csum_hi u16;
});

impl GroupDesc {
    /// An empty descriptor.
    pub(in crate::diskimg) const fn zeroed() -> Self {
        GroupDesc {
            raw: [0; DESC_BYTES],
        }
    }

    /// A descriptor as read from an image: 32 bytes or more.
    pub(in crate::diskimg) fn from_bytes(bytes: &[u8]) -> Self {
        let mut raw = [0; DESC_BYTES];
        let length = bytes.len().min(DESC_BYTES);
        raw[..length].copy_from_slice(&bytes[..length]);
        GroupDesc { raw }
    }

    /// The 64 bytes.
    pub(in crate::diskimg) const fn as_bytes(&self) -> &[u8; DESC_BYTES] {
        &self.raw
    }

    /// Block of the block bitmap.
    pub(in crate::diskimg) fn block_bitmap(&self) -> u64 {
        wide(self.bg_block_bitmap_lo(), self.bg_block_bitmap_hi())
    }

    /// Block of the inode bitmap.
    pub(in crate::diskimg) fn inode_bitmap(&self) -> u64 {
        wide(self.bg_inode_bitmap_lo(), self.bg_inode_bitmap_hi())
    }

    /// First block of the inode table.
    pub(in crate::diskimg) fn inode_table(&self) -> u64 {
        wide(self.bg_inode_table_lo(), self.bg_inode_table_hi())
    }

    /// Stores where the three tables are.
    pub(in crate::diskimg) fn set_tables(
        &mut self,
        block_bitmap: u64,
        inode_bitmap: u64,
        inode_table: u64,
    ) {
        let halves = |block: u64| ((block & 0xffff_ffff) as u32, (block >> 32) as u32);
        let (low, high) = halves(block_bitmap);
        self.set_bg_block_bitmap_lo(low);
        self.set_bg_block_bitmap_hi(high);
        let (low, high) = halves(inode_bitmap);
        self.set_bg_inode_bitmap_lo(low);
        self.set_bg_inode_bitmap_hi(high);
        let (low, high) = halves(inode_table);
        self.set_bg_inode_table_lo(low);
        self.set_bg_inode_table_hi(high);
    }

    /// Free blocks.
    pub(in crate::diskimg) fn free_blocks(&self) -> u32 {
        wide16(
            self.bg_free_blocks_count_lo(),
            self.bg_free_blocks_count_hi(),
        )
    }

    /// Stores the number of free blocks.
    pub(in crate::diskimg) fn set_free_blocks(&mut self, blocks: u32) {
        self.set_bg_free_blocks_count_lo((blocks & 0xffff) as u16);
        self.set_bg_free_blocks_count_hi((blocks >> 16) as u16);
    }

    /// Free inodes.
    pub(in crate::diskimg) fn free_inodes(&self) -> u32 {
        wide16(
            self.bg_free_inodes_count_lo(),
            self.bg_free_inodes_count_hi(),
        )
    }

    /// Stores the number of free inodes.
    pub(in crate::diskimg) fn set_free_inodes(&mut self, inodes: u32) {
        self.set_bg_free_inodes_count_lo((inodes & 0xffff) as u16);
        self.set_bg_free_inodes_count_hi((inodes >> 16) as u16);
    }

    /// Stores how many inodes at the table's end were never used.
    pub(in crate::diskimg) fn set_itable_unused(&mut self, inodes: u32) {
        self.set_bg_itable_unused_lo((inodes & 0xffff) as u16);
        self.set_bg_itable_unused_hi((inodes >> 16) as u16);
    }

    /// Checksum of the block bitmap.
    pub(in crate::diskimg) fn block_bitmap_checksum(&self) -> u32 {
        wide16(
            self.bg_block_bitmap_csum_lo(),
            self.bg_block_bitmap_csum_hi(),
        )
    }

    /// Stores the checksum of the block bitmap.
    pub(in crate::diskimg) fn set_block_bitmap_checksum(&mut self, checksum: u32) {
        self.set_bg_block_bitmap_csum_lo((checksum & 0xffff) as u16);
        self.set_bg_block_bitmap_csum_hi((checksum >> 16) as u16);
    }

    /// Stores the checksum of the inode bitmap.
    pub(in crate::diskimg) fn set_inode_bitmap_checksum(&mut self, checksum: u32) {
        self.set_bg_inode_bitmap_csum_lo((checksum & 0xffff) as u16);
        self.set_bg_inode_bitmap_csum_hi((checksum >> 16) as u16);
    }

    /// What `bg_checksum` should be with `metadata_csum`: crc32c, cut to 16
    /// bits, with the checksum's own field taken as zero.
    pub(in crate::diskimg) fn computed_checksum(
        &self,
        seed: ChecksumSeed,
        group: u32,
        size: usize,
    ) -> u16 {
        let mut copy = *self;
        copy.set_bg_checksum(0);
        let crc = seed.over(&group.to_le_bytes());
        (crc32c(crc, &copy.raw[..size.min(DESC_BYTES)]) & 0xffff) as u16
    }

    /// What `bg_checksum` should be with `uninit_bg`: crc16 of the UUID, the
    /// group's number and the descriptor without this field.
    pub(in crate::diskimg) fn computed_crc16(
        &self,
        uuid: &[u8; 16],
        group: u32,
        size: usize,
    ) -> u16 {
        let crc = crc16(crc16(u16::MAX, uuid), &group.to_le_bytes());
        let crc = crc16(crc, &self.raw[..CHECKSUM_OFFSET]);
        crc16(
            crc,
            &self.raw[CHECKSUM_OFFSET + 2..size.clamp(CHECKSUM_OFFSET + 2, DESC_BYTES)],
        )
    }

    /// Brings `bg_checksum` up to date.
    pub(in crate::diskimg) fn seal(&mut self, seed: ChecksumSeed, group: u32) {
        self.set_bg_checksum(self.computed_checksum(seed, group, DESC_BYTES));
    }
}

fn wide(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn wide16(low: u16, high: u16) -> u32 {
    u32::from(high) << 16 | u32::from(low)
}
