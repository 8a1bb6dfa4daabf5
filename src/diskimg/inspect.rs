//! Reads a file's superblock and group descriptors into a typed summary.
//! Never panics, and holds one block at a time, whatever the file contains.

use std::io;

use serde::Serialize;
use uuid::Uuid;

use super::error::InspectError;
use super::features::{Feature, Features};
use super::group_desc::GroupDesc;
use super::header::Header;
use super::store::{ReadAt, read};
use super::superblock::{STATE_ERROR, STATE_VALID, Superblock};
use super::units::{GroupNumber, Timestamp};

/// How many damages are kept; all are counted.
const DAMAGE_KEPT: usize = 16;

/// Whether an image can be used as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    /// Cleanly unmounted.
    Clean,
    /// Mounted, or not unmounted: the journal is replayed by the next mount.
    NeedsRecovery,
    /// Mounted, or not unmounted, and without a journal: needs `e2fsck`.
    NotUnmounted,
    /// Errors were found in it: needs `e2fsck`.
    HasErrors,
}

/// When and where an image was last mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastMount {
    /// Seconds since 1970.
    pub time: Timestamp,
    /// The directory; empty if the kernel did not note it.
    pub directory: String,
}

/// Something in an image that cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Damage {
    /// The file ends before the file system does.
    #[error("the file has {file_bytes} bytes, the file system {bytes}: restore the missing end")]
    Truncated {
        /// Length of the file.
        file_bytes: u64,
        /// Length of the file system.
        bytes: u64,
    },
    /// A group descriptor's checksum is wrong.
    #[error("the descriptor of group {group} has a wrong checksum: run e2fsck")]
    DescriptorChecksum {
        /// The group.
        group: GroupNumber,
    },
    /// A bitmap or table lies outside the file system.
    #[error("group {group} has its {what} at block {block}, outside the file system: run e2fsck")]
    TableOutside {
        /// The group.
        group: GroupNumber,
        /// Which one.
        what: &'static str,
        /// Where it is said to be.
        block: u64,
    },
    /// A group has more free than there is.
    #[error("group {group} claims {free} free {what}, more than it has: run e2fsck")]
    FreeCount {
        /// The group.
        group: GroupNumber,
        /// Blocks or inodes.
        what: &'static str,
        /// What it claims.
        free: u32,
    },
}

/// What an image is and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Length of the file system in bytes.
    pub bytes: u64,
    /// Bytes in a block.
    pub block_bytes: u32,
    /// Blocks.
    pub blocks: u64,
    /// Free blocks, from the group descriptors.
    pub free_blocks: u64,
    /// Blocks that the file system itself takes, which `df` does not show; 0
    /// when the image does not say.
    pub overhead_blocks: u64,
    /// Blocks that only user 0 may fill.
    pub reserved_blocks: u64,
    /// Inodes.
    pub inodes: u32,
    /// Free inodes, from the group descriptors.
    pub free_inodes: u64,
    /// Block groups.
    pub groups: u32,
    /// The volume label.
    pub label: String,
    /// The UUID.
    pub uuid: Uuid,
    /// Features.
    pub features: Features,
    /// Whether it can be used as it is.
    pub state: ImageState,
    /// Errors that the kernel counted since the last check.
    pub errors: u32,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last written.
    pub last_write: Timestamp,
    /// The last mount, if any.
    pub last_mount: Option<LastMount>,
    /// Mounts since the last check.
    pub mounts: u16,
    /// Damage found: the first 16.
    pub damage: Vec<Damage>,
    /// Damage found: all.
    pub damage_count: u64,
}

impl Summary {
    /// Whether the image is clean and nothing wrong was found.
    pub fn is_sound(&self) -> bool {
        self.state == ImageState::Clean && self.damage_count == 0
    }

    fn add(&mut self, damage: Damage) {
        self.damage_count += 1;
        if self.damage.len() < DAMAGE_KEPT {
            self.damage.push(damage);
        }
    }
}

/// Reads and verifies an image's superblock and group descriptors.
///
/// # Errors
/// The file cannot be read, holds no ext4, or its superblock cannot be
/// trusted. Damage in the rest is part of the summary.
pub fn inspect(image: &impl ReadAt) -> Result<Summary, InspectError> {
    let header = Header::read(image)?;
    let mut summary = summarise(&header);
    summary.file_bytes = image
        .length()
        .map_err(|source| super::error::AccessError::new("look at the image's length", source))?;
    if summary.file_bytes < summary.bytes {
        let damage = Damage::Truncated {
            file_bytes: summary.file_bytes,
            bytes: summary.bytes,
        };
        summary.add(damage);
    }
    visit_descriptors(image, &header, |group, desc| {
        check_descriptor(&header, group, desc, &mut summary)
    })?;
    Ok(summary)
}

/// The descriptor of the first group.
pub(in crate::diskimg) fn first_descriptor(
    image: &impl ReadAt,
    header: &Header,
) -> Result<GroupDesc, InspectError> {
    let mut raw = [0u8; 64];
    let known = raw.len().min(header.desc_bytes as usize);
    let offset = header
        .desc_block(0)
        .saturating_mul(header.block_bytes.into());
    read(image, &mut raw[..known], offset)?;
    Ok(GroupDesc::from_bytes(&raw[..known]))
}

/// Calls `visit` for each group's descriptor, in order, up to the file's end.
pub(in crate::diskimg) fn visit_descriptors(
    image: &impl ReadAt,
    header: &Header,
    mut visit: impl FnMut(u32, &GroupDesc),
) -> Result<(), InspectError> {
    let mut block = vec![0u8; header.block_bytes as usize];
    for index in 0..header.desc_blocks() {
        let offset = header
            .desc_block(index)
            .saturating_mul(header.block_bytes.into());
        match read(image, &mut block, offset) {
            Err(error) if error.source.kind() == io::ErrorKind::UnexpectedEof => break, // told as Truncated
            result => result?,
        }
        let first = index * header.descs_per_block();
        for (group, raw) in
            (first..header.groups_count).zip(block.chunks_exact(header.desc_bytes as usize))
        {
            visit(group, &GroupDesc::from_bytes(raw));
        }
    }
    Ok(())
}

fn check_descriptor(header: &Header, group: u32, desc: &GroupDesc, summary: &mut Summary) {
    let number = GroupNumber(group);
    if !header.desc_checksum_matches(desc, group) {
        summary.add(Damage::DescriptorChecksum { group: number });
    }
    let inodes_per_group = header.superblock.s_inodes_per_group();
    let table_bytes = u64::from(inodes_per_group) * u64::from(header.inode_bytes);
    let table_blocks = table_bytes.div_ceil(header.block_bytes.into());
    for (what, block, blocks) in [
        ("block bitmap", desc.block_bitmap(), 1),
        ("inode bitmap", desc.inode_bitmap(), 1),
        ("inode table", desc.inode_table(), table_blocks),
    ] {
        let first = u64::from(header.superblock.s_first_data_block());
        if block <= first || block.saturating_add(blocks) > header.blocks_count {
            summary.add(Damage::TableOutside {
                group: number,
                what,
                block,
            });
        }
    }
    let clusters = header.superblock.s_blocks_per_group() / header.cluster_blocks;
    for (what, free, all) in [
        ("blocks", desc.free_blocks(), clusters),
        ("inodes", desc.free_inodes(), inodes_per_group),
    ] {
        if free > all {
            summary.add(Damage::FreeCount {
                group: number,
                what,
                free,
            });
        }
    }
    let free = u64::from(desc.free_blocks()) * u64::from(header.cluster_blocks);
    summary.free_blocks = summary
        .free_blocks
        .saturating_add(free)
        .min(header.blocks_count);
    summary.free_inodes = summary
        .free_inodes
        .saturating_add(desc.free_inodes().into())
        .min(summary.inodes.into());
}

fn summarise(header: &Header) -> Summary {
    let sb = &header.superblock;
    let time = |low: u32, high: u8| Timestamp::clamped(u64::from(high) << 32 | u64::from(low));
    let mounted = (sb.s_mtime(), sb.s_mtime_hi());
    Summary {
        file_bytes: 0,
        bytes: header.bytes(),
        block_bytes: header.block_bytes,
        blocks: header.blocks_count,
        free_blocks: 0,
        overhead_blocks: u64::from(sb.s_overhead_clusters()) * u64::from(header.cluster_blocks),
        reserved_blocks: sb.r_blocks_count(),
        inodes: sb.s_inodes_count(),
        free_inodes: 0,
        groups: header.groups_count,
        label: text(&sb.s_volume_name()),
        uuid: Uuid::from_bytes(sb.s_uuid()),
        features: header.features,
        state: state(sb),
        errors: sb.s_error_count(),
        created: time(sb.s_mkfs_time(), sb.s_mkfs_time_hi()),
        last_write: time(sb.s_wtime(), sb.s_wtime_hi()),
        last_mount: (mounted != (0, 0)).then(|| LastMount {
            time: time(mounted.0, mounted.1),
            directory: text(&sb.s_last_mounted()),
        }),
        mounts: sb.s_mnt_count(),
        damage: Vec::new(),
        damage_count: 0,
    }
}

/// What the superblock says of the image's state. Errors outrank the journal:
/// a replay does not mend them.
pub(in crate::diskimg) fn state(sb: &Superblock) -> ImageState {
    let features = sb.features();
    let state = sb.s_state();
    if state & STATE_ERROR != 0 || sb.s_error_count() != 0 {
        ImageState::HasErrors
    } else if features.has(Feature::NeedsRecovery) || features.has(Feature::OrphanPresent) {
        ImageState::NeedsRecovery
    } else if state & STATE_VALID == 0 || sb.s_last_orphan() != 0 {
        ImageState::NotUnmounted
    } else {
        ImageState::Clean
    }
}

/// A zero-padded field as text.
fn text(field: &[u8]) -> String {
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}
