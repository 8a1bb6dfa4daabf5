//! On a file system that writes elsewhere than it has written before (btrfs) an
//! extent stays as long as a block of it is referenced: who overwrites or cuts
//! files in the right places has many times their sizes. So files of volumes with a
//! limit are written anew bit by bit as they are overwritten, twice as fast, from
//! front to back and again: what is older than two rounds is referenced by nothing.
//!
//! What the host gives a file is so at most about three times its size.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use parking_lot::Mutex;

use super::fs::{FileSystem, Located};
use super::node::NodeId;
use crate::model::Kind;
use crate::sys::creds::Acting;
use crate::sys::node;
use crate::volume::Volume;

const SHARDS: usize = 64;

/// No extent is larger (`BTRFS_MAX_EXTENT_SIZE`, fs/btrfs/fs.h).
const EXTENT_MOST: u64 = 128 << 20;

/// What is written anew at a time, at least.
const GRAIN: u64 = 128 << 10;
/// And what is in memory of it.
const PIECE: usize = 1 << 20;

/// The most files of a shard that are known. Others are forgotten, and what their
/// callers have overwritten with them: less than a grain each.
const MOST_FILES: usize = 4096;

/// What is to be written anew of files.
pub(super) struct Rewrites {
    shards: Box<[Mutex<HashMap<NodeId, Due>>]>,
}

impl Default for Rewrites {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Due {
    /// Bytes that are to be written anew.
    bytes: u64,
    /// From here on.
    at: u64,
    /// Bytes that were cut off since its end was last written anew.
    cut: u64,
}

impl Rewrites {
    fn change(&self, node: NodeId, change: impl FnOnce(&mut Due) -> Due) -> Due {
        let mut shard = self.shards[(node.raw() % SHARDS as u64) as usize].lock();
        if shard.len() >= MOST_FILES && !shard.contains_key(&node) {
            shard.clear();
        }
        change(shard.entry(node).or_default())
    }
}

impl FileSystem {
    /// Whether old extents of the volume's files may stay.
    pub(super) fn rewrites(&self, volume: &Volume) -> bool {
        self.store.dir_growth().copies_on_write()
            && volume.kind == Kind::Directory
            && volume.limits().bytes.is_some()
    }

    /// So many bytes within a file have been overwritten or punched out. Its size
    /// must not be locked.
    pub(super) fn overwritten(&self, at: &Located, file: impl AsFd, len: u64) {
        if !self.rewrites(&at.volume) {
            return;
        }
        let due = self.rewrites.change(at.node, |due| {
            due.bytes = due.bytes.saturating_add(len.saturating_mul(2));
            let now = *due;
            if due.bytes >= GRAIN {
                due.bytes = 0;
            }
            now
        });
        if due.bytes < GRAIN {
            return;
        }
        let _lock = self.size_locks.exclusive(at.node);
        let next = open(file).and_then(|file| round(&file, due.at, due.bytes));
        let next = next.unwrap_or_else(|errno| {
            log::debug!("{:?} is not written anew: {}", at.node, errno.desc());
            due.at
        });
        self.rewrites.change(at.node, |due| {
            due.at = next;
            *due
        });
    }

    /// A file of `old` bytes has been cut to `new`. Its size is locked.
    pub(super) fn cut_off(&self, at: &Located, file: impl AsFd, old: u64, new: u64) {
        if new == 0 || new >= old || !self.rewrites(&at.volume) {
            return;
        }
        // Of the extent that its end is in.
        let end = new.min(EXTENT_MOST);
        let due = self.rewrites.change(at.node, |due| {
            due.cut = due.cut.saturating_add(old - new);
            let now = *due;
            if due.cut > end / 2 {
                due.cut = 0;
            }
            now
        });
        if due.cut > end / 2
            && let Err(errno) = open(file).and_then(|file| stretch(&file, new - end, new))
        {
            log::debug!(
                "the end of {:?} is not written anew: {}",
                at.node,
                errno.desc()
            );
        }
    }
}

fn open(file: impl AsFd) -> nix::Result<File> {
    let _as = Acting::daemon();
    node::reopen(file, OFlag::O_RDWR | OFlag::O_NOCTTY).map(File::from)
}

/// Writes `bytes` bytes anew from `at` on, and from the start behind the end, but
/// none twice. Returns where it goes on.
fn round(file: &File, at: u64, bytes: u64) -> nix::Result<u64> {
    let size = node::shape(file)?.size;
    if bytes >= size {
        stretch(file, 0, size)?;
        return Ok(0);
    }
    let at = if at < size { at } else { 0 };
    let end = at + bytes;
    stretch(file, at, end.min(size))?;
    if end <= size {
        return Ok(end);
    }
    stretch(file, 0, end - size)?;
    Ok(end - size)
}

/// Writes what is between two places in a file anew, but for its holes.
fn stretch(file: &File, from: u64, to: u64) -> nix::Result<()> {
    let failed = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    let offset = |at: u64| i64::try_from(at).map_err(|_| Errno::EFBIG);
    let _as = Acting::keeping_set_id();
    let mut buffer = vec![0; PIECE.min(usize::try_from(to - from).unwrap_or(PIECE))];
    let mut at = from;
    while at < to {
        at = match node::seek(file, offset(at)?, libc::SEEK_DATA) {
            Ok(data) => data.unsigned_abs(),
            Err(Errno::ENXIO) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let hole = node::seek(file, offset(at)?, libc::SEEK_HOLE)?.unsigned_abs();
        let end = hole.min(to);
        while at < end {
            let most = buffer.len().min(usize::try_from(end - at).unwrap_or(PIECE));
            let read = file.read_at(&mut buffer[..most], at).map_err(failed)?;
            if read == 0 {
                return Ok(());
            }
            file.write_all_at(&buffer[..read], at).map_err(failed)?;
            at += read as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_go_on_where_they_were_and_keep_contents_and_holes() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        file.write_all_at(&bytes, 0).unwrap();
        file.set_len(8 << 20).unwrap();
        let blocks = || node::stat(&file).unwrap().st_blocks;
        let before = blocks();
        let mut at = 0;
        for expected in [3 << 20, 6 << 20, 1 << 20] {
            at = round(&file, at, 3 << 20).unwrap();
            assert_eq!(at, expected);
        }
        assert_eq!(round(&file, at, 9 << 20), Ok(0));
        let mut found = vec![0; bytes.len()];
        file.read_exact_at(&mut found, 0).unwrap();
        assert_eq!((found, blocks()), (bytes, before));
    }
}
