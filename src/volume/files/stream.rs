//! Files of a volume that are read and written bit by bit.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use nix::sys::stat::{FileStat, Mode};

use super::VolumeFs;
use crate::sys::node;
use crate::volume::Error;

/// A file of a volume that is being read. The volume is in use while it lives.
#[derive(Debug)]
pub struct VolumeReader {
    file: File,
    // Held, never read.
    _fs: VolumeFs,
}

/// A file of a volume that is being written, from its beginning. The volume is
/// in use while it lives.
#[derive(Debug)]
pub struct VolumeWriter {
    file: File,
    at: u64,
    fs: VolumeFs,
}

impl VolumeReader {
    pub(super) fn new(file: File, fs: VolumeFs) -> Self {
        Self { file, _fs: fs }
    }

    pub(super) fn stat(&self) -> nix::Result<FileStat> {
        node::stat(&self.file)
    }
}

impl Read for VolumeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for VolumeReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl VolumeWriter {
    pub(super) fn new(file: File, fs: VolumeFs) -> Self {
        Self { file, at: 0, fs }
    }

    pub(super) fn set_mode(&self, mode: u32) -> nix::Result<()> {
        node::chmod(&self.file, Mode::from_bits_truncate(mode))
    }

    /// Returns when what was written is on disk.
    ///
    /// # Errors
    /// As `fsync(2)`.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Write for VolumeWriter {
    /// Writes as much as fits. Where nothing does, it is
    /// [`StorageFull`](io::ErrorKind::StorageFull).
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let change = self.fs.begin().map_err(other)?;
        let written = change.write(&self.file, self.at, buffer.len(), |most| {
            // Not above `len`: the ledger says how much of it.
            (&self.file).write(&buffer[..most.min(buffer.len())])
        })?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn other(error: Error) -> io::Error {
    match error {
        Error::ReadOnly { .. } => io::ErrorKind::ReadOnlyFilesystem.into(),
        error => io::Error::other(error),
    }
}
