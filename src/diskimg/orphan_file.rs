//! The orphan file: blocks in which the kernel notes inodes to delete after a
//! crash. Empty ones here: a magic number and a checksum at each block's end.

use super::bytes::LeField;
use super::checksum::{ChecksumSeed, crc32c};
use super::units::{BLOCK_BYTES, BlockNumber};

/// `ob_magic`.
const ORPHAN_BLOCK_MAGIC: u32 = 0x0b10_ca04;
/// Where `ext4_orphan_block_tail` starts; inode numbers fill the bytes before.
const TAIL_OFFSET: usize = BLOCK_BYTES - 8;

/// Blocks in the orphan file: mke2fs's scale, 32 to 512.
pub(in crate::diskimg) const fn default_orphan_blocks(blocks_count: u64) -> u64 {
    match blocks_count {
        ..0x2_0000 => 32,
        0x2_0000..0x20_0000 => blocks_count / 4096,
        _ => 512,
    }
}

/// An empty block at `block`. `owner` is the orphan file inode's seed.
pub(in crate::diskimg) fn orphan_block(
    block: BlockNumber,
    owner: ChecksumSeed,
) -> [u8; BLOCK_BYTES] {
    let mut raw = [0u8; BLOCK_BYTES];
    ORPHAN_BLOCK_MAGIC.put(&mut raw, TAIL_OFFSET);
    let crc = owner.over(&block.get().to_le_bytes());
    let ob_checksum = crc32c(crc, &raw[..TAIL_OFFSET]);
    ob_checksum.put(&mut raw, TAIL_OFFSET + 4);
    raw
}
