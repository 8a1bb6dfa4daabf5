//! What file system a directory is on, as far as that tells how directories
//! grow.

use std::os::fd::{AsFd, AsRawFd};

use nix::sys::statfs::{FsType, fstatfs};

use super::{Result, check};

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// ext2, ext3 or ext4.
    Ext {
        /// Bytes of a block.
        block: u64,
    },
    /// XFS.
    Xfs {
        /// Bytes of a block of a directory.
        dir_block: u64,
    },
    /// btrfs.
    Btrfs,
    /// tmpfs.
    Tmpfs,
    /// Any other.
    Other,
}

// linux/magic.h.
const EXT_SUPER_MAGIC: u64 = 0xef53;
const XFS_SUPER_MAGIC: u64 = 0x5846_5342;
const BTRFS_SUPER_MAGIC: u64 = 0x9123_683e;
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// `XFS_MAX_BLOCKSIZE`, fs/xfs/libxfs/xfs_format.h: of directories as well.
const XFS_DIR_BLOCK_MOST: u64 = 64 << 10;

/// `struct xfs_fsop_geom_v1`, fs/xfs/libxfs/xfs_fs.h, as words of 32 bits.
type Geometry = [u32; 28];
/// `dirblocksize` in it: after 8 words, 4 double words, the UUID, and 6 words.
const DIR_BLOCK_SIZE: usize = 26;
/// `XFS_IOC_FSGEOMETRY_V1`: `_IOR('X', 100, struct xfs_fsop_geom_v1)`.
const FSGEOMETRY_V1: libc::Ioctl = 0x8070_5864_u32 as libc::Ioctl;

impl Filesystem {
    /// That `dir` is on, which is open for reading.
    ///
    /// # Errors
    /// As `fstatfs(2)`.
    pub fn of(dir: impl AsFd) -> Result<Self> {
        let found = fstatfs(dir.as_fd())?;
        let FsType(magic) = found.filesystem_type();
        #[allow(clippy::cast_sign_loss)] // its type is the machine's, and has 32 bits
        Ok(match magic as u64 & 0xffff_ffff {
            EXT_SUPER_MAGIC => Self::Ext {
                block: u64::try_from(found.block_size()).unwrap_or(XFS_DIR_BLOCK_MOST),
            },
            XFS_SUPER_MAGIC => Self::Xfs {
                dir_block: xfs_dir_block(dir).unwrap_or(XFS_DIR_BLOCK_MOST),
            },
            BTRFS_SUPER_MAGIC => Self::Btrfs,
            TMPFS_MAGIC => Self::Tmpfs,
            _ => Self::Other,
        })
    }
}

fn xfs_dir_block(dir: impl AsFd) -> Option<u64> {
    let mut geometry: Geometry = [0; 28];
    let fd = dir.as_fd().as_raw_fd();
    // SAFETY: the kernel fills a live buffer of the size that the number of the
    // call says.
    check(unsafe { libc::ioctl(fd, FSGEOMETRY_V1, &raw mut geometry) }).ok()?;
    let size = u64::from(geometry[DIR_BLOCK_SIZE]);
    (size.is_power_of_two() && size <= XFS_DIR_BLOCK_MOST).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_tmpfs() {
        let dir = std::fs::File::open("/dev/shm").unwrap();
        assert_eq!(Filesystem::of(&dir), Ok(Filesystem::Tmpfs));
    }
}
