//! Looks into an image without mounting it: the root directory's attributes.
//! Trusts nothing that it reads.

use super::bytes::get_bytes;
use super::error::InspectError;
use super::group_desc::GroupDesc;
use super::header::Header;
use super::inspect::first_descriptor;
use super::store::{ReadAt, read};

/// The number of the root directory's inode.
pub const ROOT_INODE: u64 = 2;

/// The directory in the root in which `e2fsck` puts what has no name.
pub const LOST_AND_FOUND: &str = "lost+found";

/// Inodes that ext4 keeps for itself, the root directory among them
/// (`EXT4_GOOD_OLD_FIRST_INO` less one).
pub const RESERVED_INODES: u64 = 10;

/// A point in time, as an inode has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InodeTime {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// The attributes of the root directory as they are in the image: the state of
/// an image that is in use may be newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootInode {
    /// File type and permission bits.
    pub mode: u16,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Hard links.
    pub links: u16,
    /// Size in bytes.
    pub size: u64,
    /// Allocated units of 512 bytes.
    pub sectors: u32,
    /// Tells it from earlier inodes with the same number.
    pub generation: u32,
    /// Whether it has extended attributes, or may have.
    pub has_attributes: bool,
    /// Last access.
    pub accessed: InodeTime,
    /// Last change of contents.
    pub modified: InodeTime,
    /// Last change of attributes.
    pub changed: InodeTime,
}

/// Reads the root directory's attributes.
///
/// # Errors
/// The image cannot be read, or holds no ext4 whose superblock can be trusted.
pub fn root_inode(image: &impl ReadAt) -> Result<RootInode, InspectError> {
    let header = Header::read(image)?;
    let desc: GroupDesc = first_descriptor(image, &header)?;
    let size = u64::from(header.inode_bytes);
    // All inodes have at least 128 bytes; what follows them is optional.
    let mut raw = [0u8; 256];
    let known = raw.len().min(header.inode_bytes as usize);
    let table = desc.inode_table().saturating_mul(header.block_bytes.into());
    let offset = table.saturating_add(size * (ROOT_INODE - 1));
    read(image, &mut raw[..known], offset)?;
    let u16_at = |at| u16::from_le_bytes(get_bytes(&raw, at));
    let u32_at = |at| u32::from_le_bytes(get_bytes(&raw, at));
    let extra = if known > 128 { u16_at(0x80) } else { 0 };
    // In the rest of the inode there are attributes behind a magic number
    // (EXT4_XATTR_MAGIC, fs/ext4/xattr.h).
    let rest = 128 + usize::from(extra);
    let in_inode = known >= rest + 4 && extra != 0 && u32_at(rest) == 0xEA02_0000;
    let time = |at: usize, extra_at: usize| {
        let more = if usize::from(extra) + 128 >= extra_at + 4 {
            u32_at(extra_at)
        } else {
            0
        };
        InodeTime {
            // Two more bits of seconds, then nanoseconds
            // (Documentation/filesystems/ext4/inodes.rst).
            seconds: i64::from(u32_at(at) as i32) + (i64::from(more & 3) << 32),
            nanoseconds: (more >> 2).min(999_999_999),
        }
    };
    Ok(RootInode {
        mode: u16_at(0x00),
        uid: u32::from(u16_at(0x02)) | u32::from(u16_at(0x78)) << 16,
        gid: u32::from(u16_at(0x18)) | u32::from(u16_at(0x7A)) << 16,
        links: u16_at(0x1A),
        size: u64::from(u32_at(0x04)),
        sectors: u32_at(0x1C),
        generation: u32_at(0x64),
        has_attributes: u32_at(0x68) != 0 || u16_at(0x76) != 0 || in_inode,
        accessed: time(0x08, 0x8C),
        modified: time(0x10, 0x88),
        changed: time(0x0C, 0x84),
    })
}
