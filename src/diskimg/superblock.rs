//! The superblock: 1024 bytes at byte 1024, copied at the start of the backup
//! groups. Field names and offsets are those of the kernel's
//! `Documentation/filesystems/ext4/super.rst`. Keeps the raw bytes, so that a
//! field unknown here survives a read and a write.

use super::bytes::{get_bytes, le_fields, put_bytes};
use super::checksum::{ChecksumSeed, crc32c};
use super::features::{Feature, Features};
use super::units::Timestamp;

/// Byte offset of the primary copy in the image.
pub(in crate::diskimg) const SUPERBLOCK_OFFSET: u64 = 1024;
/// Size of the structure in bytes.
pub(in crate::diskimg) const SUPERBLOCK_BYTES: usize = 1024;
/// `s_magic` of every ext2, ext3 and ext4 file system.
pub(in crate::diskimg) const EXT4_SUPER_MAGIC: u16 = 0xef53;
/// `s_state`: cleanly unmounted.
pub(in crate::diskimg) const STATE_VALID: u16 = 1;
/// `s_state`: errors were found.
pub(in crate::diskimg) const STATE_ERROR: u16 = 2;
/// Where `s_checksum` is: it covers every byte before it.
const CHECKSUM_OFFSET: usize = 0x3fc;

/// A superblock as it is on disk.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::diskimg) struct Superblock {
    raw: [u8; SUPERBLOCK_BYTES],
}

le_fields!(Superblock {
    /// Inodes in the file system.
    0x000 s_inodes_count set_s_inodes_count u32;
    /// Blocks, low half.
    0x004 s_blocks_count_lo set_s_blocks_count_lo u32;
    /// Blocks reserved for `s_def_resuid`, low half.
    0x008 s_r_blocks_count_lo set_s_r_blocks_count_lo u32;
    /// Free blocks, low half.
    0x00c s_free_blocks_count_lo set_s_free_blocks_count_lo u32;
    /// Free inodes.
    0x010 s_free_inodes_count set_s_free_inodes_count u32;
    /// Block that holds the superblock: 0 for blocks over 1 KiB.
    0x014 s_first_data_block set_s_first_data_block u32;
    /// Block size as a power of two over 1 KiB.
    0x018 s_log_block_size set_s_log_block_size u32;
    /// Cluster size as a power of two over 1 KiB.
    0x01c s_log_cluster_size set_s_log_cluster_size u32;
    /// Blocks in a group.
    0x020 s_blocks_per_group set_s_blocks_per_group u32;
    /// Clusters in a group.
    0x024 s_clusters_per_group set_s_clusters_per_group u32;
    /// Inodes in a group.
    0x028 s_inodes_per_group set_s_inodes_per_group u32;
    /// Last mount, seconds, low 32 bits.
    0x02c s_mtime set_s_mtime u32;
    /// Last write, seconds, low 32 bits.
    0x030 s_wtime set_s_wtime u32;
    /// Mounts since the last check.
    0x034 s_mnt_count set_s_mnt_count u16;
    /// Mounts after which to check; 0xffff: never.
    0x036 s_max_mnt_count set_s_max_mnt_count u16;
    /// 0xEF53.
    0x038 s_magic set_s_magic u16;
    /// Bit 0: clean; 1: errors; 2: orphans being recovered.
    0x03a s_state set_s_state u16;
    /// What to do on an error; 1: continue.
    0x03c s_errors set_s_errors u16;
    /// Last check, seconds, low 32 bits.
    0x040 s_lastcheck set_s_lastcheck u32;
    /// Seconds between checks; 0: never.
    0x044 s_checkinterval set_s_checkinterval u32;
    /// 0: Linux.
    0x048 s_creator_os set_s_creator_os u32;
    /// 1: inode sizes and features may vary.
    0x04c s_rev_level set_s_rev_level u32;
    /// First inode that is not reserved.
    0x054 s_first_ino set_s_first_ino u32;
    /// Bytes in an inode.
    0x058 s_inode_size set_s_inode_size u16;
    /// Group that this copy is in.
    0x05a s_block_group_nr set_s_block_group_nr u16;
    /// Features that any reader may ignore.
    0x05c s_feature_compat set_s_feature_compat u32;
    /// Features that forbid use to those who do not know them.
    0x060 s_feature_incompat set_s_feature_incompat u32;
    /// Features that forbid writing to those who do not know them.
    0x064 s_feature_ro_compat set_s_feature_ro_compat u32;
    /// Blocks kept behind the group descriptors for more of them.
    0x0ce s_reserved_gdt_blocks set_s_reserved_gdt_blocks u16;
    /// Inode of the journal.
    0x0e0 s_journal_inum set_s_journal_inum u32;
    /// Head of the list of orphaned inodes.
    0x0e8 s_last_orphan set_s_last_orphan u32;
    /// Hash of new directories; 1: half MD4.
    0x0fc s_def_hash_version set_s_def_hash_version u8;
    /// 1: `s_jnl_blocks` is a copy of the journal inode's block map.
    0x0fd s_jnl_backup_type set_s_jnl_backup_type u8;
    /// Bytes in a group descriptor, if `64bit`.
    0x0fe s_desc_size set_s_desc_size u16;
    /// Mount options that apply by default.
    0x100 s_default_mount_opts set_s_default_mount_opts u32;
    /// First descriptor block that `meta_bg` places.
    0x104 s_first_meta_bg set_s_first_meta_bg u32;
    /// Made at, seconds, low 32 bits.
    0x108 s_mkfs_time set_s_mkfs_time u32;
    /// Blocks, high half.
    0x150 s_blocks_count_hi set_s_blocks_count_hi u32;
    /// Reserved blocks, high half.
    0x154 s_r_blocks_count_hi set_s_r_blocks_count_hi u32;
    /// Free blocks, high half.
    0x158 s_free_blocks_count_hi set_s_free_blocks_count_hi u32;
    /// Bytes past 128 that every inode has.
    0x15c s_min_extra_isize set_s_min_extra_isize u16;
    /// Bytes past 128 that new inodes should have.
    0x15e s_want_extra_isize set_s_want_extra_isize u16;
    /// 1: directory hashes are of signed chars.
    0x160 s_flags set_s_flags u32;
    /// Groups in a flex group, as a power of two.
    0x174 s_log_groups_per_flex set_s_log_groups_per_flex u8;
    /// 1: crc32c.
    0x175 s_checksum_type set_s_checksum_type u8;
    /// KiB written in the image's life.
    0x178 s_kbytes_written set_s_kbytes_written u64;
    /// Errors seen by the kernel since the last check.
    0x194 s_error_count set_s_error_count u32;
    /// Inode of the user quota file.
    0x240 s_usr_quota_inum set_s_usr_quota_inum u32;
    /// Inode of the group quota file.
    0x244 s_grp_quota_inum set_s_grp_quota_inum u32;
    /// Blocks that files cannot have: tables, journal, descriptors.
    0x248 s_overhead_clusters set_s_overhead_clusters u32;
    /// The one or two backup groups of `sparse_super2`: the first.
    0x24c s_backup_bgs_0 set_s_backup_bgs_0 u32;
    /// The one or two backup groups of `sparse_super2`: the second.
    0x250 s_backup_bgs_1 set_s_backup_bgs_1 u32;
    /// Inode of the project quota file.
    0x26c s_prj_quota_inum set_s_prj_quota_inum u32;
    /// crc32c of the UUID that the image was made with.
    0x270 s_checksum_seed set_s_checksum_seed u32;
    /// Bits 32 to 39 of `s_wtime`.
    0x274 s_wtime_hi set_s_wtime_hi u8;
    /// Bits 32 to 39 of `s_mtime`.
    0x275 s_mtime_hi set_s_mtime_hi u8;
    /// Bits 32 to 39 of `s_mkfs_time`.
    0x276 s_mkfs_time_hi set_s_mkfs_time_hi u8;
    /// Bits 32 to 39 of `s_lastcheck`.
    0x277 s_lastcheck_hi set_s_lastcheck_hi u8;
    /// Inode of the orphan file.
    0x280 s_orphan_file_inum set_s_orphan_file_inum u32;
    /// crc32c of the bytes before.
    0x3fc s_checksum set_s_checksum u32;
});

impl Superblock {
    /// An empty superblock.
    pub(in crate::diskimg) const fn zeroed() -> Self {
        Superblock {
            raw: [0; SUPERBLOCK_BYTES],
        }
    }

    /// A superblock as read from an image; nothing is checked.
    pub(in crate::diskimg) const fn from_bytes(raw: [u8; SUPERBLOCK_BYTES]) -> Self {
        Superblock { raw }
    }

    /// The bytes with `s_checksum` brought up to date.
    pub(in crate::diskimg) fn to_bytes(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut copy = self.clone();
        copy.set_s_checksum(copy.computed_checksum());
        copy.raw
    }

    /// The bytes with `s_checksum` as it is.
    pub(in crate::diskimg) fn as_it_is(&self) -> [u8; SUPERBLOCK_BYTES] {
        self.raw
    }

    /// What `s_checksum` should be.
    pub(in crate::diskimg) fn computed_checksum(&self) -> u32 {
        crc32c(u32::MAX, &self.raw[..CHECKSUM_OFFSET])
    }

    /// Whether the checksum is missing only because the bit that announces
    /// it was lost: with the bit set, the stored checksum would be right.
    pub(in crate::diskimg) fn lost_checksum_feature(&self) -> bool {
        let mut repaired = self.clone();
        let features = repaired.features().with(Feature::MetadataCsum);
        repaired.set_features(features);
        repaired.computed_checksum() == self.s_checksum()
    }

    /// The three feature words.
    pub(in crate::diskimg) fn features(&self) -> Features {
        Features {
            compat: self.s_feature_compat(),
            incompat: self.s_feature_incompat(),
            ro_compat: self.s_feature_ro_compat(),
        }
    }

    /// Stores the three feature words.
    pub(in crate::diskimg) fn set_features(&mut self, features: Features) {
        self.set_s_feature_compat(features.compat);
        self.set_s_feature_incompat(features.incompat);
        self.set_s_feature_ro_compat(features.ro_compat);
    }

    /// Blocks in the file system; the high half counts with `64bit` only.
    pub(in crate::diskimg) fn blocks_count(&self) -> u64 {
        self.wide(self.s_blocks_count_lo(), self.s_blocks_count_hi())
    }

    /// Stores the number of blocks.
    pub(in crate::diskimg) fn set_blocks_count(&mut self, blocks: u64) {
        self.set_s_blocks_count_lo((blocks & 0xffff_ffff) as u32);
        self.set_s_blocks_count_hi((blocks >> 32) as u32);
    }

    /// Reserved blocks.
    pub(in crate::diskimg) fn r_blocks_count(&self) -> u64 {
        self.wide(self.s_r_blocks_count_lo(), self.s_r_blocks_count_hi())
    }

    /// Stores the number of reserved blocks.
    pub(in crate::diskimg) fn set_r_blocks_count(&mut self, blocks: u64) {
        self.set_s_r_blocks_count_lo((blocks & 0xffff_ffff) as u32);
        self.set_s_r_blocks_count_hi((blocks >> 32) as u32);
    }

    /// Free blocks.
    pub(in crate::diskimg) fn free_blocks_count(&self) -> u64 {
        self.wide(self.s_free_blocks_count_lo(), self.s_free_blocks_count_hi())
    }

    /// Stores the number of free blocks.
    pub(in crate::diskimg) fn set_free_blocks_count(&mut self, blocks: u64) {
        self.set_s_free_blocks_count_lo((blocks & 0xffff_ffff) as u32);
        self.set_s_free_blocks_count_hi((blocks >> 32) as u32);
    }

    fn wide(&self, low: u32, high: u32) -> u64 {
        let high = if self.features().has(Feature::Bit64) {
            u64::from(high) << 32
        } else {
            0
        };
        high | u64::from(low)
    }

    /// Bytes in a group descriptor: 32 without `64bit`.
    pub(in crate::diskimg) fn descriptor_bytes(&self) -> usize {
        if self.features().has(Feature::Bit64) {
            usize::from(self.s_desc_size())
        } else {
            32
        }
    }

    /// `s_uuid`, 16 bytes at 0x68.
    pub(in crate::diskimg) fn s_uuid(&self) -> [u8; 16] {
        get_bytes(&self.raw, 0x68)
    }

    /// Stores `s_uuid`.
    pub(in crate::diskimg) fn set_s_uuid(&mut self, uuid: [u8; 16]) {
        put_bytes(&mut self.raw, 0x68, &uuid);
    }

    /// `s_volume_name`, 16 bytes at 0x78, zero-padded.
    pub(in crate::diskimg) fn s_volume_name(&self) -> [u8; 16] {
        get_bytes(&self.raw, 0x78)
    }

    /// Stores `s_volume_name`.
    pub(in crate::diskimg) fn set_s_volume_name(&mut self, name: [u8; 16]) {
        put_bytes(&mut self.raw, 0x78, &name);
    }

    /// `s_last_mounted`, 64 bytes at 0x88: the directory of the last mount.
    pub(in crate::diskimg) fn s_last_mounted(&self) -> [u8; 64] {
        get_bytes(&self.raw, 0x88)
    }

    /// `s_mount_opts`, 64 bytes at 0x200: options that the kernel applies to
    /// every mount, before those that it is given.
    pub(in crate::diskimg) fn s_mount_opts(&self) -> [u8; 64] {
        get_bytes(&self.raw, 0x200)
    }

    /// Stores `s_mount_opts`.
    pub(in crate::diskimg) fn set_s_mount_opts(&mut self, options: [u8; 64]) {
        put_bytes(&mut self.raw, 0x200, &options);
    }

    /// Stores `s_hash_seed`, 16 bytes at 0xec.
    pub(in crate::diskimg) fn set_s_hash_seed(&mut self, seed: [u8; 16]) {
        put_bytes(&mut self.raw, 0xec, &seed);
    }

    /// Stores `s_jnl_blocks`, 68 bytes at 0x10c: the journal inode's `i_block`,
    /// then its size, high word first.
    pub(in crate::diskimg) fn set_s_jnl_blocks(&mut self, i_block: &[u8; 60], size: u64) {
        put_bytes(&mut self.raw, 0x10c, i_block);
        put_bytes(&mut self.raw, 0x148, &((size >> 32) as u32).to_le_bytes());
        put_bytes(
            &mut self.raw,
            0x14c,
            &((size & 0xffff_ffff) as u32).to_le_bytes(),
        );
    }

    /// What this image's checksums start from.
    pub(in crate::diskimg) fn checksum_seed(&self) -> ChecksumSeed {
        if self.features().has(Feature::MetadataCsumSeed) {
            ChecksumSeed::stored(self.s_checksum_seed())
        } else {
            ChecksumSeed::of_uuid(&self.s_uuid())
        }
    }

    /// Stamps the last write.
    pub(in crate::diskimg) fn set_write_time(&mut self, time: Timestamp) {
        self.set_s_wtime(time.low());
        self.set_s_wtime_hi(time.superblock_high());
    }
}
