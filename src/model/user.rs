//! What all volumes of one user may take together.

use serde::{Deserialize, Serialize};

use super::{AllocationUnit, Bytes, Limits};

/// The limits of each user on volumes, theirs in the trash included; `None` is
/// no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLimits {
    /// The most volumes.
    pub volumes: Option<u64>,
    /// The most bytes in them, by the charging rule of [`Usage`](super::Usage).
    pub bytes: Option<Bytes>,
    /// The most inodes in them.
    pub inodes: Option<u64>,
}

impl UserLimits {
    /// Whether there is a limit on what is in volumes.
    #[must_use]
    pub const fn is_on_contents(&self) -> bool {
        self.bytes.is_some() || self.inodes.is_some()
    }

    /// The most inodes; with a limit of bytes alone, as of a volume
    /// ([`Limits::inodes_in_force`]).
    #[must_use]
    pub fn inodes_in_force(&self) -> Option<u64> {
        let limits = Limits {
            bytes: self.bytes,
            inodes: self.inodes,
        };
        limits.inodes_in_force(AllocationUnit::SMALLEST)
    }
}
