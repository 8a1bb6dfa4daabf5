//! What the operations take and give back: the project's own types, so that
//! they run without a mount and under any transport.

use nix::sys::stat::{FileStat, SFlag};

use super::node::{Generation, NodeId};
use super::passthrough::Backing;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// File-system user id.
    pub uid: u32,
    /// File-system group id.
    pub gid: u32,
    /// Process id in the daemon's pid namespace; 0 when it is outside.
    pub pid: u32,
}

impl Caller {
    /// Whether the caller may do what CAP_FSETID and CAP_SYS_ADMIN allow. The
    /// kernel does not say which capabilities a caller has; user id 0 of the
    /// initial user namespace stands for them.
    #[must_use]
    pub fn is_root(self) -> bool {
        self.uid == 0
    }
}

/// A point in time of the host file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds since the epoch; negative before it.
    pub seconds: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nanoseconds: u32,
}

/// A time to set (`utimensat(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The host's clock, now.
    Now,
    /// This time.
    To(Time),
}

/// The attributes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Its node id.
    pub node: NodeId,
    /// Size in bytes.
    pub size: u64,
    /// Allocated blocks of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Time,
    /// Last change of contents.
    pub mtime: Time,
    /// Last change of attributes.
    pub ctime: Time,
    /// File type and permission bits (`st_mode`).
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number (`st_rdev`), of device nodes.
    pub rdev: u64,
    /// Preferred I/O size in bytes.
    pub blksize: u32,
}

impl Attr {
    /// The host's attributes under the node's own id.
    #[must_use]
    pub fn from_host(node: NodeId, stat: &FileStat) -> Self {
        let time = |seconds, nanoseconds| Time {
            seconds,
            nanoseconds: u32::try_from(nanoseconds).unwrap_or(0),
        };
        Self {
            node,
            size: stat.st_size.unsigned_abs(),
            blocks: stat.st_blocks.unsigned_abs(),
            atime: time(stat.st_atime, stat.st_atime_nsec),
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            mode: stat.st_mode,
            nlink: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            uid: stat.st_uid,
            gid: stat.st_gid,
            rdev: stat.st_rdev,
            blksize: u32::try_from(stat.st_blksize).unwrap_or(4096),
        }
    }

    /// Whether it is a regular file.
    #[must_use]
    pub fn is_regular(&self) -> bool {
        self.mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits()
    }

    /// Whether it is a file with a set-user-id or set-group-id bit.
    #[must_use]
    pub fn has_set_id(&self) -> bool {
        self.is_regular() && self.mode & (libc::S_ISUID | libc::S_ISGID) != 0
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()
    }
}

/// A name that leads to a node. The kernel counts it as one lookup of the
/// node until it forgets.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The node's attributes, its id among them.
    pub attr: Attr,
    /// Tells it from earlier nodes with the same id.
    pub generation: Generation,
    /// Whether the kernel may keep the attributes: not while something writes
    /// to the file that neither the kernel's own attributes nor we see.
    pub keep_attr: bool,
}

/// What a lookup found.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    /// The name leads to this node.
    Entry(Entry),
    /// The name does not exist; the kernel may remember that.
    Nothing,
}

/// A file handle, given out by open and create.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fh(pub u64);

/// How the kernel gets at the contents of an open file.
#[derive(Clone, Debug)]
pub enum DataPath {
    /// By asking us, through its page cache.
    Cached {
        /// What is cached from earlier opens is still good.
        keep: bool,
    },
    /// By asking us each time. An inode that others have open for passthrough
    /// takes their registered file too: the kernel lets nobody in without, and
    /// maps that (FOPEN_DIRECT_IO goes before FOPEN_PASSTHROUGH for the rest).
    Direct(Option<Backing>),
    /// Straight from the host's file.
    Passthrough(Backing),
}

/// An opened file.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its handle.
    pub fh: Fh,
    /// How its contents are had.
    pub path: DataPath,
}

/// Attributes to set; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of contents.
    pub mtime: Option<SetTime>,
}

/// What `statfs(2)` reports.
#[derive(Clone, Copy, Debug)]
pub struct StatFs {
    /// Size of a block in bytes (`f_frsize`).
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Blocks free for users.
    pub available: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Free inodes.
    pub free_inodes: u64,
    /// The longest name in bytes.
    pub name_max: u32,
}
