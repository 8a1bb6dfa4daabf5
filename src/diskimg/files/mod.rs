//! Reads files of an image that is at rest, without mounting it: where their
//! contents and holes are, and their extended attributes. Trusts nothing that it
//! reads: what is asked costs what is asked for, however large a file claims to be.
//!
//! Does not look into the journal: an image that needs recovery is not opened.

mod dir;
mod map;
mod xattr;

use std::io;

use super::bytes::LeField;
use super::features::{Feature, Features};
use super::group_desc::GroupDesc;
use super::header::Header;
use super::store::ReadAt;

pub use map::Seek;
pub use xattr::Attribute;

/// Why a file was not read. Who asks gets an error number; the words are for who
/// debugs.
#[derive(Debug)]
pub enum FileError {
    /// The image could not be read.
    Io(io::Error),
    /// What is in the image contradicts itself.
    Damaged(&'static str),
    /// There is no such name.
    NotFound,
    /// It is kept in a way that this reader does not know.
    Unknown(&'static str),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

type Result<T> = std::result::Result<T, FileError>;

/// What a reader has to know of, beside what makes no difference to it.
const KNOWN_INCOMPAT: [Feature; 12] = [
    Feature::Filetype,
    Feature::MetaBg,
    Feature::Extent,
    Feature::Bit64,
    Feature::Mmp,
    Feature::FlexBg,
    Feature::EaInode,
    Feature::MetadataCsumSeed,
    Feature::LargeDir,
    Feature::InlineData,
    Feature::Encrypt,
    Feature::Casefold,
];

/// `i_flags`: encrypted, an extent tree, an inline file.
const ENCRYPT_FL: u32 = 0x800;
const EXTENTS_FL: u32 = 0x8_0000;
const INLINE_DATA_FL: u32 = 0x1000_0000;

/// The files of an image.
pub struct ImageFiles<R> {
    image: R,
    header: Header,
}

/// An inode as it is in the image.
#[derive(Clone)]
pub struct ImageInode {
    number: u32,
    raw: Box<[u8]>,
}

impl ImageInode {
    fn u16_at(&self, at: usize) -> u16 {
        u16::get(&self.raw, at)
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::get(&self.raw, at)
    }

    fn flags(&self) -> u32 {
        self.u32_at(0x20)
    }

    fn is_directory(&self) -> bool {
        self.u16_at(0) & 0o170_000 == 0o040_000
    }

    /// Length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::from(self.u32_at(0x04)) | u64::from(self.u32_at(0x6c)) << 32
    }

    /// Names that it has.
    #[must_use]
    pub fn links(&self) -> u16 {
        self.u16_at(0x1a)
    }
}

impl<R: ReadAt> ImageFiles<R> {
    /// Opens an image; `None` where its journal must be replayed first, or it is of a
    /// kind that this reader does not know.
    pub fn open(image: R) -> Option<Self> {
        let header = Header::read(&image).ok()?;
        let mut unknown: Features = header.features;
        for feature in KNOWN_INCOMPAT {
            unknown.set(feature, false);
        }
        let readable = unknown.incompat == 0 && header.cluster_blocks == 1;
        readable.then_some(Self { image, header })
    }

    /// Allocated units of 512 bytes.
    #[must_use]
    pub fn sectors(&self, inode: &ImageInode) -> u64 {
        const HUGE_FILE_FL: u32 = 0x4_0000;
        let low = u64::from(inode.u32_at(0x1c));
        let blocks = low | u64::from(inode.u16_at(0x74)) << 32;
        if !self.header.features.has(Feature::HugeFile) {
            low
        } else if inode.flags() & HUGE_FILE_FL == 0 {
            blocks
        } else {
            blocks.saturating_mul(u64::from(self.header.block_bytes) / 512)
        }
    }

    /// The inode that `path` leads to, from the root; links are not followed.
    ///
    /// # Errors
    /// Any [`FileError`].
    pub fn find(&self, path: &[u8]) -> Result<ImageInode> {
        let names = path.split(|&byte| byte == b'/');
        let mut inode = self.inode(super::ROOT_INODE as u32)?;
        for name in names.filter(|name| !name.is_empty()) {
            let number = self.look_up(&inode, name)?.ok_or(FileError::NotFound)?;
            inode = self.inode(number)?;
        }
        Ok(inode)
    }

    fn inode(&self, number: u32) -> Result<ImageInode> {
        let header = &self.header;
        let sb = &header.superblock;
        if number == 0 || number > sb.s_inodes_count() {
            return Err(FileError::Damaged("an entry names no inode"));
        }
        // Not 0: the header is checked.
        let group = (number - 1) / sb.s_inodes_per_group();
        let index = (number - 1) % sb.s_inodes_per_group();
        let per_block = header.descs_per_block();
        let mut raw = [0; 64];
        let known = raw.len().min(header.desc_bytes as usize);
        let at = u64::from(group % per_block) * u64::from(header.desc_bytes);
        self.read_block(header.desc_block(group / per_block), at, &mut raw[..known])?;
        let table = GroupDesc::from_bytes(&raw[..known]).inode_table();
        let mut inode = vec![0; header.inode_bytes as usize];
        let at = u64::from(index) * u64::from(header.inode_bytes);
        let block_bytes = u64::from(header.block_bytes);
        let block = table.saturating_add(at / block_bytes);
        self.read_block(block, at % block_bytes, &mut inode)?;
        Ok(ImageInode {
            number,
            raw: inode.into(),
        })
    }

    /// Reads in block `block` from byte `at` on.
    fn read_block(&self, block: u64, at: u64, buffer: &mut [u8]) -> Result<()> {
        if block == 0 || block >= self.header.blocks_count {
            return Err(FileError::Damaged("a block is outside of the image"));
        }
        let start = block.saturating_mul(self.header.block_bytes.into());
        let start = start.saturating_add(at);
        Ok(self.image.read_exact_at(buffer, start)?)
    }

    /// Reads the contents of a file from `offset` on; less than all of `buffer` only
    /// at its end. Returns how many bytes.
    ///
    /// # Errors
    /// Any [`FileError`].
    pub fn read(&self, inode: &ImageInode, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let rest = inode.size().saturating_sub(offset);
        let len = usize::try_from(rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        let block_bytes = u64::from(self.header.block_bytes);
        let mut filled = 0;
        while filled < len {
            let at = offset + filled as u64;
            let run = self.run_at(inode, at / block_bytes)?;
            let within = at % block_bytes;
            let bytes = (run.blocks.saturating_mul(block_bytes)).saturating_sub(within);
            let part = usize::try_from(bytes).map_or(len - filled, |it| it.min(len - filled));
            let part = &mut buffer[filled..filled + part];
            match run.start {
                Some(start) => self.read_block(start, within, part)?,
                None => part.fill(0),
            }
            filled += part.len();
        }
        Ok(filled)
    }
}
