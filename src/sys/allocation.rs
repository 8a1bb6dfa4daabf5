//! In what units a file system allocates space. None tells: `st_blksize` and
//! `f_frsize` are the units of I/O and of blocks, of which ext4 with `bigalloc`,
//! an extent size hint of XFS or huge pages of tmpfs allocate many at a time. So
//! it is tried.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::errno::Errno;

use super::{Result, check, node};

/// Bytes that a file of one byte takes in `dir`, by a file that is made there
/// for a moment.
///
/// # Errors
/// No file can be made there, or there is no space for it.
pub fn of_smallest_file(dir: &Path) -> Result<u64> {
    let file = tempfile::tempfile_in(dir)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    match node::fallocate(&file, 0, 0, 1) {
        Ok(()) => {}
        // Not space for later: it is seen in what a file takes that is written.
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
            // No file system stores that as less.
            let noise = uuid::Uuid::new_v4();
            (&file)
                .write_all(&noise.as_bytes().repeat(4))
                .and_then(|()| file.sync_all())
                .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        }
        Err(errno) => return Err(errno),
    }
    Ok(blocks(&node::stat(&file)?))
}

/// Bytes that an inode takes, by its `st_blocks`.
#[must_use]
pub fn blocks(stat: &nix::sys::stat::FileStat) -> u64 {
    // Of 512 bytes everywhere on Linux (stat(2)).
    stat.st_blocks.unsigned_abs().saturating_mul(512)
}

/// `struct fsxattr`, linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct Fsxattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// `FS_IOC_FSGETXATTR`: `_IOR('X', 31, struct fsxattr)`.
const FSGETXATTR: libc::Ioctl = 0x801c_581f_u32 as libc::Ioctl;
/// `FS_XFLAG_EXTSZINHERIT`, linux/fs.h: new files get the hint.
const EXTSZINHERIT: u32 = 0x1000;

/// The extent size hint in bytes that files get that are made in `dir`, which is
/// open for reading; 0 where there is none.
#[must_use]
pub fn inherited_hint(dir: impl AsFd) -> u64 {
    let mut found = Fsxattr::default();
    let fd = dir.as_fd().as_raw_fd();
    // SAFETY: the kernel fills a live structure of the size that the number of
    // the call says.
    let asked = check(unsafe { libc::ioctl(fd, FSGETXATTR, &raw mut found) });
    if asked.is_ok() && found.xflags & EXTSZINHERIT != 0 {
        u64::from(found.extsize)
    } else {
        0
    }
}

/// `FS_IOC_GETFLAGS` and `FS_IOC_SETFLAGS`, linux/fs.h.
const GETFLAGS: libc::Ioctl = 0x8008_6601_u32 as libc::Ioctl;
const SETFLAGS: libc::Ioctl = 0x4008_6602_u32 as libc::Ioctl;
/// `FS_NOCOW_FL`, linux/fs.h.
const NOCOW: libc::c_int = 0x0080_0000;

/// Has a file overwritten in place from now on, if it is empty and its file system
/// (btrfs) would write elsewhere, for which it needs space. All others do anyway.
pub fn overwrite_in_place(file: impl AsFd) {
    let fd = file.as_fd().as_raw_fd();
    if !node::stat(&file).is_ok_and(|found| found.st_size == 0) {
        return;
    }
    let mut flags: libc::c_int = 0;
    // SAFETY: the kernel reads and writes an int, whatever the number of the call
    // says of a long (fs/ioctl.c), in a live variable.
    unsafe {
        if libc::ioctl(fd, GETFLAGS, &raw mut flags) == 0 {
            flags |= NOCOW;
            // Refused by all others.
            libc::ioctl(fd, SETFLAGS, &raw const flags);
        }
    }
}

/// `struct fiemap` without extents, linux/fiemap.h.
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
}

/// `FS_IOC_FIEMAP`: `_IOWR('f', 11, struct fiemap)`.
const FIEMAP: libc::Ioctl = 0xc020_660b_u32 as libc::Ioctl;

/// How many extents a file that is open for reading has from byte `start` on,
/// beyond its end as well.
///
/// # Errors
/// `EOPNOTSUPP` or `ENOTTY` where the file system does not tell.
pub fn extents_from(file: impl AsFd, start: u64) -> Result<u32> {
    let mut asked = Fiemap {
        start,
        length: u64::MAX - start,
        flags: 0,
        mapped_extents: 0,
        extent_count: 0,
        reserved: 0,
    };
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the kernel reads and writes a live structure of the size that the
    // number of the call says, and no extents behind it, as it has room for none.
    check(unsafe { libc::ioctl(fd, FIEMAP, &raw mut asked) })?;
    Ok(asked.mapped_extents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_place_allocates_pages() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of_smallest_file(dir.path()), Ok(4096));
        let open = std::fs::File::open(dir.path()).unwrap();
        assert_eq!(inherited_hint(&open), 0);
    }
}
