//! The journal: how large it is, and the jbd2 superblock (version 2, checksums
//! of version 3, big-endian) at its start. An empty log needs nothing more:
//! `s_start` is 0.

use super::bytes::{put_be32, put_bytes};
use super::checksum::crc32c;
use super::units::BLOCK_BYTES;

/// The smallest log that jbd2 accepts, in blocks.
pub(in crate::diskimg) const MIN_JOURNAL_BLOCKS: u64 = 1024;
/// The largest log that mke2fs makes, in blocks.
pub(in crate::diskimg) const MAX_JOURNAL_BLOCKS: u64 = 10_240_000;

/// Blocks in the journal of a file system of `blocks_count` blocks of 4 KiB:
/// mke2fs's scale, from 4 MiB to 1 GiB.
pub(in crate::diskimg) const fn default_journal_blocks(blocks_count: u64) -> u64 {
    const K: u64 = 1024;
    match blocks_count {
        ..0x800 => 0,
        0x800..0x8000 => K,
        0x8000..0x4_0000 => 4 * K,
        0x4_0000..0x8_0000 => 8 * K,
        0x8_0000..0x40_0000 => 16 * K,
        0x40_0000..0x80_0000 => 32 * K,
        0x80_0000..0x100_0000 => 64 * K,
        0x100_0000..0x200_0000 => 128 * K,
        _ => 256 * K,
    }
}

/// The block at the start of the journal. `maxlen` is its length in blocks.
pub(in crate::diskimg) fn journal_superblock(maxlen: u32, uuid: &[u8; 16]) -> [u8; BLOCK_BYTES] {
    let mut block = [0u8; BLOCK_BYTES];
    put_be32(&mut block, 0x00, 0xc03b_3998); // h_magic
    put_be32(&mut block, 0x04, 4); // h_blocktype: superblock, version 2
    put_be32(&mut block, 0x0c, BLOCK_BYTES as u32); // s_blocksize
    put_be32(&mut block, 0x10, maxlen); // s_maxlen
    put_be32(&mut block, 0x14, 1); // s_first
    put_be32(&mut block, 0x18, 1); // s_sequence
    put_be32(&mut block, 0x28, 0x02 | 0x10); // s_feature_incompat: 64bit, csum_v3
    put_bytes(&mut block, 0x30, uuid); // s_uuid
    put_be32(&mut block, 0x40, 1); // s_nr_users
    block[0x50] = 4; // s_checksum_type: crc32c
    let s_checksum = crc32c(u32::MAX, &block[..1024]); // its own field is still zero
    put_be32(&mut block, 0xfc, s_checksum);
    block
}
