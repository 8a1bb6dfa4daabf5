//! Directory blocks: linear entries, then the checksum tail that
//! `metadata_csum` puts in the last 12 bytes. Knows no tree of directories.

use super::bytes::{LeField, put_bytes};
use super::checksum::ChecksumSeed;
use super::units::{BLOCK_BYTES, InodeNumber};

/// `file_type` of a directory.
const FT_DIR: u8 = 2;
/// `det_reserved_ft`: the value that marks the tail.
const FT_DIR_CSUM: u8 = 0xde;
/// Where the tail starts; entries fill the bytes before it.
const TAIL_OFFSET: usize = BLOCK_BYTES - 12;

/// A block holding these subdirectory entries (none: one empty entry that
/// spans the block). `owner` is the directory inode's seed.
pub(in crate::diskimg) fn directory_block(
    entries: &[(&str, InodeNumber)],
    owner: ChecksumSeed,
) -> [u8; BLOCK_BYTES] {
    let mut block = [0u8; BLOCK_BYTES];
    let mut at = 0;
    for (index, (name, inode)) in entries.iter().enumerate() {
        let packed = (8 + name.len()).next_multiple_of(4);
        let last = index + 1 == entries.len();
        let rec_len = if last { TAIL_OFFSET - at } else { packed };
        inode.get().put(&mut block, at);
        (rec_len as u16).put(&mut block, at + 4);
        (name.len() as u8).put(&mut block, at + 6);
        FT_DIR.put(&mut block, at + 7);
        put_bytes(&mut block, at + 8, name.as_bytes());
        at += rec_len;
    }
    if entries.is_empty() {
        (TAIL_OFFSET as u16).put(&mut block, 4);
    }
    12u16.put(&mut block, TAIL_OFFSET + 4);
    FT_DIR_CSUM.put(&mut block, TAIL_OFFSET + 7);
    owner
        .over(&block[..TAIL_OFFSET])
        .put(&mut block, TAIL_OFFSET + 8);
    block
}
