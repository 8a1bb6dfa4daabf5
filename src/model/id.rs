//! What identifies a volume: permanently ([`VolumeId`], [`Serial`]) and inside a
//! node id ([`Slot`]).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The identity of a volume for its whole life, and the name of its directory
/// in the store. A random UUID, written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId(uuid::Uuid);

/// A text that is not a [`VolumeId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a volume id (32 lower-case hexadecimal digits)")]
pub struct InvalidId(String);

impl VolumeId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4())
    }

    /// A number for `name` in the directory with number `parent`: always the
    /// same, and not to be foretold without the id (RFC 9562, version 5).
    #[must_use]
    pub fn number_of(self, parent: u64, name: &[u8]) -> u64 {
        let mut key = parent.to_le_bytes().to_vec();
        key.extend_from_slice(name);
        uuid::Uuid::new_v5(&self.0, &key).as_u64_pair().1
    }
}

impl FromStr for VolumeId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId(text.to_owned());
        let uuid = uuid::Uuid::try_parse(text).map_err(|_| invalid())?;
        // One spelling only: an id is compared with directory names.
        if uuid.simple().to_string() != text {
            return Err(invalid());
        }
        Ok(Self(uuid))
    }
}

impl TryFrom<String> for VolumeId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

/// Counts the volumes that a store has ever had; never used twice.
///
/// Its low 32 bits are part of the generation of every node of the volume, so
/// that nodes of a later volume in the same [`Slot`] are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Serial(pub i64);

/// The place of a volume in the node id space: 1 to [`Slot::MAX`].
///
/// A slot is unique among the volumes that exist (trash included) and kept for
/// a volume's whole life. Slot 0 is the mount's own root and control tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Slot(u32);

impl Slot {
    /// Slots are 23 bits: with 40 bits of inode number a node id stays below
    /// 2^63, so that programs that hold an inode number in a signed type work.
    pub const MAX: u32 = (1 << 23) - 1;

    /// The first.
    pub const FIRST: Self = Self(1);

    /// The slot with this number, if there is one.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number >= 1 && number <= Self::MAX {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The slot's number, 1 to [`Slot::MAX`].
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Slot {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        Self::new(number)
            .ok_or_else(|| format!("{number} is not a volume slot (1 to {})", Self::MAX))
    }
}

impl From<Slot> for u32 {
    fn from(slot: Slot) -> Self {
        slot.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id = VolumeId::random();
        assert_eq!(id.to_string().parse::<VolumeId>().unwrap(), id);
        assert_eq!(id.to_string().len(), 32);
        assert!(
            id.to_string().to_uppercase().parse::<VolumeId>().is_err()
                || id.to_string().bytes().all(|b| b.is_ascii_digit())
        );
        for bad in ["", "x", "../../etc", "00000000-0000-0000-0000-000000000000"] {
            assert!(bad.parse::<VolumeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn slot_bounds() {
        assert!(Slot::new(0).is_none());
        assert!(Slot::new(Slot::MAX).is_some());
        assert!(Slot::new(Slot::MAX + 1).is_none());
    }
}
