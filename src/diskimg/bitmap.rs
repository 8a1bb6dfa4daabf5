//! Block and inode bitmaps: one bit each, least significant first, 1 is used,
//! and every bit past the group's end is 1. Knows no group.

use super::units::BLOCK_BYTES;

/// A bitmap block.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::diskimg) struct Bitmap {
    raw: Box<[u8; BLOCK_BYTES]>,
}

impl Bitmap {
    /// Bits in a bitmap block.
    pub(in crate::diskimg) const BITS: u32 = 8 * BLOCK_BYTES as u32;

    /// All bits below `end` free, the padding used.
    pub(in crate::diskimg) fn free_until(end: u32) -> Self {
        let mut bitmap = Bitmap {
            raw: Box::new([0; BLOCK_BYTES]),
        };
        bitmap.set(end, Self::BITS);
        bitmap
    }

    /// A bitmap as read from an image.
    pub(in crate::diskimg) fn from_bytes(raw: [u8; BLOCK_BYTES]) -> Self {
        Bitmap { raw: Box::new(raw) }
    }

    /// The block's bytes.
    pub(in crate::diskimg) fn as_bytes(&self) -> &[u8; BLOCK_BYTES] {
        &self.raw
    }

    /// The bytes that a group's checksum covers: those of `bits` bits, which
    /// ext4 keeps a multiple of 8.
    pub(in crate::diskimg) fn summed(&self, bits: u32) -> &[u8] {
        let bytes = (bits / 8) as usize;
        &self.raw[..bytes.min(BLOCK_BYTES)]
    }

    /// Marks the bits from `start` up to, not with, `end` as used.
    pub(in crate::diskimg) fn set(&mut self, start: u32, end: u32) {
        self.change(start, end, |byte, mask| *byte |= mask);
    }

    /// Marks the bits from `start` up to, not with, `end` as free.
    pub(in crate::diskimg) fn clear(&mut self, start: u32, end: u32) {
        self.change(start, end, |byte, mask| *byte &= !mask);
    }

    fn change(&mut self, start: u32, end: u32, apply: impl Fn(&mut u8, u8)) {
        let end = end.min(Self::BITS);
        let mut bit = start;
        while bit < end {
            let stop = end.min((bit / 8 + 1) * 8);
            let mask = (((1u16 << (stop - bit)) - 1) << (bit % 8)) as u8;
            apply(&mut self.raw[(bit / 8) as usize], mask);
            bit = stop;
        }
    }

    /// Free bits below `end`.
    pub(in crate::diskimg) fn count_free(&self, end: u32) -> u32 {
        let end = end.min(Self::BITS);
        let whole = (end / 8) as usize;
        let used: u32 = self.raw[..whole].iter().map(|byte| byte.count_ones()).sum();
        let rest = match end % 8 {
            0 => 0,
            bits => (self.raw[whole] & ((1 << bits) - 1)).count_ones(),
        };
        end - used - rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_are_exact(end in 0u32..=Bitmap::BITS, a in 0u32..Bitmap::BITS, b in 0u32..Bitmap::BITS) {
            let (start, stop) = (a.min(b).min(end), a.max(b).min(end));
            let mut bitmap = Bitmap::free_until(end);
            prop_assert_eq!(bitmap.count_free(Bitmap::BITS), end);
            bitmap.set(start, stop);
            prop_assert_eq!(bitmap.count_free(end), end - (stop - start));
            bitmap.clear(start, stop);
            prop_assert!(bitmap == Bitmap::free_until(end));
        }
    }
}
