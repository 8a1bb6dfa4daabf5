//! The numbers that an ext4 image is measured in, each its own type, so that
//! a block number cannot be passed where a group or an inode is meant.
//! Knows no on-disk structure.

use serde::Serialize;
use std::fmt;

use super::error::SizeError;

/// Block size of every image that this module makes: 4096 bytes.
pub const BLOCK_SIZE: u64 = 4096;
/// The same as an index type, for buffers.
pub(in crate::diskimg) const BLOCK_BYTES: usize = 4096;
/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;

/// A block's number, counted from the start of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct BlockNumber(pub(in crate::diskimg) u64);

impl BlockNumber {
    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Byte offset of the block in an image of 4 KiB blocks. The planner
    /// admits no image past [`ImageSize::MAX`], so the product cannot overflow
    /// for its blocks; numbers read from an image are checked first.
    pub(in crate::diskimg) const fn offset(self) -> u64 {
        self.0.saturating_mul(BLOCK_SIZE)
    }
}

impl fmt::Display for BlockNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A block group's number, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct GroupNumber(pub(in crate::diskimg) u32);

impl GroupNumber {
    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for GroupNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An inode's number, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct InodeNumber(pub(in crate::diskimg) u32);

impl InodeNumber {
    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// How large an image file is: a multiple of 4 KiB from 8 MiB to 64 TiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ImageSize(u64);

impl ImageSize {
    /// The smallest: below 2048 blocks ext4 has no room for its journal.
    pub const MIN: ImageSize = ImageSize(8 * MIB);
    /// The largest that is tested.
    pub const MAX: ImageSize = ImageSize(64 << 40);

    /// A size in bytes.
    ///
    /// # Errors
    /// Below [`Self::MIN`], above [`Self::MAX`], or not a multiple of a block.
    pub const fn from_bytes(bytes: u64) -> Result<Self, SizeError> {
        if bytes < Self::MIN.0 {
            Err(SizeError::TooSmall { bytes })
        } else if bytes > Self::MAX.0 {
            Err(SizeError::TooLarge { bytes })
        } else if !bytes.is_multiple_of(BLOCK_SIZE) {
            Err(SizeError::NotBlocks { bytes })
        } else {
            Ok(ImageSize(bytes))
        }
    }

    /// A size in MiB.
    ///
    /// # Errors
    /// As [`Self::from_bytes`].
    pub const fn from_mib(mib: u64) -> Result<Self, SizeError> {
        Self::from_bytes(mib.saturating_mul(MIB))
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The size in whole 4 KiB blocks.
    pub const fn blocks(self) -> u64 {
        self.0 / BLOCK_SIZE
    }
}

/// A point in time as ext4 can store it: whole seconds since 1970, up to the
/// year 2446 (34 bits in an inode of 256 bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(u64);

impl std::fmt::Display for Timestamp {
    /// RFC 3339, UTC.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // OK to fall back to 1970: MAX_SECONDS is far below the year 9999.
        let time = jiff::Timestamp::from_second(self.0.cast_signed()).unwrap_or_default();
        write!(f, "{time}")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Timestamp {
    /// The last second that ext4's 2-bit epoch extension reaches.
    pub const MAX_SECONDS: u64 = 0x3_7fff_ffff;

    /// Seconds since 1970, or nothing if ext4 cannot store them.
    pub const fn from_seconds(seconds: u64) -> Option<Self> {
        if seconds <= Self::MAX_SECONDS {
            Some(Timestamp(seconds))
        } else {
            None
        }
    }

    /// Seconds since 1970, or the last that ext4 can store.
    pub(in crate::diskimg) const fn clamped(seconds: u64) -> Self {
        if seconds <= Self::MAX_SECONDS {
            Timestamp(seconds)
        } else {
            Timestamp(Self::MAX_SECONDS)
        }
    }

    /// The host's clock; 1970 or the year 2446 if it is outside ext4's range.
    ///
    /// As of the last tick, as the kernel (`ktime_get_real_seconds`) and time(2)
    /// have it: at the turn of a second the exact time is ahead of what e2fsck
    /// takes for the present, which would find the superblock written in the
    /// future.
    pub fn now() -> Self {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME_COARSE);
        let seconds = now.map_or(0, |now| now.tv_sec());
        Timestamp::clamped(u64::try_from(seconds).unwrap_or(0))
    }

    /// Seconds since 1970.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// The low 32 bits, for `i_mtime`, `s_wtime` and the like.
    pub(in crate::diskimg) const fn low(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// The high 8 bits of a superblock time stamp (`s_wtime_hi`).
    pub(in crate::diskimg) const fn superblock_high(self) -> u8 {
        ((self.0 >> 32) & 0xff) as u8
    }

    /// `i_mtime_extra` and its like: the epoch in the low 2 bits, no
    /// nanoseconds. The low word counts as signed, hence the rounding.
    pub(in crate::diskimg) const fn inode_extra(self) -> u32 {
        (((self.0 + 0x8000_0000) >> 32) & 3) as u32
    }
}

#[cfg(test)]
mod tests {
    use nix::time::{ClockId, clock_gettime};

    use super::*;

    #[test]
    fn no_time_stamp_is_ahead_of_what_e2fsck_takes_for_now() {
        let seconds = |clock| clock_gettime(clock).unwrap().tv_sec().cast_unsigned();
        let mut turns = 0;
        // Moments after the turn of a second and before the next tick: there are
        // some every second.
        while turns < 3 {
            let exact = seconds(ClockId::CLOCK_REALTIME);
            let stamp = Timestamp::now().seconds();
            let tick = seconds(ClockId::CLOCK_REALTIME_COARSE);
            assert!(stamp <= tick, "{stamp} is after {tick}");
            turns += u32::from(tick < exact);
        }
    }
}
