//! What file system a directory is on, as far as that tells how directories
//! grow, and who keeps it.

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

/// Who keeps a file system, and so who can fail behind the kernel's back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The kernel, on a disk or in memory of this machine.
    Kernel,
    /// A process, of this machine or of the one that runs it (FUSE, virtiofs).
    Process,
    /// Another machine.
    Network,
}

// linux/magic.h, and the headers of file systems outside of the kernel.
const FUSE_SUPER_MAGIC: u64 = 0x6573_5546;
const NETWORK: [u64; 14] = [
    0x6969,      // NFS_SUPER_MAGIC
    0x517b,      // SMB_SUPER_MAGIC
    0xff53_4d42, // CIFS_SUPER_MAGIC
    0xfe53_4d42, // SMB2_SUPER_MAGIC
    0x0102_1997, // V9FS_MAGIC
    0x00c3_6400, // CEPH_SUPER_MAGIC
    0x5346_414f, // AFS_SUPER_MAGIC
    0x6b41_4653, // AFS_FS_MAGIC
    0x7375_7245, // CODA_SUPER_MAGIC
    0x0bd0_0bd0, // Lustre
    0x1983_0326, // BeeGFS
    0x4750_4653, // GPFS
    0x786f_4256, // vboxsf
    0xbacb_acbc, // vmhgfs
];

impl Server {
    /// Of the file system that `dir` is on.
    ///
    /// # Errors
    /// As `fstatfs(2)`.
    pub fn of(dir: impl AsFd) -> Result<Self> {
        let FsType(magic) = fstatfs(dir.as_fd())?.filesystem_type();
        #[allow(clippy::cast_sign_loss)] // its type is the machine's, and has 32 bits
        let magic = magic as u64 & 0xffff_ffff;
        Ok(match magic {
            FUSE_SUPER_MAGIC => Self::Process,
            _ if NETWORK.contains(&magic) => Self::Network,
            _ => Self::Kernel,
        })
    }
}

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
        assert_eq!(Server::of(&dir), Ok(Server::Kernel));
    }
}
