//! The directory face of an image that the kernel is not given: read-only, and
//! read by safe code in this process (crate `ext4-view`). The image may hold
//! anything; what cannot be read is EIO or EUCLEAN.
//!
//! The crate does not tell inode numbers. A file's number here is made of its
//! path and the volume's id, so that it is the same after another mount.

mod image;
mod nodes;
mod reader;

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use parking_lot::Mutex;

use super::node::{HostIno, NodeId};
use super::types::Time;
use crate::diskimg::{self, Attribute, ROOT_INODE, Seek};
use crate::model::{Slot, VolumeId};
use image::Look;
use nodes::Nodes;
use reader::Reader;

/// Bit of node numbers that are made up here: no inode of ext4 has so large a
/// number (32 bits).
const MADE_UP: u64 = 1 << 39;

/// Longer paths are not followed (`PATH_MAX`): a hostile directory may hold
/// itself.
const LONGEST_PATH: usize = 4096;

/// The smallest entry of a directory (`EXT4_DIR_REC_LEN(1)`).
const SMALLEST_ENTRY: u64 = 12;

/// What is seen of an image.
pub(super) struct View {
    reader: Reader,
    nodes: Mutex<Nodes>,
    slot: Slot,
    epoch: u32,
    /// Entries that a directory may have: more do not fit into the image.
    most_entries: u64,
}

/// A file in the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) node: NodeId,
    /// Type and permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Allocated units of 512 bytes.
    pub(super) sectors: u64,
    pub(super) accessed: Time,
    pub(super) modified: Time,
}

/// An entry of a directory.
#[derive(Clone, Debug)]
pub(super) struct SeenEntry {
    pub(super) name: Vec<u8>,
    pub(super) seen: Seen,
}

/// Whether `node` was made up here.
pub(super) fn is_view(node: NodeId) -> bool {
    node.slot().is_some() && node.ino().0 & MADE_UP != 0
}

impl View {
    /// Looks at the image at `path` of volume `id` in `slot`. What cannot be
    /// read at all says so with every question.
    pub(super) fn open(path: &Path, id: VolumeId, slot: Slot) -> Result<Self, Errno> {
        let file = File::open(path).map_err(|_| Errno::EIO)?;
        let metadata = file.metadata().map_err(|_| Errno::EIO)?;
        // The reader believes the sizes that an image claims, and takes memory
        // for them: only what the file is large enough for.
        let size = match diskimg::inspect(&file) {
            Ok(summary) if summary.bytes <= summary.file_bytes => Some(summary.bytes),
            _ => None,
        };
        let written = (metadata.mtime(), metadata.mtime_nsec(), metadata.len());
        Ok(Self {
            reader: match size {
                Some(_) => Reader::new(file),
                None => Reader::failed(Errno::EUCLEAN),
            },
            nodes: Mutex::new(Nodes::new(id)),
            slot,
            epoch: crc32c::crc32c(format!("{written:?}").as_bytes()),
            most_entries: size.unwrap_or(0) / SMALLEST_ENTRY,
        })
    }

    /// Which state of the image it shows.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Ends the thread that reads, which the next question starts again.
    pub(super) fn rest(&self) {
        self.reader.rest();
    }

    fn path_of(&self, node: NodeId) -> Result<Vec<u8>, Errno> {
        if node.ino().0 == ROOT_INODE {
            return Ok(b"/".to_vec());
        }
        self.nodes.lock().path(node.ino().0 & !MADE_UP)
    }

    fn node_of(&self, parent: NodeId, name: &[u8]) -> Result<NodeId, Errno> {
        let number = self.nodes.lock().number(parent.ino().0 & !MADE_UP, name)?;
        NodeId::new(self.slot, HostIno(MADE_UP | number)).ok_or(Errno::EOVERFLOW)
    }

    /// The directory that a node other than the root is in.
    pub(super) fn parent(&self, node: NodeId) -> Result<NodeId, Errno> {
        let number = self.nodes.lock().parent(node.ino().0 & !MADE_UP)?;
        let number = match number {
            ROOT_INODE => ROOT_INODE,
            number => MADE_UP | number,
        };
        NodeId::new(self.slot, HostIno(number)).ok_or(Errno::EOVERFLOW)
    }

    /// The attributes of a node other than the root.
    pub(super) fn attr(&self, node: NodeId) -> Result<Seen, Errno> {
        let path = self.path_of(node)?;
        let look = self.reader.ask(move |image| image.look(&path))?;
        Ok(seen(node, &look))
    }

    /// What `name` in `parent` is; `None` when it is not there.
    pub(super) fn lookup(&self, parent: NodeId, name: &OsStr) -> Result<Option<Seen>, Errno> {
        let name = name.as_bytes();
        let path = join(self.path_of(parent)?, name)?;
        match self.reader.ask(move |image| image.look(&path)) {
            Ok(look) => Ok(Some(seen(self.node_of(parent, name)?, &look))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The entries of a directory after the first `skip`, at most `most`, `.`
    /// and `..` left out.
    pub(super) fn list(
        &self,
        node: NodeId,
        skip: usize,
        most: usize,
    ) -> Result<Vec<SeenEntry>, Errno> {
        if skip as u64 > self.most_entries {
            return Err(Errno::EUCLEAN);
        }
        let path = self.path_of(node)?;
        let entries = self
            .reader
            .ask(move |image| image.list(&path, skip, most))?;
        entries
            .into_iter()
            .map(|(name, look)| {
                let node = self.node_of(node, &name)?;
                let seen = match look {
                    Some(look) => seen(node, &look),
                    None => unreadable(node),
                };
                Ok(SeenEntry { name, seen })
            })
            .collect()
    }

    /// Reads a file: less than `len` only at its end.
    pub(super) fn read(&self, node: NodeId, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let path = self.path_of(node)?;
        self.reader.ask(move |image| image.read(&path, offset, len))
    }

    /// The next data or hole of a file from `offset` on.
    pub(super) fn seek(&self, node: NodeId, offset: u64, wanted: Seek) -> Result<u64, Errno> {
        let path = self.path_of(node)?;
        self.reader
            .ask(move |image| image.seek(&path, offset, wanted))
    }

    /// The extended attributes that are shown: those of users. What the others mean
    /// is for the guest.
    pub(super) fn attributes(&self, node: NodeId) -> Result<Vec<Attribute>, Errno> {
        let path = self.path_of(node)?;
        self.reader.ask(move |image| image.attributes(&path))
    }

    /// The target of a symbolic link.
    pub(super) fn read_link(&self, node: NodeId) -> Result<Vec<u8>, Errno> {
        let path = self.path_of(node)?;
        self.reader.ask(move |image| image.read_link(&path))
    }
}

fn join(mut path: Vec<u8>, name: &[u8]) -> Result<Vec<u8>, Errno> {
    if path.len() + 1 + name.len() > LONGEST_PATH {
        return Err(Errno::ENAMETOOLONG);
    }
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    Ok(path)
}

fn seen(node: NodeId, look: &Look) -> Seen {
    let metadata = &look.metadata;
    let kind = metadata.file_type();
    let kind = if kind.is_dir() {
        libc::S_IFDIR
    } else if kind.is_symlink() {
        libc::S_IFLNK
    } else if kind.is_fifo() {
        libc::S_IFIFO
    } else if kind.is_socket() {
        libc::S_IFSOCK
    } else {
        // Device nodes of a guest are shown as empty files.
        libc::S_IFREG
    };
    let time = |time: ext4_view::Timestamp| Time {
        seconds: time.seconds(),
        nanoseconds: time.nanoseconds(),
    };
    // Set-user-id programs of a guest are not this machine's.
    let mode = u32::from(metadata.mode()) & 0o1777;
    Seen {
        node,
        mode: kind | mode,
        uid: metadata.uid(),
        gid: metadata.gid(),
        size: metadata.len().min(i64::MAX as u64),
        sectors: look.sectors.unwrap_or(metadata.len().div_ceil(512)),
        accessed: time(metadata.accessed()),
        modified: time(metadata.modified()),
    }
}

/// One whose inode is damaged, which must not hide the others.
fn unreadable(node: NodeId) -> Seen {
    let never = Time {
        seconds: 0,
        nanoseconds: 0,
    };
    Seen {
        node,
        mode: libc::S_IFREG,
        uid: 0,
        gid: 0,
        size: 0,
        sectors: 0,
        accessed: never,
        modified: never,
    }
}
