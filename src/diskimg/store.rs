//! Where an image's bytes are: the only file that does I/O on an open image. A
//! trait, so that tests can record, cut and fail writes, and the fuzzer can
//! inspect a slice.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};

use super::error::AccessError;
use super::units::{BLOCK_BYTES, BlockNumber};

/// Bytes that can be read at any place.
pub trait ReadAt {
    /// Length in bytes.
    ///
    /// # Errors
    /// The system's, as for every method here.
    fn length(&self) -> io::Result<u64>;

    /// Fills `buffer` from `offset` on; a read past the end is
    /// [`io::ErrorKind::UnexpectedEof`].
    ///
    /// # Errors
    /// The system's, or the end was met.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

/// An image that can be written.
pub trait ImageStore: ReadAt {
    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// The system's.
    fn write_all_at(&mut self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Sets the length; a part that is added reads as zeros.
    ///
    /// # Errors
    /// The system's.
    fn set_length(&mut self, bytes: u64) -> io::Result<()>;

    /// Returns once everything written is on stable storage.
    ///
    /// # Errors
    /// The system's.
    fn sync(&mut self) -> io::Result<()>;
}

impl ReadAt for File {
    fn length(&self) -> io::Result<u64> {
        let found = self.metadata()?;
        if found.file_type().is_block_device() {
            // Its inode does not say. All else here reads at a place that is
            // named, whatever the file's own position.
            return (&*self).seek(SeekFrom::End(0));
        }
        Ok(found.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ImageStore for File {
    fn write_all_at(&mut self, data: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, data, offset)
    }

    fn set_length(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl ReadAt for &[u8] {
    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let source = start.and_then(|start| self.get(start..start.checked_add(buffer.len())?));
        buffer.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Reads, and on failure says what and where.
pub(in crate::diskimg) fn read(
    store: &impl ReadAt,
    buffer: &mut [u8],
    offset: u64,
) -> Result<(), AccessError> {
    store.read_exact_at(buffer, offset).map_err(|source| {
        AccessError::new(format!("read {} bytes at {offset}", buffer.len()), source)
    })
}

/// Reads one 4 KiB block.
pub(in crate::diskimg) fn read_block(
    store: &impl ReadAt,
    block: BlockNumber,
) -> Result<[u8; BLOCK_BYTES], AccessError> {
    let mut buffer = [0u8; BLOCK_BYTES];
    read(store, &mut buffer, block.offset())?;
    Ok(buffer)
}

/// Writes, and on failure says what and where.
pub(in crate::diskimg) fn write(
    store: &mut impl ImageStore,
    data: &[u8],
    offset: u64,
) -> Result<(), AccessError> {
    store.write_all_at(data, offset).map_err(|source| {
        AccessError::new(format!("write {} bytes at {offset}", data.len()), source)
    })
}

/// Writes whole blocks.
pub(in crate::diskimg) fn write_blocks(
    store: &mut impl ImageStore,
    data: &[u8],
    block: BlockNumber,
) -> Result<(), AccessError> {
    write(store, data, block.offset())
}

/// Sets the length, and on failure says to what.
pub(in crate::diskimg) fn set_length(
    store: &mut impl ImageStore,
    bytes: u64,
) -> Result<(), AccessError> {
    store.set_length(bytes).map_err(|source| {
        AccessError::new(format!("set the image's length to {bytes} bytes"), source)
    })
}

/// Makes everything written durable.
pub(in crate::diskimg) fn sync(store: &mut impl ImageStore) -> Result<(), AccessError> {
    store
        .sync()
        .map_err(|source| AccessError::new("make the image durable (fsync)", source))
}
