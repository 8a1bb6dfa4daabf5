//! What `df` shows: statfs.

use nix::sys::statvfs::{Statvfs, fstatvfs};

use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::FileSystem;
use crate::fuse::node::NodeId;
use crate::fuse::root;
use crate::fuse::types::StatFs;
use crate::model::{AllocationUnit, Limits, Usage, UserLimits};

impl FileSystem {
    /// Size and free space of the volume that `node` is in.
    ///
    /// # Errors
    /// What the host says to `fstatvfs(3)`.
    pub fn statfs(&self, node: NodeId) -> OpResult<StatFs> {
        if node.slot().is_none() || root::is_missing(node) {
            return Ok(host_figures(&fstatvfs(self.store_ground().any_dir())?));
        }
        let slot = node.slot().ok_or(OpError::VolumeGone)?;
        let volume = self.store.volume_in(slot).ok_or(OpError::VolumeGone)?;
        if let Some(figures) = self.resting_space(&volume) {
            return Ok(figures);
        }
        let host = fstatvfs(self.ground(&volume)?.any_dir())?;
        let (used, limits) = volume.account().snapshot();
        let mut figures = limited(host_figures(&host), used, limits, volume.unit());
        if let Some(pool) = volume.pool_of_contents() {
            let room = (pool.room_bytes(), pool.room_inodes());
            figures.shared_with_others(used, limits, pool.limits(), room);
        }
        Ok(figures)
    }
}

impl StatFs {
    /// No more is free than what is left for all volumes of the user.
    fn shared_with_others(
        &mut self,
        used: Usage,
        limits: Limits,
        of_user: UserLimits,
        (bytes, inodes): (u64, u64),
    ) {
        if of_user.bytes.is_some() {
            let unit = u64::from(self.block_size);
            let taken = used.bytes.0.div_ceil(unit);
            let room = bytes / unit;
            self.free = match limits.bytes {
                Some(_) => self.free.min(room),
                None => room,
            };
            self.blocks = taken + self.free;
            self.available = self.available.min(self.free);
        }
        let free = self.free_inodes_or_many().min(inodes);
        if of_user.is_on_contents() && inodes < u64::MAX {
            self.inodes = used.inodes.saturating_add(free);
            self.free_inodes = free;
        }
    }
}

/// The host's figures, with those of a limited volume in their place. What is
/// used stays exact (blocks less free); what is available is the smaller of
/// the quota's rest and the host's.
fn limited(host: StatFs, used: Usage, limits: Limits, charged: AllocationUnit) -> StatFs {
    let mut fs = host;
    if let Some(limit) = limits.bytes {
        let unit = u64::from(fs.block_size);
        let taken = used.bytes.0.div_ceil(unit);
        // A limit that was lowered below what is used.
        fs.blocks = (limit.0 / unit).max(taken);
        fs.free = fs.blocks - taken;
        fs.available = fs.free.min(host.available);
    }
    // A limit that follows from that of bytes may be more than the host has.
    let of_host = limits.inodes.is_none() && fs.inodes != 0;
    let limit = limits
        .inodes_in_force(charged)
        .filter(|&limit| !of_host || limit < fs.inodes);
    if let Some(limit) = limit {
        fs.inodes = limit.max(used.inodes);
        fs.free_inodes = (fs.inodes - used.inodes).min(host.free_inodes_or_many());
    }
    fs
}

fn host_figures(host: &Statvfs) -> StatFs {
    StatFs {
        block_size: u32::try_from(host.fragment_size()).unwrap_or(4096),
        blocks: host.blocks(),
        free: host.blocks_free(),
        available: host.blocks_available(),
        inodes: host.files(),
        free_inodes: host.files_free(),
        name_max: u32::try_from(host.name_max()).unwrap_or(255),
    }
}

impl StatFs {
    /// btrfs has no inode table and reports none free.
    fn free_inodes_or_many(&self) -> u64 {
        if self.inodes == 0 {
            u64::MAX
        } else {
            self.free_inodes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Bytes;

    const UNIT: AllocationUnit = AllocationUnit::SMALLEST;

    fn host() -> StatFs {
        StatFs {
            block_size: 4096,
            blocks: 1000,
            free: 100,
            available: 50,
            inodes: 900,
            free_inodes: 800,
            name_max: 255,
        }
    }

    fn usage(blocks: u64, inodes: u64) -> Usage {
        Usage {
            bytes: Bytes(blocks * 4096),
            inodes,
        }
    }

    #[test]
    fn a_limit_replaces_the_hosts_figures() {
        let limits = |blocks: u64, inodes| Limits {
            bytes: Some(Bytes(blocks * 4096)),
            inodes: Some(inodes),
        };
        let fs = limited(host(), usage(10, 3), limits(40, 8), UNIT);
        assert_eq!((fs.blocks, fs.free, fs.available), (40, 30, 30));
        assert_eq!((fs.inodes, fs.free_inodes), (8, 5));
        // The host has less left than the quota.
        let fs = limited(host(), usage(10, 3), limits(400, 8), UNIT);
        assert_eq!((fs.blocks, fs.free, fs.available), (400, 390, 50));
        // Lowered below what is used.
        let fs = limited(host(), usage(10, 3), limits(4, 1), UNIT);
        assert_eq!((fs.blocks, fs.free, fs.available), (10, 0, 0));
        assert_eq!((fs.inodes, fs.free_inodes), (3, 0));
        // Of bytes alone: at least 1024 inodes, but the host has 900.
        let bytes = Limits {
            inodes: None,
            ..limits(40, 8)
        };
        let fs = limited(host(), usage(10, 3), bytes, UNIT);
        assert_eq!((fs.inodes, fs.free_inodes), (900, 800));
        let fs = limited(host(), usage(10, 3), Limits::default(), UNIT);
        assert_eq!((fs.blocks, fs.free_inodes), (1000, 800));
    }

    #[test]
    fn what_is_left_for_the_user_bounds_what_is_free() {
        let of_user = UserLimits {
            bytes: Some(Bytes(50 * 4096)),
            inodes: Some(20),
            ..UserLimits::default()
        };
        let shared = |limits: Limits, room| {
            let mut fs = limited(host(), usage(10, 3), limits, UNIT);
            fs.shared_with_others(usage(10, 3), limits, of_user, room);
            (fs.blocks, fs.free, fs.available, fs.inodes, fs.free_inodes)
        };
        let none = Limits::default();
        assert_eq!(shared(none, (7 * 4096, 5)), (17, 7, 7, 8, 5));
        let own = Limits {
            bytes: Some(Bytes(12 * 4096)),
            inodes: None,
        };
        assert_eq!(shared(own, (7 * 4096, 5)), (12, 2, 2, 8, 5));
        assert_eq!(shared(none, (0, 0)), (10, 0, 0, 3, 0));
    }
}
