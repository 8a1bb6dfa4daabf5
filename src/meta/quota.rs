//! What an inode is charged: the pure arithmetic of quotas.
//!
//! Knows no volume, no counter and no limit; see [`super::Account`] for those.

use nix::sys::stat::{FileStat, SFlag};

use crate::model::{Bytes, Usage};

/// Bytes are charged in units of this size. A power of two.
pub const BLOCK: u64 = 4096;

/// Extended attributes are not charged. In a volume with a limit of bytes an
/// inode holds at most so many bytes of them, names and values together, so
/// that a limit of inodes bounds them too. ext4 without `ea_inode` has about as
/// much room (one block).
pub const ATTRIBUTES_MOST: usize = 4096;

/// What decides the charge of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inode {
    /// A regular file of this size in bytes. Size, not allocated blocks: the
    /// same on every host file system, and a sparse file cannot hide from it.
    File {
        /// `st_size`.
        size: u64,
    },
    /// A directory of this size in bytes on the host: what its names take,
    /// and what it once took where the file system keeps that.
    Directory {
        /// `st_size`.
        size: u64,
    },
    /// A symbolic link, fifo, socket or device node.
    Other,
}

impl Inode {
    /// Of an inode of the host.
    #[must_use]
    pub fn of(stat: &FileStat) -> Self {
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => Self::File {
                size: stat.st_size.unsigned_abs(),
            },
            SFlag::S_IFDIR => Self::Directory {
                size: stat.st_size.unsigned_abs(),
            },
            _ => Self::Other,
        }
    }

    /// Whether it is a directory.
    #[must_use]
    pub const fn is_directory(self) -> bool {
        matches!(self, Self::Directory { .. })
    }
}

/// What one inode is charged. Hard links share the charge of their inode.
#[must_use]
pub const fn charge(inode: Inode) -> Usage {
    let bytes = match inode {
        Inode::File { size } => round_up(size),
        Inode::Directory { size } => directory_bytes(size),
        Inode::Other => 0,
    };
    Usage {
        bytes: Bytes(bytes),
        inodes: 1,
    }
}

/// The bytes charged for a directory of `size` bytes: at least one block, as
/// some file systems have small directories in the inode, and some say 0.
#[must_use]
pub const fn directory_bytes(size: u64) -> u64 {
    let bytes = round_up(size);
    if bytes < BLOCK { BLOCK } else { bytes }
}

/// The bytes charged for the root directory of a volume, which is `size` bytes
/// large: its first block, and its inode, are not the volume's.
#[must_use]
pub const fn root_bytes(size: u64) -> u64 {
    directory_bytes(size) - BLOCK
}

/// The bytes charged for a file of `size` bytes. A size in the last partial
/// block below 2^64 (no file system has such files) is charged the largest
/// multiple of [`BLOCK`].
#[must_use]
pub const fn round_up(size: u64) -> u64 {
    match size.checked_next_multiple_of(BLOCK) {
        Some(bytes) => bytes,
        None => u64::MAX - (BLOCK - 1),
    }
}

/// The bytes that a file's charge grows by when its size goes from `old` to
/// `new`; 0 when it shrinks or stays in its last block.
#[must_use]
pub const fn grow(old: u64, new: u64) -> u64 {
    round_up(new).saturating_sub(round_up(old))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rule() {
        let bytes = |inode| charge(inode).bytes.0;
        for (size, charged) in [(0, 0), (1, 4096), (4096, 4096), (4097, 8192)] {
            assert_eq!(bytes(Inode::File { size }), charged);
        }
        for (size, charged) in [(0, 4096), (6, 4096), (4096, 4096), (4097, 8192)] {
            assert_eq!(bytes(Inode::Directory { size }), charged);
            assert_eq!(root_bytes(size), charged - 4096);
        }
        assert_eq!(bytes(Inode::Other), 0);
        assert_eq!(charge(Inode::Other).inodes, 1);
    }

    proptest! {
        #[test]
        fn rounding(size in any::<u64>()) {
            let charged = round_up(size);
            prop_assert_eq!(charged % BLOCK, 0);
            prop_assert!(charged >= size || size > u64::MAX - BLOCK);
            prop_assert!(charged.saturating_sub(size) < BLOCK);
        }

        #[test]
        fn growth_in_steps_is_growth_at_once(
            mut sizes in proptest::collection::vec(0_u64..1 << 50, 2..9)
        ) {
            sizes.sort_unstable();
            let steps: u64 = sizes.windows(2).map(|pair| grow(pair[0], pair[1])).sum();
            prop_assert_eq!(steps, grow(sizes[0], sizes[sizes.len() - 1]));
            prop_assert_eq!(grow(sizes[sizes.len() - 1], sizes[0]), 0);
        }
    }
}
