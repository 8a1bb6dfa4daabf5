//! crc32c as ext4 uses it (no final inversion, chained through a seed), and
//! the crc16 of older images. Knows no structure.

/// The value that an image's checksums start from: `s_checksum_seed`, which
/// is the crc32c of the UUID that the image was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::diskimg) struct ChecksumSeed(u32);

impl ChecksumSeed {
    /// The seed of an image made with this UUID.
    pub(in crate::diskimg) fn of_uuid(uuid: &[u8; 16]) -> Self {
        ChecksumSeed(crc32c(u32::MAX, uuid))
    }

    /// A seed as stored in the superblock.
    pub(in crate::diskimg) const fn stored(s_checksum_seed: u32) -> Self {
        ChecksumSeed(s_checksum_seed)
    }

    /// The number itself.
    pub(in crate::diskimg) const fn get(self) -> u32 {
        self.0
    }

    /// The checksum of `data` under this seed.
    pub(in crate::diskimg) fn over(self, data: &[u8]) -> u32 {
        crc32c(self.0, data)
    }

    /// The seed that everything belonging to one inode (its record, its
    /// directory and extent blocks) is summed with.
    pub(in crate::diskimg) fn of_inode(self, inode: u32, i_generation: u32) -> ChecksumSeed {
        let crc = crc32c(self.0, &inode.to_le_bytes());
        ChecksumSeed(crc32c(crc, &i_generation.to_le_bytes()))
    }
}

/// ext4's crc32c: `crc` in, `crc` out, never inverted.
pub(in crate::diskimg) fn crc32c(crc: u32, data: &[u8]) -> u32 {
    !crc32c::crc32c_append(!crc, data)
}

/// crc16 (polynomial 0xA001), the group descriptor checksum of images with
/// `uninit_bg` (GDT_CSUM) instead of `metadata_csum`.
pub(in crate::diskimg) fn crc16(crc: u16, data: &[u8]) -> u16 {
    data.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                (crc >> 1) ^ 0xa001
            } else {
                crc >> 1
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_is_the_castagnoli_polynomial_without_final_inversion() {
        assert_eq!(!crc32c(u32::MAX, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn crc16_is_the_one_of_the_arc_family() {
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
    }
}
