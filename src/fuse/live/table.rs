//! Records of a fixed number of words in shared memory, in chunks that double:
//! a record never moves.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::sys::shared::{SharedFile, Words};

/// The most chunks of a table.
pub(super) const CHUNKS: usize = 24;

/// What the records of a table are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Words of a record. The first says whether it is in use (not 0).
    pub(super) words: u32,
    /// Records of the first chunk: a power of two.
    pub(super) first: u32,
}

impl Shape {
    /// Which chunk record `index` is in, and which it is there.
    fn locate(self, index: u32) -> (usize, usize) {
        let shifted = u64::from(index) + u64::from(self.first);
        let chunk = shifted.ilog2() - self.first.ilog2();
        let within = shifted - (u64::from(self.first) << chunk);
        // Both are below 2^32.
        (chunk as usize, within as usize)
    }

    /// Records of a chunk.
    fn records(self, chunk: usize) -> usize {
        (self.first as usize) << chunk
    }
}

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    shape: Shape,
    chunks: [OnceLock<Words>; CHUNKS],
    next: AtomicU32,
    /// Records that were used and are free. A leaf lock.
    free: Mutex<Vec<u32>>,
    /// Held while a chunk is added.
    growing: Mutex<()>,
}

impl Table {
    pub(super) fn new(shape: Shape) -> Self {
        Self {
            shape,
            chunks: [const { OnceLock::new() }; CHUNKS],
            next: AtomicU32::new(0),
            free: Mutex::default(),
            growing: Mutex::default(),
        }
    }

    /// The table as another process left it: `starts` says where its chunks
    /// are.
    pub(super) fn read(shape: Shape, file: &SharedFile, starts: &[u64]) -> io::Result<Self> {
        let table = Self::new(shape);
        for (chunk, &start) in starts.iter().enumerate().take(CHUNKS) {
            if start == 0 {
                break;
            }
            let words = shape.records(chunk) * shape.words as usize;
            let _ = table.chunks[chunk].set(file.map(start, words)?);
        }
        Ok(table)
    }

    /// A record that is not in use; `directory` is where the starts of chunks
    /// are noted.
    pub(super) fn take(&self, file: &SharedFile, directory: &[AtomicU64]) -> io::Result<u32> {
        if let Some(index) = self.free.lock().pop() {
            return Ok(index);
        }
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let (chunk, _) = self.shape.locate(index);
        let full = || io::Error::from_raw_os_error(libc::ENOMEM);
        let place = self.chunks.get(chunk).ok_or_else(full)?;
        if place.get().is_none() {
            let _growing = self.growing.lock();
            if place.get().is_none() {
                let words = self.shape.records(chunk) * self.shape.words as usize;
                let (start, mapped) = file.extend(words)?;
                directory[chunk].store(start, Ordering::Release);
                let _ = place.set(mapped);
            }
        }
        Ok(index)
    }

    /// The record is not in use any more.
    pub(super) fn give_back(&self, index: u32) {
        self.record(index)[0].store(0, Ordering::Release);
        self.free.lock().push(index);
    }

    /// The words of a record that was [taken](Self::take).
    pub(super) fn record(&self, index: u32) -> &[AtomicU64] {
        let (chunk, within) = self.shape.locate(index);
        let words = self.shape.words as usize;
        match self.chunks.get(chunk).and_then(OnceLock::get) {
            Some(chunk) => &chunk[within * words..][..words],
            None => unreachable!("a record is used after it was taken"),
        }
    }

    /// All records in use, of a table that nobody changes.
    pub(super) fn used(&self) -> impl Iterator<Item = &[AtomicU64]> {
        let words = self.shape.words as usize;
        self.chunks
            .iter()
            .map_while(OnceLock::get)
            .flat_map(move |chunk| chunk.chunks_exact(words))
            .filter(|record| record[0].load(Ordering::Acquire) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { words: 3, first: 8 };

    #[test]
    fn records_do_not_overlap() {
        let mut seen = std::collections::HashSet::new();
        for index in 0..1000 {
            let (chunk, within) = SHAPE.locate(index);
            assert!(within < SHAPE.records(chunk));
            assert!(seen.insert((chunk, within)));
        }
        assert_eq!(SHAPE.locate(0), (0, 0));
        assert_eq!(SHAPE.locate(7), (0, 7));
        assert_eq!(SHAPE.locate(8), (1, 0));
    }

    #[test]
    fn another_process_finds_what_is_in_use() {
        let file = SharedFile::create("test").unwrap();
        // Offset 0 stands for none.
        file.extend(1).unwrap();
        let directory: Vec<AtomicU64> = (0..CHUNKS).map(|_| AtomicU64::new(0)).collect();
        let table = Table::new(SHAPE);
        let taken: Vec<u32> = (0..100)
            .map(|n| {
                let index = table.take(&file, &directory).unwrap();
                table.record(index)[0].store(n + 1, Ordering::Relaxed);
                index
            })
            .collect();
        table.give_back(taken[50]);
        let starts: Vec<u64> = directory
            .iter()
            .map(|d| d.load(Ordering::Relaxed))
            .collect();
        let read = Table::read(SHAPE, &file, &starts).unwrap();
        let found: Vec<u64> = read.used().map(|r| r[0].load(Ordering::Relaxed)).collect();
        let wanted: Vec<u64> = (1..=100).filter(|&n| n != 51).collect();
        assert_eq!(found, wanted);
        assert_eq!(table.take(&file, &directory).unwrap(), taken[50]);
    }
}
