//! An inode record of 256 bytes. Knows one inode, not the table it lies in.

use super::bytes::{get_bytes, le_fields, put_bytes};
use super::checksum::ChecksumSeed;
use super::units::{InodeNumber, Timestamp};

/// Size of an inode in bytes.
pub(in crate::diskimg) const INODE_BYTES: usize = 256;
/// `i_extra_isize`: bytes used past the first 128, up to and with `i_projid`.
pub(in crate::diskimg) const EXTRA_ISIZE: u16 = 32;
/// `i_flags`: `i_block` holds an extent tree.
pub(in crate::diskimg) const EXTENTS_FL: u32 = 0x8_0000;
/// `i_mode` of a regular file that only the kernel opens.
pub(in crate::diskimg) const MODE_HIDDEN_FILE: u16 = 0o100_600;
/// `i_mode`'s type bits of a directory.
pub(in crate::diskimg) const MODE_DIRECTORY: u16 = 0o040_000;

/// The list of bad blocks.
pub(in crate::diskimg) const BAD_INO: InodeNumber = InodeNumber(1);
/// The root directory.
pub(in crate::diskimg) const ROOT_INO: InodeNumber = InodeNumber(2);
/// The user quota file.
pub(in crate::diskimg) const USR_QUOTA_INO: InodeNumber = InodeNumber(3);
/// The group quota file.
pub(in crate::diskimg) const GRP_QUOTA_INO: InodeNumber = InodeNumber(4);
/// The owner of the reserved group descriptor blocks.
pub(in crate::diskimg) const RESIZE_INO: InodeNumber = InodeNumber(7);
/// The journal.
pub(in crate::diskimg) const JOURNAL_INO: InodeNumber = InodeNumber(8);
/// The first inode that is not reserved, where `lost+found` goes.
pub(in crate::diskimg) const FIRST_INO: InodeNumber = InodeNumber(11);

/// An inode as it is on disk.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::diskimg) struct Inode {
    raw: [u8; INODE_BYTES],
}

le_fields!(Inode {
    /// Type and permissions.
    0x00 i_mode set_i_mode u16;
    /// Owner, low half.
    0x02 i_uid set_i_uid u16;
    /// Size in bytes, low half.
    0x04 i_size_lo set_i_size_lo u32;
    /// Last access, seconds.
    0x08 i_atime set_i_atime u32;
    /// Last change of the inode, seconds.
    0x0c i_ctime set_i_ctime u32;
    /// Last change of the data, seconds.
    0x10 i_mtime set_i_mtime u32;
    /// Owning group, low half.
    0x18 i_gid set_i_gid u16;
    /// Names.
    0x1a i_links_count set_i_links_count u16;
    /// Sectors of 512 bytes.
    0x1c i_blocks_lo set_i_blocks_lo u32;
    /// `*_FL`.
    0x20 i_flags set_i_flags u32;
    /// Generation, part of every checksum that belongs to the inode.
    0x64 i_generation set_i_generation u32;
    /// Size in bytes, high half.
    0x6c i_size_high set_i_size_high u32;
    /// Owner, high half.
    0x78 i_uid_high set_i_uid_high u16;
    /// Owning group, high half.
    0x7a i_gid_high set_i_gid_high u16;
    /// crc32c of the inode, low half.
    0x7c i_checksum_lo set_i_checksum_lo u16;
    /// Bytes used past the first 128.
    0x80 i_extra_isize set_i_extra_isize u16;
    /// crc32c of the inode, high half.
    0x82 i_checksum_hi set_i_checksum_hi u16;
    /// Epoch and nanoseconds of `i_ctime`.
    0x84 i_ctime_extra set_i_ctime_extra u32;
    /// Epoch and nanoseconds of `i_mtime`.
    0x88 i_mtime_extra set_i_mtime_extra u32;
    /// Epoch and nanoseconds of `i_atime`.
    0x8c i_atime_extra set_i_atime_extra u32;
    /// Creation, seconds.
    0x90 i_crtime set_i_crtime u32;
    /// Epoch and nanoseconds of `i_crtime`.
    0x94 i_crtime_extra set_i_crtime_extra u32;
});

impl Inode {
    /// An unused inode.
    pub(in crate::diskimg) const fn zeroed() -> Self {
        Inode {
            raw: [0; INODE_BYTES],
        }
    }

    /// An inode as read from an image; nothing is checked.
    pub(in crate::diskimg) const fn from_bytes(raw: [u8; INODE_BYTES]) -> Self {
        Inode { raw }
    }

    /// A new file or directory with one time for everything.
    pub(in crate::diskimg) fn new(i_mode: u16, i_links_count: u16, time: Timestamp) -> Self {
        let mut inode = Inode::zeroed();
        inode.set_i_mode(i_mode);
        inode.set_i_links_count(i_links_count);
        inode.set_i_extra_isize(EXTRA_ISIZE);
        inode.set_i_atime(time.low());
        inode.set_i_ctime(time.low());
        inode.set_i_mtime(time.low());
        inode.set_i_crtime(time.low());
        inode.set_i_atime_extra(time.inode_extra());
        inode.set_i_ctime_extra(time.inode_extra());
        inode.set_i_mtime_extra(time.inode_extra());
        inode.set_i_crtime_extra(time.inode_extra());
        inode
    }

    /// The list of bad blocks (inode 1) of an image that has none: unused but
    /// for its times, without extra fields.
    pub(in crate::diskimg) fn no_bad_blocks(time: Timestamp) -> Self {
        let mut inode = Inode::zeroed();
        inode.set_i_atime(time.low());
        inode.set_i_ctime(time.low());
        inode.set_i_mtime(time.low());
        inode
    }

    /// Stores owner and owning group.
    pub(in crate::diskimg) fn set_owner(&mut self, uid: u32, gid: u32) {
        self.set_i_uid((uid & 0xffff) as u16);
        self.set_i_uid_high((uid >> 16) as u16);
        self.set_i_gid((gid & 0xffff) as u16);
        self.set_i_gid_high((gid >> 16) as u16);
    }

    /// Stores the size in bytes.
    pub(in crate::diskimg) fn set_size(&mut self, bytes: u64) {
        self.set_i_size_lo((bytes & 0xffff_ffff) as u32);
        self.set_i_size_high((bytes >> 32) as u32);
    }

    /// `i_block`, 60 bytes at 0x28: an extent tree's root or 15 block numbers.
    pub(in crate::diskimg) fn i_block(&self) -> [u8; 60] {
        get_bytes(&self.raw, 0x28)
    }

    /// Stores `i_block`.
    pub(in crate::diskimg) fn set_i_block(&mut self, i_block: &[u8; 60]) {
        put_bytes(&mut self.raw, 0x28, i_block);
    }

    /// Whether the stored checksum is right.
    pub(in crate::diskimg) fn checksum_matches(
        &self,
        seed: ChecksumSeed,
        number: InodeNumber,
    ) -> bool {
        self.sealed(seed, number) == self.raw
    }

    /// The bytes with the checksum brought up to date. It covers the whole
    /// record with its own fields taken as zero; an inode without extra fields
    /// has the low half only.
    pub(in crate::diskimg) fn sealed(
        &self,
        seed: ChecksumSeed,
        number: InodeNumber,
    ) -> [u8; INODE_BYTES] {
        let mut copy = self.clone();
        let has_high_half = copy.i_extra_isize() >= 4;
        copy.set_i_checksum_lo(0);
        if has_high_half {
            copy.set_i_checksum_hi(0);
        }
        let crc = seed
            .of_inode(number.get(), copy.i_generation())
            .over(&copy.raw);
        copy.set_i_checksum_lo((crc & 0xffff) as u16);
        if has_high_half {
            copy.set_i_checksum_hi((crc >> 16) as u16);
        }
        copy.raw
    }
}
