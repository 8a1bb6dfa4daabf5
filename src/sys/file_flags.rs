//! Flags of inodes that `chattr` sets (ioctl_iflags(2), ioctl_xfs_fsgetxattr(2)).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::{Result, check};

/// `FS_IOC_FSGETXATTR`: `_IOR('X', 31, struct fsxattr)`, linux/fs.h.
pub const GET_EXTENDED: u32 = 0x801c_581f;
/// `FS_IOC_FSSETXATTR`: `_IOW('X', 32, struct fsxattr)`.
pub const SET_EXTENDED: u32 = 0x401c_5820;
/// `FS_IOC_GETFLAGS`: `_IOR('f', 1, long)`, of an int.
pub const GET: u32 = libc::FS_IOC_GETFLAGS as u32;
/// `FS_IOC_SETFLAGS`: `_IOW('f', 2, long)`, of an int.
pub const SET: u32 = libc::FS_IOC_SETFLAGS as u32;

/// `FS_IOC_GETVERSION`: `_IOR('v', 1, long)`, of an int.
pub const GET_GENERATION: u32 = libc::FS_IOC_GETVERSION as u32;

/// Writes are synchronous.
pub const SYNC: u32 = 0x8;
/// Nothing can be changed.
pub const IMMUTABLE: u32 = 0x10;
/// It can only be appended to.
pub const APPEND: u32 = 0x20;
/// dump(8) leaves it out.
pub const NODUMP: u32 = 0x40;
/// Reading changes no access time.
pub const NOATIME: u32 = 0x80;
/// Changes of the directory are synchronous.
pub const DIRSYNC: u32 = 0x1_0000;
/// Contents are not copied on write.
pub const NOCOW: u32 = 0x80_0000;
/// New files get the project id of the directory.
pub const PROJINHERIT: u32 = 0x2000_0000;

/// The same, where `struct fsxattr` has another bit for it.
pub mod extended {
    /// See [`IMMUTABLE`](super::IMMUTABLE).
    pub const IMMUTABLE: u32 = 0x8;
    /// See [`APPEND`](super::APPEND).
    pub const APPEND: u32 = 0x10;
    /// See [`SYNC`](super::SYNC).
    pub const SYNC: u32 = 0x20;
    /// See [`NOATIME`](super::NOATIME).
    pub const NOATIME: u32 = 0x40;
    /// See [`NODUMP`](super::NODUMP).
    pub const NODUMP: u32 = 0x80;
    /// See [`PROJINHERIT`](super::PROJINHERIT).
    pub const PROJINHERIT: u32 = 0x200;
}

/// `struct fsxattr`, linux/fs.h.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// Flags, as in [`extended`].
    pub xflags: u32,
    /// Bytes that are allocated at a time; 0: as the file system likes.
    pub extsize: u32,
    /// How many extents the file has; read only.
    pub nextents: u32,
    /// Its project.
    pub projid: u32,
    /// As `extsize`, of what is copied on write.
    pub cowextsize: u32,
}

impl Extended {
    /// Bytes of the structure.
    pub const LEN: usize = 28;

    /// From its bytes in memory.
    #[must_use]
    pub fn decode(bytes: &[u8; Self::LEN]) -> Self {
        let word = |n: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[4 * n..4 * n + 4]);
            u32::from_ne_bytes(word)
        };
        Self {
            xflags: word(0),
            extsize: word(1),
            nextents: word(2),
            projid: word(3),
            cowextsize: word(4),
        }
    }

    /// Its bytes in memory.
    #[must_use]
    pub fn encode(self) -> [u8; Self::LEN] {
        let words = [
            self.xflags,
            self.extsize,
            self.nextents,
            self.projid,
            self.cowextsize,
        ];
        let mut bytes = [0; Self::LEN];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// A call with a buffer that is as long as the call says.
fn call<T>(fd: BorrowedFd<'_>, request: u32, argument: *mut T) -> Result<()> {
    // SAFETY: each caller passes a live variable of the size that its request
    // reads or writes.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::Ioctl::from(request), argument) }).map(drop)
}

/// The flags.
///
/// # Errors
/// `ENOTTY` or `EOPNOTSUPP` where the file system has none.
pub fn get(fd: impl AsFd) -> Result<u32> {
    let mut flags: libc::c_int = 0;
    call(fd.as_fd(), GET, &raw mut flags)?;
    Ok(flags.cast_unsigned())
}

/// The generation of the inode: another for each file that has its number.
///
/// # Errors
/// As [`get`].
pub fn generation(fd: impl AsFd) -> Result<u32> {
    let mut generation: libc::c_int = 0;
    call(fd.as_fd(), GET_GENERATION, &raw mut generation)?;
    Ok(generation.cast_unsigned())
}

/// Sets all flags.
///
/// # Errors
/// `EPERM` for one who may not; `EOPNOTSUPP` for a flag that the file system has not.
pub fn set(fd: impl AsFd, flags: u32) -> Result<()> {
    let mut flags = flags.cast_signed();
    call(fd.as_fd(), SET, &raw mut flags)
}

/// The extended attributes.
///
/// # Errors
/// As [`get`].
pub fn get_extended(fd: impl AsFd) -> Result<Extended> {
    let mut bytes = [0_u8; Extended::LEN];
    call(fd.as_fd(), GET_EXTENDED, &raw mut bytes)?;
    Ok(Extended::decode(&bytes))
}

/// Sets the extended attributes.
///
/// # Errors
/// As [`set`].
pub fn set_extended(fd: impl AsFd, to: Extended) -> Result<()> {
    let mut bytes = to.encode();
    call(fd.as_fd(), SET_EXTENDED, &raw mut bytes)
}
