//! Entries of directories (`Documentation/filesystems/ext4/directory.rst`). The
//! inner blocks of a hashed directory look like entries that are not used.

use super::{FileError, ImageFiles, ImageInode, Result};
use crate::diskimg::bytes::LeField;
use crate::diskimg::store::ReadAt;

/// Bytes of an entry before its name.
const HEAD: usize = 8;

impl<R: ReadAt> ImageFiles<R> {
    /// The number of the inode that `name` in a directory leads to.
    pub(super) fn look_up(&self, dir: &ImageInode, name: &[u8]) -> Result<Option<u32>> {
        let mut found = None;
        self.each_entry(dir, |entry, inode| {
            if entry == name {
                found = Some(inode);
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// The inode of entries of a directory: of those with a name in `wanted`.
    ///
    /// # Errors
    /// Any [`FileError`].
    pub fn find_in(
        &self,
        dir: &ImageInode,
        wanted: &std::collections::HashSet<&[u8]>,
    ) -> Result<std::collections::HashMap<Vec<u8>, ImageInode>> {
        let mut numbers = Vec::new();
        self.each_entry(dir, |name, inode| {
            if wanted.contains(name) {
                numbers.push((name.to_vec(), inode));
            }
            numbers.len() < wanted.len()
        })?;
        let inodes = numbers
            .into_iter()
            .filter_map(|(name, number)| Some((name, self.inode(number).ok()?)));
        Ok(inodes.collect())
    }

    /// Calls `each` with the name and the inode number of every entry until it says
    /// that it has enough.
    fn each_entry(&self, dir: &ImageInode, mut each: impl FnMut(&[u8], u32) -> bool) -> Result<()> {
        if !dir.is_directory() {
            return Err(FileError::NotFound);
        }
        let block_bytes = u64::from(self.header.block_bytes);
        let blocks = dir.size().div_ceil(block_bytes);
        let mut block = vec![0; self.header.block_bytes as usize];
        let mut at = 0;
        while at < blocks {
            let run = self.run_at(dir, at)?;
            let Some(start) = run.start else {
                at = at.saturating_add(run.blocks);
                continue;
            };
            self.read_block(start, 0, &mut block)?;
            let mut rest = &block[..];
            while rest.len() > HEAD {
                let len = entry_len(rest)?;
                let inode = u32::get(rest, 0);
                let name = &rest[HEAD..HEAD + usize::from(rest[6])];
                if inode != 0 && !name.is_empty() && !each(name, inode) {
                    return Ok(());
                }
                rest = &rest[len..];
            }
            at += 1;
        }
        Ok(())
    }
}

/// The length of the first entry, which its name fits into.
fn entry_len(entry: &[u8]) -> Result<usize> {
    // In blocks of 64 KiB the length of all has no 16 bits
    // (`ext4_rec_len_from_disk`, fs/ext4/ext4.h).
    let len = match u16::get(entry, 4) {
        0 | u16::MAX if entry.len() >= 1 << 16 => entry.len(),
        len => usize::from(len & !3) | usize::from(len & 3) << 16,
    };
    let name = usize::from(entry[6]);
    if len < HEAD + name || len > entry.len() {
        return Err(FileError::Damaged("an entry is longer than its block"));
    }
    Ok(len)
}
