//! The superblock of a new image. Values are those of mke2fs, except where a
//! comment says why.

use super::extent::FileMap;
use super::group_desc::DESC_BYTES;
use super::identity::Identity;
use super::inode::{EXTRA_ISIZE, FIRST_INO, INODE_BYTES, JOURNAL_INO};
use super::layout::Layout;
use super::options::Options;
use super::quota_file::QuotaKind;
use super::superblock::{EXT4_SUPER_MAGIC, STATE_VALID, Superblock};
use super::units::{BLOCK_SIZE, InodeNumber};

/// `s_log_block_size` and `s_log_cluster_size` of 4 KiB.
const LOG_BLOCK_SIZE: u32 = 2;
/// `s_errors`: continue.
const ERRORS_CONTINUE: u16 = 1;
/// `s_default_mount_opts`: `user_xattr` and `acl`.
const DEFAULT_MOUNT_OPTS: u32 = 0x4 | 0x8;
/// `s_def_hash_version`: half MD4.
const HASH_HALF_MD4: u8 = 1;
/// `s_flags`: hashes are of signed chars. mke2fs takes the build machine's;
/// always the same here, so that images do not depend on it.
const FLAGS_SIGNED_HASH: u32 = 1;
/// `s_max_mnt_count`: no check by number of mounts.
const NEVER: u16 = u16::MAX;

/// The primary copy (`s_block_group_nr` 0).
pub(in crate::diskimg) fn new_superblock(
    options: &Options,
    layout: &Layout,
    identity: &Identity,
) -> Superblock {
    let geometry = &layout.geometry;
    let mut sb = Superblock::zeroed();
    sb.set_s_magic(EXT4_SUPER_MAGIC);
    sb.set_s_rev_level(1);
    sb.set_s_state(STATE_VALID);
    sb.set_s_errors(ERRORS_CONTINUE);
    sb.set_features(layout.features);

    sb.set_s_log_block_size(LOG_BLOCK_SIZE);
    sb.set_s_log_cluster_size(LOG_BLOCK_SIZE);
    sb.set_blocks_count(geometry.blocks_count);
    sb.set_r_blocks_count(geometry.r_blocks_count);
    sb.set_free_blocks_count(layout.free_blocks());
    sb.set_s_blocks_per_group(geometry.blocks_per_group);
    sb.set_s_clusters_per_group(geometry.blocks_per_group);
    // 32 bits: no image reaches 2^32 blocks of overhead.
    sb.set_s_overhead_clusters(layout.overhead_blocks.min(u64::from(u32::MAX)) as u32);
    sb.set_s_desc_size(DESC_BYTES as u16);
    sb.set_s_reserved_gdt_blocks(geometry.reserved_gdt_blocks as u16); // at most 1024
    sb.set_s_log_groups_per_flex(geometry.log_groups_per_flex);

    sb.set_s_inodes_count(geometry.inodes_count());
    sb.set_s_free_inodes_count(layout.free_inodes());
    sb.set_s_inodes_per_group(geometry.inodes_per_group);
    sb.set_s_first_ino(FIRST_INO.get());
    sb.set_s_inode_size(INODE_BYTES as u16);
    sb.set_s_min_extra_isize(EXTRA_ISIZE);
    sb.set_s_want_extra_isize(EXTRA_ISIZE);

    sb.set_s_uuid(identity.uuid);
    sb.set_s_volume_name(options.label);
    sb.set_s_checksum_type(1);
    sb.set_s_checksum_seed(identity.seed.get());
    sb.set_s_hash_seed(identity.hash_seed);
    sb.set_s_def_hash_version(HASH_HALF_MD4);
    sb.set_s_flags(FLAGS_SIGNED_HASH);
    sb.set_s_default_mount_opts(DEFAULT_MOUNT_OPTS);

    let (time, high) = (identity.time.low(), identity.time.superblock_high());
    sb.set_write_time(identity.time);
    sb.set_s_lastcheck(time);
    sb.set_s_lastcheck_hi(high);
    sb.set_s_mkfs_time(time);
    sb.set_s_mkfs_time_hi(high);
    sb.set_s_max_mnt_count(NEVER);
    sb.set_s_kbytes_written(1); // not 0, or e2fsck takes the field as unused

    if let Some(journal) = &layout.journal {
        sb.set_s_journal_inum(JOURNAL_INO.get());
        sb.set_s_jnl_backup_type(1);
        sb.set_s_jnl_blocks(&journal.root(), FileMap::data_blocks(journal) * BLOCK_SIZE);
    }
    for file in &layout.quota_files {
        let InodeNumber(inode) = file.inode;
        match file.kind {
            QuotaKind::User => sb.set_s_usr_quota_inum(inode),
            QuotaKind::Group => sb.set_s_grp_quota_inum(inode),
            QuotaKind::Project => sb.set_s_prj_quota_inum(inode),
        }
    }
    if let Some((inode, _)) = &layout.orphan_file {
        sb.set_s_orphan_file_inum(inode.get());
    }
    sb
}
