//! Node ids: what the kernel and `ls -i` know an inode by.
//!
//! A node id means something without the memory of the process that gave it
//! out: it is the volume's slot and the host's inode number. So it is the same
//! after forget, unmount and remount, and differs between volumes.

use crate::model::{Serial, Slot};

/// Bits of a node id that hold the host's inode number. Enough for ext4 (32),
/// btrfs and tmpfs (counters), and XFS up to 512 TiB.
const INO_BITS: u32 = 40;

/// A node id; also the `st_ino` that programs see.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

/// An inode number of the host file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostIno(pub u64);

/// Tells nodes with one id apart: a later volume in the same slot, or a later
/// inode with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(pub u64);

impl NodeId {
    /// The mount's root (`FUSE_ROOT_ID`, `linux/fuse.h`).
    pub const ROOT: Self = Self(1);

    /// No node: an entry reply with it says that the name does not exist.
    pub const NONE: Self = Self(0);

    /// A node of the control tree; `number` is 2 or more.
    #[must_use]
    pub const fn control(number: u32) -> Self {
        Self(number as u64)
    }

    /// The node of inode `ino` in the volume at `slot`; `None` when the
    /// number has more than 40 bits.
    #[must_use]
    pub const fn new(slot: Slot, ino: HostIno) -> Option<Self> {
        if ino.0 >> INO_BITS != 0 {
            return None;
        }
        Some(Self((slot.get() as u64) << INO_BITS | ino.0))
    }

    /// Stands for the root of a volume whose files are missing. No host inode
    /// has number 0.
    #[must_use]
    pub const fn missing(slot: Slot) -> Self {
        Self((slot.get() as u64) << INO_BITS)
    }

    /// From the kernel.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// As the kernel sees it.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The slot of the volume that the node is in; `None` for the mount's root
    /// and the control tree.
    #[must_use]
    pub fn slot(self) -> Option<Slot> {
        u32::try_from(self.0 >> INO_BITS).ok().and_then(Slot::new)
    }

    /// The inode number on the host.
    #[must_use]
    pub const fn ino(self) -> HostIno {
        HostIno(self.0 & ((1 << INO_BITS) - 1))
    }
}

impl std::fmt::Debug for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.slot() {
            Some(slot) => write!(f, "node {}:{}", slot.get(), self.ino().0),
            None => write!(f, "node {}", self.0),
        }
    }
}

impl Generation {
    /// The generation of nodes that are not in a volume.
    pub const FIXED: Self = Self(0);

    /// From the volume and the host's inode generation.
    #[must_use]
    pub const fn new(volume: Serial, inode: u32) -> Self {
        Self((volume.0 as u64 & 0xffff_ffff) << 32 | inode as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_is_slot_and_inode() {
        let slot = Slot::new(7).unwrap();
        let node = NodeId::new(slot, HostIno(12)).unwrap();
        assert_eq!(node.slot(), Some(slot));
        assert_eq!(node.ino(), HostIno(12));
        assert!(NodeId::new(slot, HostIno(1 << 40)).is_none());
        assert_eq!(NodeId::ROOT.slot(), None);
        assert_eq!(NodeId::control(5).slot(), None);
        let last = NodeId::new(Slot::new(Slot::MAX).unwrap(), HostIno((1 << 40) - 1)).unwrap();
        assert!(i64::try_from(last.raw()).is_ok());
    }
}
