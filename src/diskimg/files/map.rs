//! Where the blocks of a file are: extent trees and block maps
//! (`Documentation/filesystems/ext4/{ifork,blockmap}.rst`).

use super::{ENCRYPT_FL, EXTENTS_FL, FileError, INLINE_DATA_FL, ImageFiles, ImageInode, Result};
use crate::diskimg::bytes::LeField;
use crate::diskimg::features::Feature;
use crate::diskimg::store::ReadAt;

/// ext4 numbers the blocks of a file in 32 bits.
const BLOCKS: u64 = 1 << 32;
/// `eh_magic`.
const MAGIC: u16 = 0xf30a;
/// Bytes of a header and of an entry.
const ENTRY: usize = 12;
/// The deepest tree (`EXT4_MAX_EXTENT_DEPTH`).
const DEEPEST: u16 = 5;
/// The longest extent that is written; longer ones read as zeros
/// (`EXT_INIT_MAX_LEN`).
const LONGEST_WRITTEN: u16 = 1 << 15;
/// Blocks that an inode names itself, without extents.
const DIRECT: u64 = 12;

/// A part of a file that is in one piece, or a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Its first block in the image; `None` in a hole.
    pub(super) start: Option<u64>,
    /// How many blocks follow, this one included: at least one.
    pub(super) blocks: u64,
}

/// What is looked for in a file (lseek(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

impl<R: ReadAt> ImageFiles<R> {
    /// The next data or hole of a file from `offset` on; `None` beyond its last.
    ///
    /// # Errors
    /// Any [`FileError`].
    pub fn seek(&self, inode: &ImageInode, offset: u64, wanted: Seek) -> Result<Option<u64>> {
        let size = inode.size();
        if offset >= size {
            return Ok(None);
        }
        let block_bytes = u64::from(self.header.block_bytes);
        let mut at = offset;
        while at < size {
            let run = self.run_at(inode, at / block_bytes)?;
            if run.start.is_some() == (wanted == Seek::Data) {
                return Ok(Some(at));
            }
            let next = (at / block_bytes).saturating_add(run.blocks);
            at = next.saturating_mul(block_bytes);
        }
        // There is a hole behind every file.
        Ok((wanted == Seek::Hole).then_some(size))
    }

    /// What block `block` of a file begins. One level of a tree is one read, and so
    /// each run of all but the smallest files is.
    pub(super) fn run_at(&self, inode: &ImageInode, block: u64) -> Result<Run> {
        if inode.flags() & ENCRYPT_FL != 0 {
            return Err(FileError::Unknown("an encrypted file"));
        }
        if inode.flags() & INLINE_DATA_FL != 0 {
            return Err(FileError::Unknown("a file in its inode"));
        }
        if block >= BLOCKS {
            return Err(FileError::Damaged("a file is longer than ext4 makes it"));
        }
        if inode.flags() & EXTENTS_FL == 0 {
            return self.run_in_map(inode, block);
        }
        let root = inode.raw[0x28..0x28 + 60].to_vec();
        self.run_in_tree(inode, root, block)
    }

    fn run_in_tree(&self, inode: &ImageInode, mut node: Vec<u8>, block: u64) -> Result<Run> {
        let mut depth = None;
        // Where the part of the tree ends that is looked into.
        let mut end = BLOCKS;
        loop {
            let (entries, found) = entries_of(&node)?;
            if found > DEEPEST || depth.is_some_and(|above: u16| above != found + 1) {
                return Err(FileError::Damaged("an extent tree has a wrong depth"));
            }
            depth = Some(found);
            let entry = |index: usize| &node[ENTRY * (index + 1)..ENTRY * (index + 2)];
            let first = |index: usize| u64::from(u32::get(entry(index), 0));
            if !(1..entries).all(|index| first(index - 1) < first(index)) {
                return Err(FileError::Damaged("an extent tree is not in order"));
            }
            let after = (0..entries).find(|&index| first(index) > block);
            end = after.map_or(end, first).min(end);
            let hole = Run {
                start: None,
                blocks: end.saturating_sub(block).max(1),
            };
            let Some(index) = after.unwrap_or(entries).checked_sub(1) else {
                return Ok(hole);
            };
            if found == 0 {
                return Ok(run_in_extent(entry(index), block, hole));
            }
            let child = entry(index);
            let child = u64::from(u32::get(child, 4)) | u64::from(u16::get(child, 8)) << 32;
            node.resize(self.header.block_bytes as usize, 0);
            self.read_block(child, 0, &mut node)?;
            self.check_node(inode, &node)?;
        }
    }

    fn check_node(&self, inode: &ImageInode, node: &[u8]) -> Result<()> {
        if !self.header.features.has(Feature::MetadataCsum) {
            return Ok(());
        }
        let at = ENTRY * (usize::from(u16::get(node, 4)) + 1);
        let Some(stored) = node.get(at..at + 4) else {
            return Err(FileError::Damaged("an extent tree is larger than a block"));
        };
        let seed = self.header.seed.of_inode(inode.number, inode.u32_at(0x64));
        if seed.over(&node[..at]) != u32::get(stored, 0) {
            return Err(FileError::Damaged("an extent tree has a wrong checksum"));
        }
        Ok(())
    }

    fn run_in_map(&self, inode: &ImageInode, block: u64) -> Result<Run> {
        let in_inode = |index: u64| u64::from(inode.u32_at(0x28 + 4 * index as usize));
        if block < DIRECT {
            return Ok(run_of((block..DIRECT).map(in_inode)));
        }
        let pointers = u64::from(self.header.block_bytes) / 4;
        let (mut within, mut span) = (block - DIRECT, pointers);
        let mut levels = 0;
        while within >= span {
            within -= span;
            span = span.saturating_mul(pointers);
            levels += 1;
            if levels > 2 {
                return Err(FileError::Damaged("a file is longer than its block map"));
            }
        }
        let mut at = in_inode(DIRECT + levels);
        let mut table = vec![0; self.header.block_bytes as usize];
        loop {
            if at == 0 {
                return Ok(Run {
                    start: None,
                    blocks: span - within,
                });
            }
            self.read_block(at, 0, &mut table)?;
            span /= pointers;
            let index = within / span;
            within %= span;
            let pointer = |index: u64| u64::from(u32::get(&table, 4 * index as usize));
            if span == 1 {
                return Ok(run_of((index..pointers).map(pointer)));
            }
            at = pointer(index);
        }
    }
}

/// The run that these blocks begin with: one at least.
fn run_of(mut blocks: impl Iterator<Item = u64>) -> Run {
    let first = blocks.next().unwrap_or(0);
    let follows = |(index, next): (u64, u64)| match first {
        0 => next == 0,
        first => next == first + index,
    };
    let more = (1..).zip(blocks).take_while(|&it| follows(it)).count();
    Run {
        start: (first != 0).then_some(first),
        blocks: 1 + more as u64,
    }
}

/// How many entries a node has, and its depth.
fn entries_of(node: &[u8]) -> Result<(usize, u16)> {
    if u16::get(node, 0) != MAGIC {
        return Err(FileError::Damaged("an extent tree has no magic number"));
    }
    let entries = usize::from(u16::get(node, 2));
    if ENTRY * (entries + 1) > node.len() {
        return Err(FileError::Damaged("an extent tree is larger than a block"));
    }
    Ok((entries, u16::get(node, 6)))
}

/// What `block` begins, where `extent` is the last that does not begin behind it.
fn run_in_extent(extent: &[u8], block: u64, hole: Run) -> Run {
    let begins = u64::from(u32::get(extent, 0));
    let len = u16::get(extent, 4);
    let written = len <= LONGEST_WRITTEN;
    let len = u64::from(if written { len } else { len - LONGEST_WRITTEN });
    let within = block - begins;
    if within >= len {
        return hole;
    }
    let start = u64::from(u32::get(extent, 8)) | u64::from(u16::get(extent, 6)) << 32;
    Run {
        start: written.then_some(start + within),
        blocks: (len - within).min(hole.blocks),
    }
}
