//! A superblock read from any file, checked field by field, so that what
//! depends on it (loops, offsets, divisions) is bounded. Trusts nothing.

use super::backups::has_superblock;
use super::checksum::ChecksumSeed;
use super::error::InspectError;
use super::features::{Feature, Features};
use super::geometry::groups_in;
use super::group_desc::GroupDesc;
use super::store::{ReadAt, read};
use super::superblock::{EXT4_SUPER_MAGIC, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET, Superblock};

/// The largest block size that ext4 knows, as `s_log_block_size`: 64 KiB.
const MAX_LOG_BLOCK_SIZE: u32 = 6;

/// A checked superblock, and what follows from it.
#[derive(Clone)]
pub(in crate::diskimg) struct Header {
    /// The superblock.
    pub(in crate::diskimg) superblock: Superblock,
    /// Its features.
    pub(in crate::diskimg) features: Features,
    /// Bytes in a block: 1 KiB to 64 KiB, a power of two.
    pub(in crate::diskimg) block_bytes: u32,
    /// Blocks in a cluster; 1 without `bigalloc`.
    pub(in crate::diskimg) cluster_blocks: u32,
    /// Blocks, at least one past `s_first_data_block`.
    pub(in crate::diskimg) blocks_count: u64,
    /// Groups, at least one.
    pub(in crate::diskimg) groups_count: u32,
    /// Bytes in a group descriptor: 32 to a block, a power of two.
    pub(in crate::diskimg) desc_bytes: u32,
    /// Bytes in an inode.
    pub(in crate::diskimg) inode_bytes: u32,
    /// What checksums start from.
    pub(in crate::diskimg) seed: ChecksumSeed,
}

impl Header {
    /// Reads and checks the primary superblock.
    pub(in crate::diskimg) fn read(store: &impl ReadAt) -> Result<Self, InspectError> {
        let length = store.length().map_err(|source| {
            super::error::AccessError::new("look at the image's length", source)
        })?;
        if length < SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES as u64 {
            return Err(InspectError::TooShort { bytes: length });
        }
        let mut raw = [0u8; SUPERBLOCK_BYTES];
        read(store, &mut raw, SUPERBLOCK_OFFSET)?;
        Self::check(Superblock::from_bytes(raw))
    }

    fn check(superblock: Superblock) -> Result<Self, InspectError> {
        let sb = &superblock;
        if sb.s_magic() != EXT4_SUPER_MAGIC {
            return Err(InspectError::NotExt4 {
                found: sb.s_magic(),
            });
        }
        let features = sb.features();
        check_checksum(sb, features)?;
        check_features(features)?;

        let field = |field, value: u64, ok, reason| match ok {
            true => Ok(()),
            false => Err(InspectError::Field {
                field,
                value,
                reason,
            }),
        };
        let log = sb.s_log_block_size();
        field(
            "s_log_block_size",
            log.into(),
            log <= MAX_LOG_BLOCK_SIZE,
            "over 6 (64 KiB)",
        )?;
        let block_bytes = 1024u32 << log;
        let log_cluster = sb.s_log_cluster_size();
        let bigalloc = features.has(Feature::Bigalloc);
        let cluster_ok = if bigalloc {
            (log..=log + 16).contains(&log_cluster)
        } else {
            log_cluster == log
        };
        field(
            "s_log_cluster_size",
            log_cluster.into(),
            cluster_ok,
            "not possible with s_log_block_size",
        )?;
        let cluster_blocks = 1u32 << (log_cluster - log);

        let bits = u64::from(block_bytes) * 8;
        let per_group = u64::from(sb.s_blocks_per_group());
        let in_bitmap = per_group / u64::from(cluster_blocks);
        let bpg_ok = (8..=bits).contains(&in_bitmap) && per_group.is_multiple_of(8);
        field(
            "s_blocks_per_group",
            per_group,
            bpg_ok,
            "not what a bitmap block can describe",
        )?;
        let ipg = u64::from(sb.s_inodes_per_group());
        field(
            "s_inodes_per_group",
            ipg,
            (8..=bits).contains(&ipg) && ipg % 8 == 0,
            "not what a bitmap block can describe",
        )?;

        let first = u64::from(sb.s_first_data_block());
        field(
            "s_first_data_block",
            first,
            first <= 1 && (first == 0 || log == 0),
            "neither 0 nor 1",
        )?;
        let blocks_count = sb.blocks_count();
        field(
            "s_blocks_count",
            blocks_count,
            blocks_count > first,
            "not past s_first_data_block",
        )?;
        let bytes_known = blocks_count
            .checked_mul(block_bytes.into())
            .is_some_and(|bytes| bytes <= i64::MAX as u64);
        field(
            "s_blocks_count",
            blocks_count,
            bytes_known,
            "more bytes than a file can have",
        )?;
        let groups = (blocks_count - first).div_ceil(per_group);
        field(
            "s_blocks_count",
            blocks_count,
            groups < u64::from(u32::MAX),
            "more than 2^32 block groups",
        )?;
        let groups_count = groups_in(blocks_count - first, sb.s_blocks_per_group());
        let inodes = u64::from(sb.s_inodes_count());
        field(
            "s_inodes_count",
            inodes,
            inodes == ipg * groups,
            "not s_inodes_per_group for each group",
        )?;
        let free = sb.free_blocks_count();
        field(
            "s_free_blocks_count",
            free,
            free <= blocks_count,
            "more than s_blocks_count",
        )?;
        let reserved = sb.r_blocks_count();
        field(
            "s_r_blocks_count",
            reserved,
            reserved <= blocks_count,
            "more than s_blocks_count",
        )?;
        let free = u64::from(sb.s_free_inodes_count());
        field(
            "s_free_inodes_count",
            free,
            free <= inodes,
            "more than s_inodes_count",
        )?;

        let desc_bytes = sb.descriptor_bytes() as u32; // from a field of 16 bits
        let least = if features.has(Feature::Bit64) { 64 } else { 32 };
        let desc_ok = (least..=1024).contains(&desc_bytes) && desc_bytes.is_power_of_two();
        field(
            "s_desc_size",
            desc_bytes.into(),
            desc_ok,
            "neither 32 nor a power of two from 64 to 1024",
        )?;
        let inode_bytes = if sb.s_rev_level() == 0 {
            128
        } else {
            u32::from(sb.s_inode_size())
        };
        let inode_ok = (128..=block_bytes).contains(&inode_bytes) && inode_bytes.is_power_of_two();
        field(
            "s_inode_size",
            inode_bytes.into(),
            inode_ok,
            "no power of two from 128 to a block",
        )?;

        let seed = superblock.checksum_seed();
        Ok(Header {
            superblock,
            features,
            block_bytes,
            cluster_blocks,
            blocks_count,
            groups_count,
            desc_bytes,
            inode_bytes,
            seed,
        })
    }

    /// Descriptors in a block, at least one.
    pub(in crate::diskimg) fn descs_per_block(&self) -> u32 {
        self.block_bytes / self.desc_bytes
    }

    /// Blocks that the descriptors fill.
    pub(in crate::diskimg) fn desc_blocks(&self) -> u32 {
        self.groups_count.div_ceil(self.descs_per_block())
    }

    /// Bytes that the file system covers.
    pub(in crate::diskimg) fn bytes(&self) -> u64 {
        self.blocks_count * u64::from(self.block_bytes) // checked to fit
    }

    /// Where block `index` of the descriptor table is: behind the superblock,
    /// or with `meta_bg` in the first of the groups that it describes.
    pub(in crate::diskimg) fn desc_block(&self, index: u32) -> u64 {
        let first = u64::from(self.superblock.s_first_data_block());
        if !self.features.has(Feature::MetaBg) || index < self.superblock.s_first_meta_bg() {
            return first + 1 + u64::from(index);
        }
        let group = u64::from(index) * u64::from(self.descs_per_block());
        let start = first + group * u64::from(self.superblock.s_blocks_per_group());
        start + u64::from(self.has_superblock(group.min(u64::from(u32::MAX)) as u32))
    }

    fn has_superblock(&self, group: u32) -> bool {
        let sb = &self.superblock;
        if self.features.has(Feature::SparseSuper2) {
            group == 0 || group == sb.s_backup_bgs_0() || group == sb.s_backup_bgs_1()
        } else {
            !self.features.has(Feature::SparseSuper) || has_superblock(group)
        }
    }

    /// Whether a descriptor's checksum is right; true if it has none.
    pub(in crate::diskimg) fn desc_checksum_matches(&self, desc: &GroupDesc, group: u32) -> bool {
        let size = self.desc_bytes as usize;
        if self.features.has(Feature::MetadataCsum) {
            desc.bg_checksum() == desc.computed_checksum(self.seed, group, size)
        } else if self.features.has(Feature::GdtCsum) {
            desc.bg_checksum() == desc.computed_crc16(&self.superblock.s_uuid(), group, size)
        } else {
            true
        }
    }
}

fn check_checksum(sb: &Superblock, features: Features) -> Result<(), InspectError> {
    let computed = sb.computed_checksum();
    let damaged = match features.has(Feature::MetadataCsum) {
        true => computed != sb.s_checksum() || sb.s_checksum_type() != 1,
        // A flipped feature bit must not switch the check off.
        false => sb.lost_checksum_feature(),
    };
    match damaged {
        true => Err(InspectError::SuperblockChecksum {
            stored: sb.s_checksum(),
            computed,
        }),
        false => Ok(()),
    }
}

fn check_features(features: Features) -> Result<(), InspectError> {
    if features.has(Feature::JournalDev) {
        return Err(InspectError::Unsupported {
            feature: "journal_dev (an external journal)".to_owned(),
        });
    }
    match features.unknown().incompat {
        0 => Ok(()),
        bits => Err(InspectError::Unsupported {
            feature: format!("unknown incompatible features {bits:#x}"),
        }),
    }
}
