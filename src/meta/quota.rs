//! What an inode is charged: the pure arithmetic of quotas.
//!
//! Knows no volume, no counter and no limit; see [`super::Account`] for those.

use nix::sys::stat::{FileStat, SFlag};

use crate::model::{AllocationUnit, Bytes, Usage};

/// All charges are multiples of this, whatever the unit of the place.
pub const BLOCK: u64 = AllocationUnit::SMALLEST.bytes();

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

/// What one inode is charged on a place that allocates in units of `unit`. Hard
/// links share the charge of their inode.
#[must_use]
pub const fn charge(inode: Inode, unit: AllocationUnit) -> Usage {
    let bytes = match inode {
        Inode::File { size } => unit.round_up(size),
        Inode::Directory { size } => unit.directory_bytes(size),
        Inode::Other => 0,
    };
    Usage {
        bytes: Bytes(bytes),
        inodes: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule() {
        let bytes = |inode| charge(inode, AllocationUnit::SMALLEST).bytes.0;
        for (size, charged) in [(0, 0), (1, 4096), (4096, 4096), (4097, 8192)] {
            assert_eq!(bytes(Inode::File { size }), charged);
        }
        for (size, charged) in [(0, 4096), (6, 4096), (4096, 4096), (4097, 8192)] {
            assert_eq!(bytes(Inode::Directory { size }), charged);
        }
        assert_eq!(bytes(Inode::Other), 0);
        let other = charge(Inode::Other, AllocationUnit::SMALLEST);
        assert_eq!(other.inodes, 1);
    }
}
