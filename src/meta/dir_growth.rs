//! By how much a directory of the host's file system may grow when a name is
//! made in it: what has to be reserved before.
//!
//! Pure arithmetic, of sizes in bytes (`st_size`). A bound may be too large, and
//! then refuses a name near the limit of a volume; it is never too small.

use crate::model::AllocationUnit;
use crate::sys::filesystem::Filesystem;

/// How directories of a file system grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirGrowth {
    filesystem: Filesystem,
    unit: AllocationUnit,
}

/// `EXT4_TAIL_CHECKSUM`: `struct ext4_dir_entry_tail`, fs/ext4/ext4.h.
const EXT_TAIL: u64 = 12;
/// Bytes of an entry but for its name, and of the hash of directories that are
/// both encrypted and case-insensitive: `ext4_dir_rec_len`, fs/ext4/ext4.h.
const EXT_ENTRY: u64 = 8 + 8;
/// An encrypted name is padded to a multiple of so many bytes, at most
/// (`FSCRYPT_POLICY_FLAGS_PAD_32`).
const EXT_NAME: u64 = 32;
/// `BOGO_DIRENT_SIZE`, include/linux/shmem_fs.h.
const TMPFS_ENTRY: u64 = 20;

impl DirGrowth {
    /// On `filesystem`, which allocates in units of `unit`.
    #[must_use]
    pub const fn of(filesystem: Filesystem, unit: AllocationUnit) -> Self {
        Self { filesystem, unit }
    }

    /// Whether what is overwritten is written elsewhere, and the old extent stays
    /// while any block of it is referenced.
    #[must_use]
    pub const fn copies_on_write(self) -> bool {
        matches!(self.filesystem, Filesystem::Btrfs)
    }

    /// The size that a new directory has at most.
    #[must_use]
    pub const fn made(self) -> u64 {
        match self.filesystem {
            Filesystem::Ext { block } => block,
            // In the inode, or nothing.
            Filesystem::Xfs { .. } | Filesystem::Btrfs | Filesystem::Tmpfs => 0,
            Filesystem::Other => unknown(0),
        }
    }

    /// The size that a directory of `size` bytes has at most when a name of
    /// `name` bytes has been added.
    #[must_use]
    pub fn added(self, size: u64, name: usize) -> u64 {
        match self.filesystem {
            // In the inode (inline_data): it becomes one block
            // (ext4_try_add_inline_entry, fs/ext4/inline.c).
            Filesystem::Ext { block } if size < block => block,
            // One block becomes the root of an index and two leaves
            // (make_indexed_dir, which calls do_split; fs/ext4/namei.c).
            Filesystem::Ext { block } if size == block => size.saturating_add(2 * block),
            // ext4_dx_add_entry: a leaf is split (do_split), and each level of
            // the index but the highest, or there is a new level. Three levels
            // with large_dir, where the highest has its own blocks: at most two
            // of the index. Without an index, one block.
            Filesystem::Ext { block } => size.saturating_add(3 * block),
            // From the inode into one block (xfs_dir2_sf_to_block), where an entry
            // takes three times as much at most: 8 and 24 bytes, of one letter.
            Filesystem::Xfs { dir_block } if size <= dir_block / 4 => dir_block,
            // One block of data (xfs_dir2_leaf_addname, xfs_dir2_node_addname);
            // those of the index are not in the size.
            Filesystem::Xfs { dir_block } => {
                let whole = size.checked_next_multiple_of(dir_block).unwrap_or(size);
                whole.saturating_add(dir_block)
            }
            // The length of the name twice (btrfs_add_link, fs/btrfs/inode.c).
            Filesystem::Btrfs => size.saturating_add(2 * name as u64),
            Filesystem::Tmpfs => size.saturating_add(TMPFS_ENTRY),
            Filesystem::Other => unknown(size),
        }
    }

    /// As [`added`](Self::added), when a name gets another inode.
    #[must_use]
    pub fn replaced(self, size: u64) -> u64 {
        match self.filesystem {
            // In place: ext4_setent; the same name taken off and added again
            // (btrfs_rename, shmem_rename2).
            Filesystem::Ext { .. } | Filesystem::Btrfs | Filesystem::Tmpfs => size,
            // The first number above 32 bits makes all numbers in the inode
            // longer (xfs_dir2_sf_replace).
            Filesystem::Xfs { dir_block } if size < dir_block => self.added(size, 0),
            Filesystem::Xfs { .. } => size,
            Filesystem::Other => unknown(size),
        }
    }

    /// The charged bytes that come with a growth from `size` to `most`.
    #[must_use]
    pub const fn charge(self, size: u64, most: u64) -> u64 {
        let before = self.unit.directory_bytes(size);
        self.unit.directory_bytes(most).saturating_sub(before)
    }

    /// Whether a name of `name` bytes surely finds room in a directory of `size`
    /// bytes without its growing; `names` gives the lengths of those in it, with
    /// `.` and `..`, and is not asked where that cannot be said.
    pub fn surely_fits<I: IntoIterator<Item = usize>>(
        self,
        size: u64,
        name: usize,
        names: impl FnOnce() -> Option<I>,
    ) -> bool {
        // One block has no index. Each entry has the free bytes up to the next
        // one, and the new one goes where there are enough for it
        // (ext4_find_dest_de): if it fitted nowhere, each would have fewer.
        let Filesystem::Ext { block } = self.filesystem else {
            return false;
        };
        let entry = |len: usize| EXT_ENTRY + (len as u64).next_multiple_of(EXT_NAME);
        if size != block || block < 2 * entry(255) {
            return false;
        }
        let Some(names) = names() else {
            return false;
        };
        let (taken, count) = names.into_iter().fold((0, 0), |(taken, count), len| {
            (taken + entry(len), count + 1)
        });
        let free = (block - EXT_TAIL).saturating_sub(taken);
        free > count * (entry(name) - 1)
    }
}

/// Of a file system that nothing is known of: as of f2fs, which has the most
/// that we know. A level of its hash table is twice the one before, and a name
/// may be the first in a new one (f2fs_add_regular_entry, fs/f2fs/dir.c).
const fn unknown(size: u64) -> u64 {
    size.saturating_mul(4).saturating_add(64 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXT4: DirGrowth = on(Filesystem::Ext { block: 4096 });

    const fn on(filesystem: Filesystem) -> DirGrowth {
        DirGrowth::of(filesystem, AllocationUnit::SMALLEST)
    }

    #[test]
    fn what_a_name_may_cost() {
        let cost = |growth: DirGrowth, size| growth.charge(size, growth.added(size, 255));
        assert_eq!(cost(EXT4, 60), 0);
        assert_eq!(cost(EXT4, 4096), 8192);
        assert_eq!(cost(EXT4, 12_288), 12_288);
        assert_eq!(EXT4.replaced(12_288), 12_288);
        let small = on(Filesystem::Ext { block: 1024 });
        assert_eq!((cost(small, 1024), cost(small, 2048)), (0, 4096));
        let xfs = on(Filesystem::Xfs { dir_block: 4096 });
        assert_eq!((cost(xfs, 6), cost(xfs, 4096)), (0, 4096));
        let btrfs = on(Filesystem::Btrfs);
        assert_eq!((cost(btrfs, 0), cost(btrfs, 3586)), (0, 0));
        assert_eq!(cost(btrfs, 3587), 4096);
        assert_eq!(cost(on(Filesystem::Tmpfs), 4080), 4096);
        let clusters = AllocationUnit::at_most(65_536);
        let bigalloc = DirGrowth::of(Filesystem::Ext { block: 4096 }, clusters);
        assert_eq!((cost(bigalloc, 4096), cost(bigalloc, 61_440)), (0, 65_536));
    }

    #[test]
    fn names_that_surely_fit() {
        let fits =
            |names: usize, name| EXT4.surely_fits(4096, name, || Some((0..names).map(|_| 3)));
        assert!(fits(2, 255) && fits(12, 3) && fits(30, 20));
        assert!(!fits(43, 3) && !fits(14, 255));
        let never = || -> Option<Vec<usize>> { unreachable!() };
        assert!(!EXT4.surely_fits(12_288, 3, never));
    }
}
