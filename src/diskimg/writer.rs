//! Turns a layout into bytes: the only part of formatting that writes. Only
//! blocks that differ from zero are written; the store must read as zeros
//! everywhere else. The primary superblock comes last.

use super::backups::backup_groups;
use super::block_sink::BlockSink;
use super::describe::{UsedInodes, describe_group};
use super::dir_block::directory_block;
use super::error::AccessError;
use super::extent::FileMap;
use super::geometry::{DESCS_PER_BLOCK, INODES_PER_BLOCK};
use super::identity::Identity;
use super::inode::{
    BAD_INO, EXTENTS_FL, FIRST_INO, INODE_BYTES, Inode, JOURNAL_INO, MODE_DIRECTORY,
    MODE_HIDDEN_FILE, RESIZE_INO, ROOT_INO,
};
use super::journal::journal_superblock;
use super::layout::Layout;
use super::new_superblock::new_superblock;
use super::options::Options;
use super::orphan_file::orphan_block;
use super::resize_inode::ResizeInode;
use super::store::{ImageStore, set_length, sync, write};
use super::superblock::{SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET, Superblock};
use super::units::{BLOCK_BYTES, BLOCK_SIZE, BlockNumber, InodeNumber};

/// Groups described before their descriptors are written: bounds the buffer
/// at 256 KiB.
const GROUPS_PER_CHUNK: u32 = 64 * DESCS_PER_BLOCK;

/// Writes the image and makes it durable.
pub(in crate::diskimg) fn write_image(
    store: &mut impl ImageStore,
    options: &Options,
    layout: &Layout,
) -> Result<(), AccessError> {
    set_length(store, options.size.bytes())?;
    let identity = Identity::of(options);
    let superblock = new_superblock(options, layout, &identity);
    write_groups(store, layout, &identity, &superblock)?;
    let sink = BlockSink::new(store);
    Files {
        sink,
        layout,
        identity: &identity,
        inodes: [0; BLOCK_BYTES],
    }
    .write(options)?;
    write(store, &superblock.to_bytes(), SUPERBLOCK_OFFSET)?;
    sync(store)
}

/// Writes bitmaps, and descriptors with their backups.
fn write_groups(
    store: &mut impl ImageStore,
    layout: &Layout,
    identity: &Identity,
    superblock: &Superblock,
) -> Result<(), AccessError> {
    let geometry = &layout.geometry;
    let backups = backup_groups(geometry.groups_count);
    let mut sink = BlockSink::new(store);
    let mut chunk = Vec::new();
    let mut first = 0;
    while first < geometry.groups_count {
        let end = geometry.groups_count.min(first + GROUPS_PER_CHUNK);
        // The first chunk starts with the block that holds the superblock, so
        // that a backup of a small image is one write.
        let head = if first == 0 { BLOCK_BYTES } else { 0 };
        chunk.clear();
        chunk.resize(head, 0);
        for (group, tables) in (first..end).zip(&layout.tables[first as usize..]) {
            let used = match group {
                0 => UsedInodes {
                    count: layout.used_inodes,
                    directories: layout.used_dirs(),
                },
                _ => UsedInodes::default(),
            };
            let described =
                describe_group(geometry, &layout.space, *tables, group, used, identity.seed);
            if let Some(bitmap) = described.block_bitmap {
                sink.put(BlockNumber(tables.block_bitmap), bitmap.as_bytes())?;
            }
            if let Some(bitmap) = described.inode_bitmap {
                sink.put(BlockNumber(tables.inode_bitmap), bitmap.as_bytes())?;
            }
            chunk.extend_from_slice(described.desc.as_bytes());
        }
        chunk.resize(chunk.len().next_multiple_of(BLOCK_BYTES), 0);
        let at = 1 + u64::from(first / DESCS_PER_BLOCK);
        sink.put(BlockNumber(at), &chunk[head..])?;
        for backup in &backups {
            if head > 0 {
                chunk[..SUPERBLOCK_BYTES].copy_from_slice(&backup_superblock(superblock, *backup));
            }
            let block = geometry.group_start(*backup) + at - u64::from(head > 0);
            sink.put(BlockNumber(block), &chunk)?;
        }
        first = end;
    }
    sink.flush()
}

/// The copy of a superblock for a backup group.
pub(in crate::diskimg) fn backup_superblock(
    superblock: &Superblock,
    group: u32,
) -> [u8; SUPERBLOCK_BYTES] {
    let mut copy = superblock.clone();
    copy.set_s_block_group_nr((group & 0xffff) as u16); // the field has 16 bits; the kernel cuts it too
    copy.to_bytes()
}

/// Writes the files of a new image, collecting their inodes. All are in the
/// first block of the first inode table: 13 at most, of 16.
struct Files<'a, S> {
    sink: BlockSink<'a, S>,
    layout: &'a Layout,
    identity: &'a Identity,
    inodes: [u8; BLOCK_BYTES],
}

impl<S: ImageStore> Files<'_, S> {
    fn write(mut self, options: &Options) -> Result<(), AccessError> {
        let (layout, time) = (self.layout, self.identity.time);
        self.put_inode(BAD_INO, &Inode::no_bad_blocks(time));
        self.write_directories(options)?;
        if let Some(dind) = layout.resize_dind {
            let resize = ResizeInode::new(&layout.geometry, dind);
            self.put_inode(RESIZE_INO, &resize.inode(time));
            for (block, contents) in resize.indirect_blocks().chain([resize.dind_block()]) {
                self.put_block(block, &contents)?;
            }
        }
        if let Some(map) = &layout.journal {
            self.put_file(
                JOURNAL_INO,
                map,
                Inode::new(MODE_HIDDEN_FILE, 1, time),
                map.data_blocks() * BLOCK_SIZE,
            )?;
            // At most MAX_JOURNAL_BLOCKS, so 32 bits hold it.
            let contents = journal_superblock(map.data_blocks() as u32, &self.identity.uuid);
            if let Some(block) = map.blocks().next() {
                self.put_block(block, &contents)?;
            }
        }
        for quota in &layout.quota_files {
            let bytes = quota.contents.len() as u64;
            self.put_file(
                quota.inode,
                &quota.map,
                Inode::new(MODE_HIDDEN_FILE, 1, time),
                bytes,
            )?;
            for (block, contents) in quota.map.blocks().zip(quota.contents.chunks(BLOCK_BYTES)) {
                let mut whole = [0u8; BLOCK_BYTES];
                whole[..contents.len()].copy_from_slice(contents);
                self.put_block(block, &whole)?;
            }
        }
        if let Some((number, map)) = &layout.orphan_file {
            self.put_file(
                *number,
                map,
                Inode::new(MODE_HIDDEN_FILE, 1, time),
                map.data_blocks() * BLOCK_SIZE,
            )?;
            let owner = self.identity.seed.of_inode(number.get(), 0);
            for block in map.blocks() {
                self.put_block(block, &orphan_block(block, owner))?;
            }
        }
        let first_table = layout.tables.first().map_or(0, |tables| tables.inode_table);
        self.sink.put(BlockNumber(first_table), &self.inodes)?;
        self.sink.flush()
    }

    fn write_directories(&mut self, options: &Options) -> Result<(), AccessError> {
        let (layout, time) = (self.layout, self.identity.time);
        let mut entries = vec![(".", ROOT_INO), ("..", ROOT_INO)];
        if let Some(map) = &layout.lost_and_found {
            entries.push(("lost+found", FIRST_INO));
            let inode = Inode::new(MODE_DIRECTORY | 0o700, 2, time);
            self.put_file(FIRST_INO, map, inode, map.data_blocks() * BLOCK_SIZE)?;
            let owner = self.identity.seed.of_inode(FIRST_INO.get(), 0);
            let mut contents = directory_block(&[(".", FIRST_INO), ("..", ROOT_INO)], owner);
            for block in map.blocks() {
                self.put_block(block, &contents)?;
                contents = directory_block(&[], owner);
            }
        }
        let mut inode = Inode::new(
            MODE_DIRECTORY | options.root.mode,
            entries.len() as u16,
            time,
        );
        inode.set_owner(options.root.uid, options.root.gid);
        self.put_file(ROOT_INO, &layout.root, inode, BLOCK_SIZE)?;
        let contents = directory_block(&entries, self.identity.seed.of_inode(ROOT_INO.get(), 0));
        for block in layout.root.blocks() {
            self.put_block(block, &contents)?;
        }
        Ok(())
    }

    /// Stores a file's inode with its extent tree.
    fn put_file(
        &mut self,
        number: InodeNumber,
        map: &FileMap,
        mut inode: Inode,
        bytes: u64,
    ) -> Result<(), AccessError> {
        inode.set_i_flags(EXTENTS_FL);
        inode.set_i_block(&map.root());
        inode.set_size(bytes);
        inode.set_i_blocks_lo((map.all_blocks() * (BLOCK_SIZE / 512)) as u32); // a journal has at most 39 GiB
        self.put_inode(number, &inode);
        match map.leaf_block(self.identity.seed.of_inode(number.get(), 0)) {
            Some((block, contents)) => self.put_block(block, &contents),
            None => Ok(()),
        }
    }

    fn put_inode(&mut self, number: InodeNumber, inode: &Inode) {
        let index = number.get() - 1;
        debug_assert!(
            index < INODES_PER_BLOCK,
            "a new image's inodes are in one block"
        );
        let at = index as usize * INODE_BYTES;
        self.inodes[at..at + INODE_BYTES]
            .copy_from_slice(&inode.sealed(self.identity.seed, number));
    }

    fn put_block(
        &mut self,
        block: BlockNumber,
        contents: &[u8; BLOCK_BYTES],
    ) -> Result<(), AccessError> {
        // Zeros are what is there.
        if contents.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        self.sink.put(block, contents)
    }
}
