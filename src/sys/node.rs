//! System calls on an inode that is held by an `O_PATH` descriptor.
//!
//! Calls that refuse `O_PATH` go through `/proc/self/fd/N`, which leads to the
//! inode itself, also when that is a symbolic link.

use std::ffi::{CStr, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, UtimensatFlags, fstat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};

use super::{Result, check};

/// How every name in a volume is resolved: one component, below `dir`, on the
/// same file system, and never through a link.
const BENEATH: ResolveFlag = ResolveFlag::RESOLVE_BENEATH
    .union(ResolveFlag::RESOLVE_NO_SYMLINKS)
    .union(ResolveFlag::RESOLVE_NO_MAGICLINKS)
    .union(ResolveFlag::RESOLVE_NO_XDEV);

/// Opens `path` below `dir`; nothing in it can lead elsewhere. With
/// `O_PATH | O_NOFOLLOW` a symbolic link at the end is opened itself.
///
/// # Errors
/// `ENOENT`; `ELOOP` for a link on the way; `EXDEV` where it would leave `dir`.
pub fn open_beneath(dir: impl AsFd, path: &OsStr, flags: OFlag, mode: Mode) -> Result<OwnedFd> {
    resolve(dir.as_fd(), path, flags, mode, BENEATH)
}

/// As [`open_beneath`], but symbolic links are followed as far as they stay
/// below `dir`.
///
/// # Errors
/// `ENOENT`; `EXDEV` where it would leave `dir`, or its file system.
pub fn open_inside(dir: impl AsFd, path: &OsStr, flags: OFlag, mode: Mode) -> Result<OwnedFd> {
    let with_links = BENEATH.difference(ResolveFlag::RESOLVE_NO_SYMLINKS);
    resolve(dir.as_fd(), path, flags, mode, with_links)
}

fn resolve(
    dir: BorrowedFd<'_>,
    path: &OsStr,
    flags: OFlag,
    mode: Mode,
    how: ResolveFlag,
) -> Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .mode(mode)
        .resolve(how);
    loop {
        // EAGAIN: a rename elsewhere raced with the walk (openat2(2)).
        match openat2(dir, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Opens the inode itself, of whatever type, without opening its contents.
///
/// # Errors
/// As [`open_beneath`].
pub fn open_path(dir: impl AsFd, path: &OsStr) -> Result<OwnedFd> {
    open_beneath(dir, path, OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty())
}

/// The path that leads to the inode of `fd`, for calls that need a path.
#[must_use]
pub fn proc_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Opens the contents of the inode that `fd` (`O_PATH`) refers to.
///
/// # Errors
/// As `open(2)`.
pub fn reopen(fd: impl AsFd, flags: OFlag) -> Result<OwnedFd> {
    nix::fcntl::open(
        &proc_path(fd.as_fd()),
        (flags - OFlag::O_NOFOLLOW) | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

/// The attributes of the inode.
///
/// # Errors
/// As `fstat(2)`.
pub fn stat(fd: impl AsFd) -> Result<FileStat> {
    fstat(fd)
}

/// Sets the permission bits.
///
/// # Errors
/// As `chmod(2)`.
pub fn chmod(fd: impl AsFd, mode: Mode) -> Result<()> {
    nix::sys::stat::fchmodat(
        AT_FDCWD,
        &proc_path(fd.as_fd()),
        mode,
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )
}

/// Sets owner and group; `None` leaves one as it is.
///
/// # Errors
/// As `chown(2)`.
pub fn chown(fd: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    fchownat(
        fd,
        "",
        uid.map(Uid::from_raw),
        gid.map(Gid::from_raw),
        AtFlags::AT_EMPTY_PATH,
    )
}

/// Sets the size of a regular file, without a descriptor more.
///
/// # Errors
/// As `truncate(2)`.
pub fn truncate(fd: impl AsFd, size: i64) -> Result<()> {
    nix::unistd::truncate(&proc_path(fd.as_fd()), size)
}

/// Sets access and modification time; `TimeSpec::UTIME_NOW` and `UTIME_OMIT`
/// mean what they mean to `utimensat(2)`.
///
/// # Errors
/// As `utimensat(2)`.
pub fn set_times(fd: impl AsFd, atime: &TimeSpec, mtime: &TimeSpec) -> Result<()> {
    utimensat(
        AT_FDCWD,
        &proc_path(fd.as_fd()),
        atime,
        mtime,
        UtimensatFlags::FollowSymlink,
    )
}

/// Gives the inode of `fd` the name `name` in `dir`.
///
/// # Errors
/// As `linkat(2)`.
pub fn link(fd: impl AsFd, dir: impl AsFd, name: &OsStr) -> Result<()> {
    match nix::unistd::linkat(fd.as_fd(), "", dir.as_fd(), name, AtFlags::AT_EMPTY_PATH) {
        // Without CAP_DAC_READ_SEARCH (linkat(2)).
        Err(Errno::ENOENT) => nix::unistd::linkat(
            AT_FDCWD,
            &proc_path(fd.as_fd()),
            dir,
            name,
            AtFlags::AT_SYMLINK_FOLLOW,
        ),
        result => result,
    }
}

/// The target of the symbolic link that `fd` (`O_PATH`) refers to, and how
/// many bytes of `buffer` it fills.
///
/// # Errors
/// As `readlink(2)`; `EINVAL` when it is not a link.
pub fn read_link(fd: impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the path is a C string, the buffer is live and its length true.
    let len = check(unsafe {
        libc::readlinkat(
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    })?;
    Ok(len.unsigned_abs())
}

/// `renameat2(2)` with its flags as the kernel sent them.
///
/// # Errors
/// As `renameat2(2)`.
pub fn rename(
    from_dir: impl AsFd,
    from: &OsStr,
    to_dir: impl AsFd,
    to: &OsStr,
    flags: u32,
) -> Result<()> {
    nix::fcntl::renameat2(
        from_dir,
        from,
        to_dir,
        to,
        nix::fcntl::RenameFlags::from_bits_retain(flags),
    )
}

/// `fallocate(2)` with its mode as the kernel sent it.
///
/// # Errors
/// As `fallocate(2)`; `EFBIG` when a number is above `i64::MAX`.
pub fn fallocate(fd: impl AsFd, mode: i32, offset: u64, len: u64) -> Result<()> {
    let offset = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
    let len = i64::try_from(len).map_err(|_| Errno::EFBIG)?;
    nix::fcntl::fallocate(
        fd,
        nix::fcntl::FallocateFlags::from_bits_retain(mode),
        offset,
        len,
    )
}

/// `lseek(2)` with `SEEK_DATA` or `SEEK_HOLE`, or any other `whence`.
///
/// # Errors
/// As `lseek(2)`; `ENXIO` past the end.
pub fn seek(fd: impl AsFd, offset: i64, whence: i32) -> Result<i64> {
    // SAFETY: plain numbers and a live descriptor.
    check(unsafe { libc::lseek64(fd.as_fd().as_raw_fd(), offset, whence) })
}

/// An inode without its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Type and permission bits.
    pub mode: u32,
    /// Names that it has.
    pub links: u32,
    /// Bytes.
    pub size: u64,
    /// Nothing of it can be changed (`chattr +i`).
    pub immutable: bool,
    /// It can only be appended to (`chattr +a`).
    pub append_only: bool,
}

/// Looks at an inode without asking for its times. Those that were asked for
/// are followed by finer ones with the next change (`inode_set_ctime_current`,
/// fs/inode.c, since Linux 6.13): every write then changes the inode, and every
/// fsync waits for a transaction of the journal.
///
/// # Errors
/// As `statx(2)`.
pub fn shape(fd: impl AsFd) -> Result<Shape> {
    let mask = libc::STATX_TYPE | libc::STATX_MODE | libc::STATX_NLINK | libc::STATX_SIZE;
    let buffer = statx(fd.as_fd(), mask)?;
    let has = |attribute: i32| buffer.stx_attributes & u64::from(attribute.unsigned_abs()) != 0;
    Ok(Shape {
        mode: u32::from(buffer.stx_mode),
        links: buffer.stx_nlink,
        size: buffer.stx_size,
        immutable: has(libc::STATX_ATTR_IMMUTABLE),
        append_only: has(libc::STATX_ATTR_APPEND),
    })
}

/// When the inode was made: seconds since the epoch, and nanoseconds; `None` where the
/// file system does not keep that.
///
/// # Errors
/// As `statx(2)`.
pub fn born(fd: impl AsFd) -> Result<Option<(i64, u32)>> {
    let found = statx(fd.as_fd(), libc::STATX_BTIME)?;
    let has = found.stx_mask & libc::STATX_BTIME != 0;
    Ok(has.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec)))
}

fn statx(fd: BorrowedFd<'_>, mask: u32) -> Result<libc::statx> {
    // SAFETY: all-zero bytes are a valid `statx` buffer.
    let mut buffer: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, the path is a C string and the buffer is
    // live.
    check(unsafe {
        libc::statx(
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            mask,
            &raw mut buffer,
        )
    })?;
    Ok(buffer)
}

/// Has a file system that keeps attributes for a while (FUSE, a network's) ask
/// its server for them now, also for calls that come next.
///
/// # Errors
/// As `statx(2)`.
pub fn refresh(fd: impl AsFd) -> Result<()> {
    // SAFETY: all-zero bytes are a valid `statx` buffer.
    let mut buffer: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, the path is a C string and the buffer is
    // live.
    check(unsafe {
        libc::statx(
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_STATX_FORCE_SYNC,
            libc::STATX_BASIC_STATS,
            &raw mut buffer,
        )
    })
    .map(drop)
}

/// What the kernel has cached of an inode, and of the mount that it is seen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device number.
    pub device: u64,
    /// The inode number.
    pub ino: u64,
    /// The id of the mount, as in `/proc/PID/mountinfo`; `None` before Linux 5.8.
    pub mount: Option<u64>,
}

/// The device and inode number of what `path` leads to, as the kernel has them
/// cached: asking our own mount would wait for ourselves. `None` when it cannot
/// be had.
#[must_use]
pub fn cached_identity(path: &Path) -> Option<(u64, u64)> {
    let found = identity_at(path)?;
    Some((found.device, found.ino))
}

/// As [`cached_identity`], and on which mount.
#[must_use]
pub fn identity_at(path: &Path) -> Option<Identity> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    cached_statx(libc::AT_FDCWD, &path, 0)
}

/// As [`cached_identity`], of what is open already.
#[must_use]
pub fn identity_of(fd: impl AsFd) -> Option<Identity> {
    cached_statx(fd.as_fd().as_raw_fd(), c"", libc::AT_EMPTY_PATH)
}

pub(super) fn cached_statx(dir: RawFd, path: &CStr, flags: libc::c_int) -> Option<Identity> {
    // SAFETY: all-zero bytes are a valid `statx` buffer.
    let mut buffer: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a C string and the buffer is live.
    let result = unsafe {
        libc::statx(
            dir,
            path.as_ptr(),
            flags | libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT,
            libc::STATX_INO | libc::STATX_MNT_ID,
            &raw mut buffer,
        )
    };
    (result == 0).then(|| Identity {
        device: libc::makedev(buffer.stx_dev_major, buffer.stx_dev_minor),
        ino: buffer.stx_ino,
        mount: (buffer.stx_mask & libc::STATX_MNT_ID != 0).then_some(buffer.stx_mnt_id),
    })
}

/// The id of the mount that `fd` is on, of those that are never given again: a
/// mount that was made later has a higher one (`mnt_id_unique`, fs/namespace.c).
/// `None` before Linux 6.8.
#[must_use]
pub fn unique_mount_of(fd: impl AsFd) -> Option<u64> {
    /// `linux/stat.h`.
    const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
    // SAFETY: all-zero bytes are a valid `statx` buffer.
    let mut buffer: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, the path is a C string and the buffer is
    // live.
    let result = unsafe {
        libc::statx(
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT,
            STATX_MNT_ID_UNIQUE,
            &raw mut buffer,
        )
    };
    (result == 0 && buffer.stx_mask & STATX_MNT_ID_UNIQUE != 0).then_some(buffer.stx_mnt_id)
}

/// Opens (`O_PATH`) what `path`, a path without links, leads to below `root`,
/// mounts included, out of the kernel's memory alone: no file system is asked,
/// so that none can be waited for.
///
/// # Errors
/// `EAGAIN` when that does not do; `ENOENT`; `ENOSYS` and `EINVAL` before Linux
/// 5.12.
pub fn open_cached(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    const TRIES: usize = 4;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_IN_ROOT
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::from_bits_retain(libc::RESOLVE_CACHED),
        );
    // Names and mounts that change meanwhile make it EAGAIN as well.
    for _ in 0..TRIES {
        match openat2(root.as_fd(), path, how) {
            Err(Errno::EAGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::EAGAIN)
}
