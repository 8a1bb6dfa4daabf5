//! The hidden files in which the kernel counts usage per user, group and
//! project: quota format vfsv1, a radix tree of 1 KiB blocks. Holds what a
//! fresh image uses; knows nothing of where the file lies.

use super::bytes::LeField;

/// Size of a tree block in bytes.
const QT_BLKSIZE: usize = 1024;
/// Levels above the blocks with entries; each takes 8 bits of the id.
const QT_TREEDEPTH: u32 = 4;
/// Size of `qt_disk_dqdbheader`, at the start of a block with entries.
const DQDB_HEADER_BYTES: usize = 16;
/// Size of `v2r1_disk_dqblk`, an entry.
const DQBLK_BYTES: usize = 72;
/// Default grace times, in seconds: a week.
const GRACE_SECONDS: u32 = 7 * 24 * 3600;

/// What a quota file counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::diskimg) enum QuotaKind {
    /// Users.
    User,
    /// Groups.
    Group,
    /// Projects.
    Project,
}

impl QuotaKind {
    /// `dqh_magic`.
    const fn magic(self) -> u32 {
        match self {
            QuotaKind::User => 0xd9c0_1f11,
            QuotaKind::Group => 0xd9c0_1927,
            QuotaKind::Project => 0xd9c0_3f14,
        }
    }
}

/// What one id uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::diskimg) struct Usage {
    /// User, group or project.
    pub(in crate::diskimg) id: u32,
    /// Allocated bytes.
    pub(in crate::diskimg) bytes: u64,
    /// Inodes.
    pub(in crate::diskimg) inodes: u64,
}

/// The file's contents, whole 1 KiB blocks: header, tree, and one block of
/// entries. At most 14 usages with distinct ids: a fresh image has two.
pub(in crate::diskimg) fn quota_file(kind: QuotaKind, usages: &[Usage]) -> Vec<u8> {
    let mut file = vec![0u8; 2 * QT_BLKSIZE]; // header, root of the tree
    let mut entries: Option<usize> = None;
    for (index, usage) in usages.iter().enumerate() {
        let mut node = 1;
        for level in 0..QT_TREEDEPTH {
            let slot = (usage.id >> (8 * (QT_TREEDEPTH - 1 - level))) & 0xff;
            let reference = node * QT_BLKSIZE + slot as usize * 4;
            let leaf = level == QT_TREEDEPTH - 1;
            node = match u32::get(&file, reference) {
                0 => {
                    let child = match entries {
                        Some(block) if leaf => block,
                        _ => append_block(&mut file),
                    };
                    (child as u32).put(&mut file, reference);
                    child
                }
                child => child as usize,
            };
        }
        entries = Some(node);
        put_entry(&mut file, node, index, usage);
    }
    put_header(&mut file, kind, entries);
    file
}

fn append_block(file: &mut Vec<u8>) -> usize {
    let block = file.len() / QT_BLKSIZE;
    file.resize(file.len() + QT_BLKSIZE, 0);
    block
}

/// `v2r1_disk_dqblk`: id, then limits (0: none) and usage in 64 bits each.
fn put_entry(file: &mut [u8], block: usize, index: usize, usage: &Usage) {
    let start = block * QT_BLKSIZE;
    (index as u16 + 1).put(file, start + 8); // dqdh_entries
    let at = start + DQDB_HEADER_BYTES + index * DQBLK_BYTES;
    usage.id.put(file, at); // dqb_id
    usage.inodes.put(file, at + 24); // dqb_curinodes
    usage.bytes.put(file, at + 48); // dqb_curspace
}

/// `v2_disk_dqheader` and `v2_disk_dqinfo`.
fn put_header(file: &mut [u8], kind: QuotaKind, entries: Option<usize>) {
    kind.magic().put(file, 0); // dqh_magic
    1u32.put(file, 4); // dqh_version: 64-bit entries
    GRACE_SECONDS.put(file, 8); // dqi_bgrace
    GRACE_SECONDS.put(file, 12); // dqi_igrace
    ((file.len() / QT_BLKSIZE) as u32).put(file, 20); // dqi_blocks
    (entries.unwrap_or(0) as u32).put(file, 28); // dqi_free_entry
}
