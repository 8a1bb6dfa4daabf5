//! The unit in which a place allocates space, and in which what is on it is
//! charged.

use serde::{Deserialize, Serialize};

/// An allocation unit in bytes: a power of two, at least 4 KiB.
///
/// Charges are multiples of it. A file system that allocates in larger units
/// (ext4 with `bigalloc`, XFS with an extent size hint, clusters) gives a file
/// of one byte a whole unit, and a charge of 4 KiB would let a volume take many
/// times its limit of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AllocationUnit(u64);

impl AllocationUnit {
    /// What is charged where the host allocates no more than that at a time.
    pub const SMALLEST: Self = Self(4096);

    /// Larger ones are hints that no file system keeps to.
    const LARGEST: u64 = 1 << 30;

    /// The largest unit that is at most `bytes`, but at least the smallest.
    #[must_use]
    pub const fn at_most(bytes: u64) -> Self {
        if bytes <= Self::SMALLEST.0 {
            return Self::SMALLEST;
        }
        let unit = 1 << bytes.ilog2();
        Self(if unit > Self::LARGEST {
            Self::LARGEST
        } else {
            unit
        })
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Whether it is [`SMALLEST`](Self::SMALLEST).
    #[must_use]
    pub const fn is_smallest(&self) -> bool {
        self.0 == Self::SMALLEST.0
    }

    /// The bytes charged for a file of `size` bytes. A size in the last partial
    /// unit below 2^64 (no file system has such files) is charged the largest
    /// multiple of the unit.
    #[must_use]
    pub const fn round_up(self, size: u64) -> u64 {
        match size.checked_next_multiple_of(self.0) {
            Some(bytes) => bytes,
            None => u64::MAX - (self.0 - 1),
        }
    }

    /// The bytes that a file's charge grows by when its size goes from `old` to
    /// `new`; 0 when it shrinks or stays in its last unit.
    #[must_use]
    pub const fn grow(self, old: u64, new: u64) -> u64 {
        self.round_up(new).saturating_sub(self.round_up(old))
    }

    /// The bytes charged for a directory of `size` bytes: at least one unit, as
    /// some file systems have small directories in the inode, and some say 0.
    #[must_use]
    pub const fn directory_bytes(self, size: u64) -> u64 {
        let bytes = self.round_up(size);
        if bytes < self.0 { self.0 } else { bytes }
    }

    /// The bytes charged for the root directory of a volume, which is `size`
    /// bytes large: its first unit, and its inode, are not the volume's.
    #[must_use]
    pub const fn root_bytes(self, size: u64) -> u64 {
        self.directory_bytes(size) - self.0
    }
}

impl Default for AllocationUnit {
    fn default() -> Self {
        Self::SMALLEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rule() {
        let unit = AllocationUnit::SMALLEST;
        for (size, charged) in [(0, 4096), (6, 4096), (4096, 4096), (4097, 8192)] {
            assert_eq!(unit.directory_bytes(size), charged);
            assert_eq!(unit.root_bytes(size), charged - 4096);
        }
        let large = AllocationUnit::at_most(65_536);
        for (size, charged) in [(0, 0), (1, 65_536), (65_536, 65_536), (65_537, 131_072)] {
            assert_eq!(large.round_up(size), charged);
        }
        assert_eq!(large.directory_bytes(0), 65_536);
    }

    #[test]
    fn units_are_powers_of_two() {
        for (bytes, unit) in [
            (0, 4096),
            (512, 4096),
            (8191, 4096),
            (8704, 8192),
            (65_536, 65_536),
            (u64::MAX, 1 << 30),
        ] {
            assert_eq!(AllocationUnit::at_most(bytes).bytes(), unit);
        }
    }

    proptest! {
        #[test]
        fn rounding(size in any::<u64>(), shift in 12_u32..31) {
            let unit = AllocationUnit::at_most(1 << shift);
            let charged = unit.round_up(size);
            prop_assert_eq!(charged % unit.bytes(), 0);
            prop_assert!(charged >= size || size > u64::MAX - unit.bytes());
            prop_assert!(charged.saturating_sub(size) < unit.bytes());
        }

        #[test]
        fn growth_in_steps_is_growth_at_once(
            mut sizes in proptest::collection::vec(0_u64..1 << 50, 2..9),
            shift in 12_u32..31
        ) {
            let unit = AllocationUnit::at_most(1 << shift);
            sizes.sort_unstable();
            let steps: u64 = sizes.windows(2).map(|pair| unit.grow(pair[0], pair[1])).sum();
            prop_assert_eq!(steps, unit.grow(sizes[0], sizes[sizes.len() - 1]));
            prop_assert_eq!(unit.grow(sizes[sizes.len() - 1], sizes[0]), 0);
        }
    }
}
