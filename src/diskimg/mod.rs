//! ext4 disk images in pure Rust: make, inspect and grow them, without any
//! program at run time. Knows nothing of volumes, databases or FUSE.
//!
//! | layer | files |
//! |---|---|
//! | entry points | `format`, `inspect`, `grow`, `root` (looking in), `attach` (mounting) |
//! | planners, pure | `geometry`, `layout`, `space`, `tables`, `describe`, `grow::plan` |
//! | on-disk structures, one each | `superblock`, `group_desc`, `bitmap`, `inode`, `extent`, `dir_block`, `journal`, `resize_inode`, `quota_file`, `orphan_file` |
//! | bytes | `store` (the only I/O), `block_sink`, `bytes`, `checksum`, `units` |
//!
//! Names of fields and features are those of the kernel's
//! `Documentation/filesystems/ext4` and of `dumpe2fs`; the rules of layout are
//! those of mke2fs, stated in our own words.

mod attach;
mod backups;
mod bitmap;
mod block_sink;
mod bytes;
mod check;
mod checksum;
mod describe;
mod dir_block;
mod error;
mod extent;
mod features;
mod files;
mod format;
mod geometry;
mod group_desc;
mod grow;
mod header;
mod identity;
mod inode;
mod inspect;
mod journal;
mod layout;
mod lend;
mod new_superblock;
mod options;
mod orphan_file;
mod quota_file;
mod resize_inode;
mod root;
mod space;
mod store;
mod superblock;
mod tables;
mod units;
mod writer;

pub use attach::{
    Access, AttachError, Attached, FUSE2FS_MOUNT, Fuse2fs, Health, MountedImage, Ways, is_free,
    wait_until_free,
};
pub use check::{CheckError, CheckReport, check, check_foreign, mend};
pub use error::{
    AccessError, FormatError, GrowError, InspectError, OptionError, PlanError, SizeError,
};
pub use features::{Feature, Features};
pub use files::{Attribute, FileError, ImageFiles, ImageInode, Seek};
pub use format::{format, format_file, format_store, format_through};
pub use geometry::Geometry;
pub use grow::{Grown, grow, grow_store};
pub use inspect::{Damage, ImageState, LastMount, Summary, inspect};
pub use layout::Layout;
pub use options::{InodeDensity, JournalSize, Options, RootDirectory};
pub use root::{InodeTime, LOST_AND_FOUND, RESERVED_INODES, ROOT_INODE, RootInode, root_inode};
pub use store::{ImageStore, ReadAt};
pub use units::{BLOCK_SIZE, BlockNumber, GroupNumber, ImageSize, InodeNumber, MIB, Timestamp};
pub use uuid::Uuid;
