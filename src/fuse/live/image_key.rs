//! What a successor has to know of an attached image, in the key that it is kept
//! under.

use crate::diskimg::Attached;
use crate::model::Slot;

const DEVICE_BITS: u32 = 20;
const ERRORS_BITS: u32 = 12;

/// An attached image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImageKey {
    /// The slot of its volume.
    pub(super) slot: u32,
    /// The number of its loop device (minor numbers have 20 bits).
    pub(super) device: u32,
    /// Errors that its file system knew of when it was mounted; 4095 stands for
    /// more.
    pub(super) errors: u64,
}

impl ImageKey {
    /// Of the image of the volume in `slot`.
    pub(super) fn of(slot: Slot, image: &Attached) -> Self {
        Self {
            slot: slot.get(),
            device: image.device(),
            errors: image.errors_before(),
        }
    }

    pub(super) fn encode(self) -> u64 {
        let errors = self.errors.min((1 << ERRORS_BITS) - 1);
        u64::from(self.slot) | u64::from(self.device) << 32 | errors << (32 + DEVICE_BITS)
    }

    pub(super) fn decode(key: u64) -> Self {
        Self {
            slot: key as u32,
            device: (key >> 32) as u32 & ((1 << DEVICE_BITS) - 1),
            errors: key >> (32 + DEVICE_BITS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_what_it_was_made_of() {
        let key = ImageKey {
            slot: u32::MAX,
            device: (1 << 20) - 1,
            errors: 7,
        };
        assert_eq!(ImageKey::decode(key.encode()), key);
        let many = ImageKey {
            errors: 1 << 40,
            ..key
        };
        assert_eq!(ImageKey::decode(many.encode()).errors, 4095);
    }
}
