//! Growing an image that nothing uses. The new groups are written past the
//! old end first, then the descriptors, and the primary superblock last: a
//! crash leaves the old size or the new one. Growing again after a crash
//! completes it; `e2fsck -fy` also mends whatever was half done.

mod changed_group;
mod descriptor_table;
mod plan;
mod write;

use std::path::Path;

use super::error::{AccessError, GrowError};
use super::features::Feature;
use super::group_desc::{DESC_BYTES, GroupDesc};
use super::header::Header;
use super::inode::INODE_BYTES;
use super::inspect::{ImageState, state, visit_descriptors};
use super::store::ImageStore;
use super::units::{BLOCK_BYTES, BLOCK_SIZE, BlockNumber, GroupNumber, ImageSize, Timestamp};
use crate::sys::named_file;
use plan::GrowPlan;

/// What growing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Grown {
    /// Blocks of 4 KiB before.
    pub old_blocks: u64,
    /// Blocks of 4 KiB now.
    pub new_blocks: u64,
    /// Blocks of the new size that no group can use.
    pub dropped_blocks: u64,
}

/// Grows the image at `path`, which nothing may use, to `size`. A size that
/// adds less than a group can use changes the file's length alone.
///
/// # Errors
/// The image is in use, unclean, damaged, or not of a kind that can be grown;
/// the size is smaller or beyond what the image was made for; the system's
/// reason.
pub fn grow(path: &Path, size: ImageSize) -> Result<Grown, GrowError> {
    let named =
        |action: &str, source| AccessError::new(format!("{action} {}", path.display()), source);
    let mut file = named_file::open_to_change(path).map_err(|source| named("open", source))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(GrowError::Locked),
        Err(std::fs::TryLockError::Error(source)) => return Err(named("lock", source).into()),
    }
    grow_store(&mut file, size, Timestamp::now())
}

/// Grows an image in any store; `now` becomes the time of its last write.
///
/// # Errors
/// As [`grow`].
pub fn grow_store(
    store: &mut impl ImageStore,
    size: ImageSize,
    now: Timestamp,
) -> Result<Grown, GrowError> {
    let header = Header::read(store)?;
    check_usable(&header)?;
    let file_bytes = store
        .length()
        .map_err(|source| AccessError::new("look at the image's length", source))?;
    if file_bytes < header.bytes() {
        return Err(GrowError::Truncated {
            file_bytes,
            bytes: header.bytes(),
        });
    }
    let descs = read_descriptors(store, &header)?;
    let plan = GrowPlan::new(&header, size)?;
    write::execute(store, &header, descs, &plan, file_bytes, now)?;
    Ok(Grown {
        old_blocks: header.blocks_count,
        new_blocks: plan.geometry.blocks_count,
        dropped_blocks: size.blocks() - plan.geometry.blocks_count,
    })
}

/// Whether the image may be written, and is of the kind that the planner
/// knows.
fn check_usable(header: &Header) -> Result<(), GrowError> {
    match state(&header.superblock) {
        ImageState::Clean => {}
        ImageState::NeedsRecovery => return Err(GrowError::NeedsRecovery),
        ImageState::HasErrors => return Err(GrowError::HasErrors),
        ImageState::NotUnmounted => return Err(GrowError::NotClean),
    }
    let unsupported = |what: &str| {
        Err(GrowError::Unsupported {
            what: what.to_owned(),
        })
    };
    let unknown = header.features.unknown();
    if unknown.ro_compat != 0 || unknown.compat != 0 {
        return unsupported("features that are unknown here");
    }
    for feature in [
        Feature::Bigalloc,
        Feature::Mmp,
        Feature::SparseSuper2,
        Feature::GdtCsum,
        Feature::ReadOnly,
        Feature::SharedBlocks,
    ] {
        if header.features.has(feature) {
            return unsupported(&format!("the feature {}", feature.name()));
        }
    }
    for feature in [Feature::Bit64, Feature::MetadataCsum, Feature::SparseSuper] {
        if !header.features.has(feature) {
            return unsupported(&format!("no feature {}", feature.name()));
        }
    }
    if u64::from(header.block_bytes) != BLOCK_SIZE {
        return unsupported(&format!(
            "blocks of {} bytes instead of {BLOCK_SIZE}",
            header.block_bytes
        ));
    }
    if header.desc_bytes as usize != DESC_BYTES || header.inode_bytes as usize != INODE_BYTES {
        return unsupported("group descriptors or inodes of another size than 64 and 256 bytes");
    }
    if header.superblock.s_log_groups_per_flex() > 31 {
        return unsupported("more than 2^31 groups in a flex group");
    }
    Ok(())
}

/// All descriptors, each verified: the new table repeats them.
fn read_descriptors(store: &impl ImageStore, header: &Header) -> Result<Vec<GroupDesc>, GrowError> {
    let mut descs = Vec::new();
    let mut damaged = None;
    visit_descriptors(store, header, |group, desc| {
        if damaged.is_none() && !header.desc_checksum_matches(desc, group) {
            damaged = Some(group);
        }
        descs.push(*desc);
    })?;
    let per_block = (BLOCK_BYTES / DESC_BYTES) as u32;
    // Missing ones (the file ends in the table) are damage like wrong ones.
    let missing = (descs.len() < header.groups_count as usize).then_some(descs.len() as u32);
    match damaged.or(missing) {
        None => Ok(descs),
        Some(group) => Err(GrowError::Damaged {
            what: "group descriptor",
            group: GroupNumber(group),
            block: BlockNumber(header.desc_block(group / per_block)),
        }),
    }
}
