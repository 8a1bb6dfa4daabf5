//! Extended attributes of users (`Documentation/filesystems/ext4/attributes.rst`):
//! behind the fields of an inode, and in a block of their own.

use super::{FileError, ImageFiles, ImageInode, Result};
use crate::diskimg::bytes::LeField;
use crate::diskimg::store::ReadAt;

/// `EXT4_XATTR_MAGIC`.
const MAGIC: u32 = 0xea02_0000;
/// `EXT4_XATTR_INDEX_USER`: the prefix `user.`.
const USER: u8 = 1;
/// Bytes of an entry before its name.
const HEAD: usize = 16;
/// Bytes before the entries in a block.
const BLOCK_HEAD: usize = 32;

/// An attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its whole name.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

impl<R: ReadAt> ImageFiles<R> {
    /// The attributes of an inode whose names begin with `user.`. Those whose value
    /// is in an inode of its own (`ea_inode`) are left out.
    ///
    /// # Errors
    /// Any [`FileError`].
    pub fn user_attributes(&self, inode: &ImageInode) -> Result<Vec<Attribute>> {
        let mut found = Vec::new();
        if inode.raw.len() > 128 {
            let begins = 128 + usize::from(inode.u16_at(0x80));
            if let Some(area) = inode.raw.get(begins..)
                && area.len() > 4
                && begins > 128
                && u32::get(area, 0) == MAGIC
            {
                // Values are counted from the first entry.
                collect(&area[4..], 0, &mut found)?;
            }
        }
        let block = u64::from(inode.u32_at(0x68)) | u64::from(inode.u16_at(0x76)) << 32;
        if block != 0 {
            let mut area = vec![0; self.header.block_bytes as usize];
            self.read_block(block, 0, &mut area)?;
            if u32::get(&area, 0) != MAGIC {
                return Err(FileError::Damaged("attributes have no magic number"));
            }
            collect(&area, BLOCK_HEAD, &mut found)?;
        }
        Ok(found)
    }
}

/// Reads the entries in `area` from `at` on; their values are counted from its
/// beginning.
fn collect(area: &[u8], mut at: usize, found: &mut Vec<Attribute>) -> Result<()> {
    let outside = || FileError::Damaged("an attribute is outside of its block");
    // Four zeros end them.
    while area.get(at..at + 4).is_some_and(|word| word != [0; 4]) {
        let entry = area.get(at..at + HEAD).ok_or_else(outside)?;
        let len = usize::from(entry[0]);
        let name = area.get(at + HEAD..at + HEAD + len).ok_or_else(outside)?;
        if entry[1] == USER && u32::get(entry, 4) == 0 {
            let begins = usize::from(u16::get(entry, 2));
            let size = u32::get(entry, 8) as usize;
            let value = begins
                .checked_add(size)
                .and_then(|end| area.get(begins..end));
            found.push(Attribute {
                name: [b"user.", name].concat(),
                value: value.ok_or_else(outside)?.to_vec(),
            });
        }
        at += (HEAD + len).next_multiple_of(4);
    }
    Ok(())
}
