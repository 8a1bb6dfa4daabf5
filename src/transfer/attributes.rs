//! Owner, permission bits, extended attributes and times of an inode, taken
//! from one and given to another.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::sys::stat::{FileStat, Mode, SFlag};
use nix::sys::time::TimeSpec;

use crate::sys::{acl, node, xattr};

/// What `listxattr(2)` and `getxattr(2)` have at most: `XATTR_LIST_MAX` and
/// `XATTR_SIZE_MAX`, `linux/limits.h`.
const XATTR_MOST: usize = 65536;

/// What an inode is besides its contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub uid: u32,
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
    /// Modification time; seconds may be before the epoch.
    pub mtime: (i64, u32),
    /// Access time, where it is known.
    pub atime: Option<(i64, u32)>,
    /// Extended attributes, ACLs among them as the kernel has them.
    pub xattrs: Vec<(OsString, Vec<u8>)>,
}

/// What could not be given because the process lacks the right to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missed {
    pub owners: u64,
    pub xattrs: u64,
}

impl Attributes {
    /// Of the inode `fd` (`O_PATH`).
    pub(super) fn of(fd: impl AsFd, stat: &FileStat) -> nix::Result<Self> {
        Ok(Self {
            xattrs: xattrs(fd)?,
            ..Self::without_xattrs(stat)
        })
    }

    /// Of an inode that is there no longer.
    pub(super) fn without_xattrs(stat: &FileStat) -> Self {
        Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            mtime: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
            atime: Some((stat.st_atime, nanos(stat.st_atime_nsec))),
            xattrs: Vec::new(),
        }
    }

    /// Gives them to the inode `fd` (`O_PATH`), and takes the ACLs from it that
    /// it has got from its directory. What takes a right that this
    /// process lacks is left out when `lenient`.
    ///
    /// # Errors
    /// The system call that failed, as a verb, and how.
    pub(super) fn give(
        &self,
        fd: impl AsFd,
        lenient: bool,
        missed: &mut Missed,
    ) -> Result<(), (&'static str, Errno)> {
        let fd = fd.as_fd();
        match node::chown(fd, Some(self.uid), Some(self.gid)) {
            Ok(()) => {}
            Err(Errno::EPERM) if lenient => missed.owners += 1,
            Err(errno) => return Err(("set the owner of", errno)),
        }
        let stat = node::stat(fd).map_err(|errno| ("look at", errno))?;
        let is_link = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFLNK.bits();
        // Not for a link, which has none.
        for (acl, has) in [
            (acl::ACCESS, !is_link),
            (
                acl::DEFAULT,
                stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits(),
            ),
        ] {
            if has && self.xattrs.iter().all(|(name, _)| name != acl) {
                acl::remove(fd, acl).map_err(|errno| ("take an ACL from", errno))?;
            }
        }
        // After the owner, as a change of owner takes set-id bits away; before
        // the attributes, as an ACL has the last word on the mode.
        if !is_link {
            node::chmod(fd, Mode::from_bits_truncate(self.mode))
                .map_err(|errno| ("set the mode of", errno))?;
        }
        for (name, value) in &self.xattrs {
            match xattr::set(fd, name, value, 0) {
                Ok(()) => {}
                // There is no such thing here.
                Err(Errno::EOPNOTSUPP) => missed.xattrs += 1,
                Err(Errno::EPERM) if lenient => missed.xattrs += 1,
                Err(errno) => return Err(("set an extended attribute of", errno)),
            }
        }
        let time = |(seconds, nanos): (i64, u32)| TimeSpec::new(seconds, i64::from(nanos));
        let atime = self.atime.map_or(TimeSpec::UTIME_OMIT, time);
        node::set_times(fd, &atime, &time(self.mtime)).map_err(|errno| ("set the time of", errno))
    }

    /// How much the extended attributes are, names and values together.
    pub(super) fn xattr_bytes(&self) -> usize {
        self.xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }
}

/// Takes all extended attributes from the inode `fd`, as far as this process
/// may.
///
/// # Errors
/// They cannot be listed.
pub(super) fn clear(fd: impl AsFd) -> nix::Result<()> {
    let fd = fd.as_fd();
    for (name, _) in xattrs(fd)? {
        // A label of a security module stays.
        let _ = xattr::remove(fd, &name);
    }
    Ok(())
}

fn nanos(nanos: i64) -> u32 {
    // The kernel's are below 10^9.
    u32::try_from(nanos).unwrap_or(0)
}

fn xattrs(fd: impl AsFd) -> nix::Result<Vec<(OsString, Vec<u8>)>> {
    let fd = fd.as_fd();
    let mut list = vec![0; XATTR_MOST];
    let len = match xattr::list(fd, &mut list) {
        Ok(len) => len,
        // A file system without any.
        Err(Errno::EOPNOTSUPP) => 0,
        Err(errno) => return Err(errno),
    };
    let mut found = Vec::new();
    let mut value = Vec::new();
    for name in list[..len]
        .split(|&byte| byte == 0)
        .filter(|it| !it.is_empty())
    {
        let name = OsStr::from_bytes(name);
        value.resize(XATTR_MOST, 0);
        match xattr::get(fd, name, &mut value) {
            Ok(len) => found.push((name.to_owned(), value[..len].to_vec())),
            // Removed since it was listed.
            Err(Errno::ENODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}
