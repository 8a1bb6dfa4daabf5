//! The planner: where everything of a new image goes. Pure; it can be asked
//! about any size without a file. The writer turns a [`Layout`] into bytes.

use super::error::{OptionError, PlanError};
use super::extent::FileMap;
use super::features::{Feature, Features};
use super::geometry::Geometry;
use super::inode::{FIRST_INO, GRP_QUOTA_INO, USR_QUOTA_INO};
use super::journal::{MAX_JOURNAL_BLOCKS, MIN_JOURNAL_BLOCKS, default_journal_blocks};
use super::options::{JournalSize, Options};
use super::orphan_file::default_orphan_blocks;
use super::quota_file::{QuotaKind, Usage, quota_file};
use super::space::Space;
use super::tables::{GroupTables, place_tables};
use super::units::{BLOCK_SIZE, BlockNumber, InodeNumber};

/// Blocks of `lost+found`, so that `e2fsck` need not allocate there.
const LOST_AND_FOUND_BLOCKS: u64 = 4;

/// A quota file of a new image.
#[derive(Clone, Debug)]
pub(in crate::diskimg) struct QuotaPlan {
    pub(in crate::diskimg) kind: QuotaKind,
    pub(in crate::diskimg) inode: InodeNumber,
    pub(in crate::diskimg) map: FileMap,
    pub(in crate::diskimg) contents: Vec<u8>,
}

/// Where everything of a new image goes.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(in crate::diskimg) features: Features,
    pub(in crate::diskimg) geometry: Geometry,
    pub(in crate::diskimg) tables: Vec<GroupTables>,
    pub(in crate::diskimg) space: Space,
    pub(in crate::diskimg) root: FileMap,
    pub(in crate::diskimg) lost_and_found: Option<FileMap>,
    pub(in crate::diskimg) resize_dind: Option<BlockNumber>,
    pub(in crate::diskimg) journal: Option<FileMap>,
    pub(in crate::diskimg) quota_files: Vec<QuotaPlan>,
    pub(in crate::diskimg) orphan_file: Option<(InodeNumber, FileMap)>,
    pub(in crate::diskimg) used_inodes: u32,
    pub(in crate::diskimg) overhead_blocks: u64,
    asked_blocks: u64,
    free_blocks: u64,
}

impl Layout {
    /// Plans an image.
    ///
    /// # Errors
    /// The options do not fit the size.
    pub fn plan(options: &Options) -> Result<Self, PlanError> {
        if options.orphan_file && options.journal == JournalSize::None {
            return Err(OptionError::OrphanFileWithoutJournal.into());
        }
        let geometry = Geometry::new(options)?;
        let mut space = Space::new(geometry.blocks_count);
        for group in 0..geometry.groups_count {
            let start = geometry.group_start(group);
            space.take(start..start + u64::from(geometry.superblock_blocks(group)));
        }
        let tables = place_tables(&geometry, 0..geometry.groups_count, &mut space)?;
        let table_blocks = space.count_taken(0..geometry.blocks_count);
        let journal_blocks = journal_blocks(options.journal, geometry.blocks_count, table_blocks)?;

        let mut next_inode = FIRST_INO.get();
        let mut new_inode = || {
            let inode = InodeNumber(next_inode);
            next_inode += 1;
            inode
        };
        let root = space.allocate_file("the root directory", 0, 1)?;
        let lost_and_found = match options.lost_and_found {
            true => {
                new_inode(); // FIRST_INO
                Some(space.allocate_file("lost+found", 0, LOST_AND_FOUND_BLOCKS)?)
            }
            false => None,
        };
        let resize_dind = match geometry.resize_inode {
            true => Some(BlockNumber(space.allocate("the resize inode", 0, 1)?)),
            false => None,
        };
        let journal = match journal_blocks {
            0 => None,
            blocks => {
                let goal = geometry.group_start(journal_group(&geometry, &space));
                Some(space.allocate_file("the journal", goal, blocks)?)
            }
        };
        let mut quota_files = Vec::new();
        if options.quota {
            for (kind, inode) in [
                (QuotaKind::User, USR_QUOTA_INO),
                (QuotaKind::Group, GRP_QUOTA_INO),
                (QuotaKind::Project, new_inode()),
            ] {
                let contents = quota_file(kind, &usages(options, kind));
                let blocks = (contents.len() as u64).div_ceil(BLOCK_SIZE);
                let map = space.allocate_file("a quota file", 0, blocks)?;
                quota_files.push(QuotaPlan {
                    kind,
                    inode,
                    map,
                    contents,
                });
            }
        }
        let orphan_file = match options.orphan_file {
            true => {
                let blocks = default_orphan_blocks(geometry.blocks_count);
                Some((
                    new_inode(),
                    space.allocate_file("the orphan file", 0, blocks)?,
                ))
            }
            false => None,
        };
        let free_blocks = geometry.blocks_count - space.count_taken(0..geometry.blocks_count);
        Ok(Layout {
            features: features(options, &geometry, journal.is_some()),
            geometry,
            tables,
            space,
            root,
            lost_and_found,
            resize_dind,
            journal,
            quota_files,
            orphan_file,
            used_inodes: next_inode - 1,
            overhead_blocks: table_blocks + journal_blocks,
            asked_blocks: options.size.blocks(),
            free_blocks,
        })
    }

    /// The division into groups.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The features that the image will have.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Blocks at the image's end that no group can use: mke2fs drops a last
    /// group that would hold little more than its own tables.
    pub fn dropped_blocks(&self) -> u64 {
        self.asked_blocks - self.geometry.blocks_count
    }

    /// Blocks in the journal; 0 without one.
    pub fn journal_blocks(&self) -> u64 {
        self.journal.as_ref().map_or(0, FileMap::data_blocks)
    }

    /// Blocks free for files.
    pub fn free_blocks(&self) -> u64 {
        self.free_blocks
    }

    /// Inodes free for files.
    pub fn free_inodes(&self) -> u32 {
        self.geometry
            .inodes_count()
            .saturating_sub(self.used_inodes)
    }

    /// Directories: the root, and `lost+found`.
    pub(in crate::diskimg) fn used_dirs(&self) -> u32 {
        1 + u32::from(self.lost_and_found.is_some())
    }
}

/// What the files of a new image use, by id.
fn usages(options: &Options, kind: QuotaKind) -> Vec<Usage> {
    let root_owner = match kind {
        QuotaKind::User => options.root.uid,
        QuotaKind::Group => options.root.gid,
        QuotaKind::Project => 0,
    };
    let mut usages = vec![Usage {
        id: root_owner,
        bytes: BLOCK_SIZE,
        inodes: 1,
    }];
    if options.lost_and_found {
        let bytes = LOST_AND_FOUND_BLOCKS * BLOCK_SIZE;
        match usages.iter_mut().find(|usage| usage.id == 0) {
            Some(usage) => {
                usage.bytes += bytes;
                usage.inodes += 1;
            }
            None => usages.push(Usage {
                id: 0,
                bytes,
                inodes: 1,
            }),
        }
    }
    usages
}

fn features(options: &Options, geometry: &Geometry, journal: bool) -> Features {
    use Feature as F;
    let always = [
        F::ExtAttr,
        F::DirIndex,
        F::Filetype,
        F::Extent,
        F::Bit64,
        F::FlexBg,
        F::MetadataCsumSeed,
        F::SparseSuper,
        F::LargeFile,
        F::HugeFile,
        F::DirNlink,
        F::ExtraIsize,
        F::MetadataCsum,
    ];
    let mut features = always.into_iter().fold(Features::default(), Features::with);
    features.set(F::HasJournal, journal);
    features.set(F::ResizeInode, geometry.resize_inode);
    features.set(F::Quota, options.quota);
    features.set(F::Project, options.quota);
    features.set(F::OrphanFile, options.orphan_file);
    features
}

/// The journal's length. One given by the caller may fill half of what the
/// tables leave, as with mke2fs.
fn journal_blocks(
    size: JournalSize,
    blocks_count: u64,
    table_blocks: u64,
) -> Result<u64, OptionError> {
    let most = ((blocks_count - table_blocks) / 2).min(MAX_JOURNAL_BLOCKS);
    match size {
        JournalSize::None => Ok(0),
        JournalSize::Auto => Ok(default_journal_blocks(blocks_count)),
        JournalSize::Blocks(blocks) if (MIN_JOURNAL_BLOCKS..=most).contains(&blocks) => Ok(blocks),
        JournalSize::Blocks(blocks) => Err(OptionError::JournalSize { blocks, most }),
    }
}

/// The group to put the journal in: near the middle of the image, so that no
/// file is far from it, and of the neighbours the one with most room.
fn journal_group(geometry: &Geometry, space: &Space) -> u32 {
    let free = |group: u32| {
        let range = geometry.group_start(group)..geometry.group_end(group);
        range.end - range.start - space.count_taken(range)
    };
    let middle = geometry.group_of(geometry.blocks_count / 2);
    let groups_per_flex = geometry.groups_per_flex();
    let (first, middle) = if middle > groups_per_flex {
        let flex = middle / groups_per_flex * groups_per_flex;
        let start = (flex..geometry.groups_count)
            .find(|group| free(*group) > 0)
            .unwrap_or(0);
        (start, start)
    } else {
        (middle.saturating_sub(1), middle)
    };
    let last = (middle + 1).min(geometry.groups_count - 1);
    (first..=last)
        .rev()
        .max_by_key(|group| free(*group))
        .unwrap_or(first)
}
