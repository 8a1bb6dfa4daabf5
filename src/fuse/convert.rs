//! Between `fuser`'s types and the project's own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, TimeOrNow};
use nix::sys::stat::SFlag;

use super::types::{Attr, SetTime, Time};

/// The attributes as the kernel wants them.
pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.node.raw()),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(attr.mode),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: encode_device(attr.rdev),
        blksize: attr.blksize,
        flags: 0,
    }
}

fn file_type(mode: u32) -> FileType {
    match SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFIFO => FileType::NamedPipe,
        SFlag::S_IFCHR => FileType::CharDevice,
        SFlag::S_IFBLK => FileType::BlockDevice,
        SFlag::S_IFDIR => FileType::Directory,
        SFlag::S_IFLNK => FileType::Symlink,
        SFlag::S_IFSOCK => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

/// The type of a listed entry (`DT_*`); unknown ones the kernel looks up.
pub(super) fn entry_type(kind: u8) -> FileType {
    file_type(u32::from(kind) << 12)
}

fn system_time(time: Time) -> SystemTime {
    let whole = Duration::from_secs(time.seconds.unsigned_abs());
    let base = if time.seconds < 0 {
        UNIX_EPOCH - whole
    } else {
        UNIX_EPOCH + whole
    };
    base + Duration::from_nanos(time.nanoseconds.into())
}

/// A time to set.
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::To(from_system_time(time)),
    }
}

/// The time that the kernel sent. Where its seconds are negative `fuser` takes
/// the nanoseconds off as well, although they count forward; so what it gives
/// is not the instant, but has the kernel's two numbers in it.
fn from_system_time(time: SystemTime) -> Time {
    let (distance, sign) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (since, 1),
        Err(before) => (before.duration(), -1),
    };
    Time {
        seconds: sign * i64::try_from(distance.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: distance.subsec_nanos(),
    }
}

/// A device number as FUSE sends it (`new_encode_dev`, `linux/kdev_t.h`).
fn encode_device(device: u64) -> u32 {
    let (major, minor) = (libc::major(device), libc::minor(device));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The host's device number from what FUSE sends (`new_decode_dev`).
pub(super) fn decode_device(encoded: u32) -> u64 {
    let major = (encoded & 0xfff00) >> 8;
    let minor = (encoded & 0xff) | ((encoded >> 12) & 0xfff00);
    libc::makedev(major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch() {
        // As `fuser` turns the kernel's (-1 s, 999,999,999 ns) into an instant.
        let sent = UNIX_EPOCH - Duration::new(1, 999_999_999);
        let time = Time {
            seconds: -1,
            nanoseconds: 999_999_999,
        };
        assert_eq!(from_system_time(sent), time);
        assert_eq!(system_time(time), UNIX_EPOCH - Duration::from_nanos(1));
    }

    #[test]
    fn device_numbers() {
        for (major, minor) in [(0, 0), (1, 3), (8, 300), (259, 1_000_000), (4095, 0xf_ffff)] {
            let device = libc::makedev(major, minor);
            assert_eq!(decode_device(encode_device(device)), device);
        }
    }
}
