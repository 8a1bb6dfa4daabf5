//! What makes two images of one layout differ: UUID, hash seed and time. Both
//! of the latter follow from the caller's choice, so that images can be
//! reproduced.

use uuid::Uuid;

use super::checksum::ChecksumSeed;
use super::options::Options;
use super::units::Timestamp;

/// An image's identity.
#[derive(Clone, Copy, Debug)]
pub(in crate::diskimg) struct Identity {
    /// `s_uuid`.
    pub(in crate::diskimg) uuid: [u8; 16],
    /// `s_hash_seed`.
    pub(in crate::diskimg) hash_seed: [u8; 16],
    /// Every time stamp of the new image.
    pub(in crate::diskimg) time: Timestamp,
    /// What checksums start from.
    pub(in crate::diskimg) seed: ChecksumSeed,
}

impl Identity {
    /// What the options say, else random and now.
    pub(in crate::diskimg) fn of(options: &Options) -> Self {
        let uuid = *options.uuid.unwrap_or_else(Uuid::new_v4).as_bytes();
        Identity {
            uuid,
            hash_seed: hash_seed(&uuid),
            time: options.created.unwrap_or_else(Timestamp::now),
            seed: ChecksumSeed::of_uuid(&uuid),
        }
    }
}

/// A directory hash seed that looks independent of the UUID it is made from.
/// It is no secret: whoever reads the image reads it in the superblock.
fn hash_seed(uuid: &[u8; 16]) -> [u8; 16] {
    let number = u128::from_le_bytes(*uuid);
    let low = mix((number as u64) ^ 0x9e37_79b9_7f4a_7c15);
    let high = mix(((number >> 64) as u64) ^ low);
    (u128::from(mix(high)) << 64 | u128::from(low)).to_le_bytes()
}

/// The finaliser of SplitMix64.
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
