//! The writing part of growing, in the order that a crash may cut anywhere:
//! what the old superblock does not reach; then what e2fsck or another attempt
//! can mend; then the primary superblock.

use super::super::describe::{UsedInodes, describe_group};
use super::super::error::GrowError;
use super::super::features::Feature;
use super::super::geometry::NO_META_BG;
use super::super::group_desc::GroupDesc;
use super::super::header::Header;
use super::super::inode::{INODE_BYTES, Inode, RESIZE_INO};
use super::super::resize_inode::ResizeInode;
use super::super::store::{ImageStore, read, set_length, sync, write, write_blocks};
use super::super::superblock::{SUPERBLOCK_OFFSET, Superblock};
use super::super::units::{BlockNumber, GroupNumber, Timestamp};
use super::changed_group::ChangedGroup;
use super::descriptor_table::DescriptorTable;
use super::plan::GrowPlan;

/// Carries out a plan. `descs` are the old descriptors.
pub(in crate::diskimg) fn execute(
    store: &mut impl ImageStore,
    header: &Header,
    mut descs: Vec<GroupDesc>,
    plan: &GrowPlan,
    file_bytes: u64,
    now: Timestamp,
) -> Result<(), GrowError> {
    if plan.geometry.blocks_count == plan.old.blocks_count {
        set_length(store, plan.asked_bytes)?;
        return Ok(sync(store)?);
    }
    // Everything that can refuse comes before the first write.
    let resize = match plan.old.resize_inode {
        true => ResizeRecord::read(store, header, plan, &descs)?,
        false => None,
    };
    let freed = resize
        .as_ref()
        .filter(|_| plan.drops_resize_inode())
        .map(|resize| resize.dind);
    let mut touched = vec![plan.old.groups_count - 1]; // at least one group: Header checks it
    touched.extend(
        freed
            .map(|block| plan.old.group_of(block.get()))
            .filter(|group| *group != touched[0]),
    );
    let mut changed = Vec::new();
    for group in touched {
        if let Some(desc) = descs.get_mut(group as usize)
            && let Some(new) = ChangedGroup::new(store, plan, group, desc, freed, header.seed)?
        {
            *desc = new.desc;
            changed.push(new);
        }
    }

    // Past the old end: cut off first what lies there, so that inode tables
    // read as zeros.
    if file_bytes > header.bytes() {
        set_length(store, header.bytes())?;
    }
    set_length(store, plan.asked_bytes)?;
    for (group, tables) in (plan.old.groups_count..).zip(&plan.tables) {
        let used = UsedInodes::default();
        let described = describe_group(
            &plan.geometry,
            &plan.space,
            *tables,
            group,
            used,
            header.seed,
        );
        if let Some(bitmap) = described.block_bitmap {
            write_blocks(store, bitmap.as_bytes(), BlockNumber(tables.block_bitmap))?;
        }
        descs.push(described.desc);
    }
    let superblock = grown_superblock(header, &descs, plan, now);
    let table = DescriptorTable::new(&descs);
    table.write_copies(
        store,
        plan,
        &superblock,
        plan.old.groups_count..plan.geometry.groups_count,
    )?;
    sync(store)?;

    // Within the old end.
    if let Some(resize) = &resize
        && !plan.drops_resize_inode()
    {
        resize.update(store, header, plan)?;
    }
    for group in &changed {
        write_blocks(
            store,
            group.bitmap.as_bytes(),
            BlockNumber(group.desc.block_bitmap()),
        )?;
    }
    table.write_copies(store, plan, &superblock, 0..plan.old.groups_count)?;
    if let Some(resize) = &resize
        && plan.drops_resize_inode()
    {
        // Only once its block is free for good: another attempt learns from
        // the inode which block that is.
        sync(store)?;
        write(store, &[0; INODE_BYTES], resize.offset)?;
    }
    sync(store)?;

    write(store, &superblock.to_bytes(), SUPERBLOCK_OFFSET)?;
    Ok(sync(store)?)
}

/// The resize inode as it is in the image.
struct ResizeRecord {
    inode: Inode,
    offset: u64,
    dind: BlockNumber,
}

impl ResizeRecord {
    /// Reads and verifies it. Nothing if an interrupted attempt has given it
    /// up already.
    fn read(
        store: &impl ImageStore,
        header: &Header,
        plan: &GrowPlan,
        descs: &[GroupDesc],
    ) -> Result<Option<Self>, GrowError> {
        let table = descs.first().map_or(0, GroupDesc::inode_table);
        let damaged = GrowError::Damaged {
            what: "resize inode",
            group: GroupNumber(0),
            block: BlockNumber(table),
        };
        if table == 0 || table >= header.blocks_count {
            return Err(damaged);
        }
        let offset =
            BlockNumber(table).offset() + u64::from(RESIZE_INO.get() - 1) * INODE_BYTES as u64;
        let mut raw = [0u8; INODE_BYTES];
        read(store, &mut raw, offset)?;
        if plan.drops_resize_inode() && raw == [0; INODE_BYTES] {
            return Ok(None);
        }
        let inode = Inode::from_bytes(raw);
        let dind = ResizeInode::dind_of(&inode);
        let inside = dind.get() != 0 && dind.get() < header.blocks_count;
        match inside && inode.checksum_matches(header.seed, RESIZE_INO) {
            true => Ok(Some(ResizeRecord {
                inode,
                offset,
                dind,
            })),
            false => Err(damaged),
        }
    }

    /// Writes what it owns after growing.
    fn update(
        &self,
        store: &mut impl ImageStore,
        header: &Header,
        plan: &GrowPlan,
    ) -> Result<(), GrowError> {
        let resize = ResizeInode::new(&plan.geometry, self.dind);
        for (block, contents) in resize.indirect_blocks().chain([resize.dind_block()]) {
            write_blocks(store, &contents, block)?;
        }
        let mut inode = self.inode.clone();
        inode.set_i_blocks_lo(resize.sectors());
        Ok(write(
            store,
            &inode.sealed(header.seed, RESIZE_INO),
            self.offset,
        )?)
    }
}

/// The primary superblock after growing. Counts are summed from the
/// descriptors, so that a second attempt does not add twice.
fn grown_superblock(
    header: &Header,
    descs: &[GroupDesc],
    plan: &GrowPlan,
    now: Timestamp,
) -> Superblock {
    let mut sb = header.superblock.clone();
    let geometry = &plan.geometry;
    sb.set_blocks_count(geometry.blocks_count);
    sb.set_r_blocks_count(geometry.r_blocks_count);
    sb.set_free_blocks_count(descs.iter().map(|desc| u64::from(desc.free_blocks())).sum());
    sb.set_s_inodes_count(geometry.inodes_count());
    let free_inodes: u64 = descs.iter().map(|desc| u64::from(desc.free_inodes())).sum();
    sb.set_s_free_inodes_count(free_inodes.min(geometry.inodes_count().into()) as u32);
    sb.set_s_reserved_gdt_blocks(geometry.reserved_gdt_blocks as u16); // never more than before
    if sb.s_overhead_clusters() != 0 {
        let overhead = u64::from(sb.s_overhead_clusters()) + plan.added_overhead();
        sb.set_s_overhead_clusters(overhead.min(u64::from(u32::MAX)) as u32);
    }
    if geometry.first_meta_bg != NO_META_BG {
        let mut features = sb.features().with(Feature::MetaBg);
        features.set(Feature::ResizeInode, geometry.resize_inode);
        sb.set_features(features);
        sb.set_s_first_meta_bg(geometry.first_meta_bg);
    }
    sb.set_write_time(now);
    sb
}
