//! The directory face of an image that a guest has written: read-only, and
//! read by safe code in this process (crate `ext4-view`), never by the kernel.
//! The image may hold anything; what cannot be read is EIO or EUCLEAN.
//!
//! Each image is read by a thread of its own, which is given up when it does
//! not answer. Nodes are numbered as they are seen: the reader does not tell
//! inode numbers.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use ext4_view::{Ext4, Ext4Error, Metadata};
use nix::errno::Errno;
use parking_lot::Mutex;

use super::node::{HostIno, NodeId};
use crate::diskimg::{self, ROOT_INODE};
use crate::model::Slot;

/// How long a question may take. An image of honest making answers within
/// milliseconds; one that sends the reader in circles must not keep a caller.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bit of node numbers that are made up here: no inode of ext4 has so large a
/// number (32 bits).
const MADE_UP: u64 = 1 << 39;
/// Bits of the number of a name; those above tell one view from the next.
const NUMBER_BITS: u32 = 20;
const EPOCH_BITS: u32 = 39 - NUMBER_BITS;

/// Views so far.
static EPOCHS: AtomicU32 = AtomicU32::new(0);

/// The most names that are remembered of one image; a directory with more
/// cannot be listed further.
const MOST_NODES: usize = 1 << NUMBER_BITS;

/// Nodes of an earlier process are of none of this one's views.
pub(super) fn start_epochs(generation: u64) {
    /// Views of one process, before those of a later one could be mixed up.
    const OF_ONE: u64 = 256;
    let first = (generation * OF_ONE) & ((1 << EPOCH_BITS) - 1);
    EPOCHS.store(first as u32, Ordering::Relaxed);
}

/// Links that a hostile directory may claim to go deep: longer paths are not
/// followed (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;

type Question = Box<dyn FnOnce(&Ext4) + Send>;

/// What is seen of an image.
pub(super) struct View {
    questions: Mutex<Sender<Question>>,
    nodes: Mutex<Nodes>,
    slot: Slot,
    epoch: u32,
    /// Nanoseconds since 1970.
    written: i64,
}

#[derive(Default)]
struct Nodes {
    by_path: HashMap<Vec<u8>, u64>,
    paths: Vec<Vec<u8>>,
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
    /// Looks at the image at `path` for the volume in `slot`.
    pub(super) fn open(path: &Path, slot: Slot) -> Result<Self, Errno> {
        let file = std::fs::File::open(path).map_err(|_| Errno::EIO)?;
        // The reader believes the sizes that an image claims, and takes memory
        // for them: only what the file is large enough for.
        let summary = diskimg::inspect(&file).map_err(|_| Errno::EUCLEAN)?;
        if summary.bytes > summary.file_bytes {
            return Err(Errno::EUCLEAN);
        }
        let metadata = file.metadata().map_err(|_| Errno::EIO)?;
        let written = metadata.mtime().saturating_mul(1_000_000_000) + metadata.mtime_nsec();
        let (sender, receiver) = mpsc::channel::<Question>();
        let (ready, opened) = mpsc::channel();
        let path = path.to_owned();
        std::thread::Builder::new()
            .name("volfs-view".into())
            .spawn(move || serve(&path, &ready, &receiver))
            .map_err(|_| Errno::EAGAIN)?;
        match opened.recv_timeout(PATIENCE) {
            Ok(result) => result?,
            Err(_) => return Err(Errno::EIO),
        }
        Ok(Self {
            questions: Mutex::new(sender),
            nodes: Mutex::default(),
            slot,
            epoch: EPOCHS.fetch_add(1, Ordering::Relaxed) & ((1 << EPOCH_BITS) - 1),
            written,
        })
    }

    /// Which of all views it is.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// When the image was last written, in nanoseconds since 1970.
    pub(super) fn written(&self) -> i64 {
        self.written
    }

    /// Asks the reader; its answers are the only thing that leaves its thread.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Ext4) -> Result<T, Errno> + Send + 'static,
    ) -> Result<T, Errno> {
        let (answer, answered) = mpsc::channel();
        let question: Question = Box::new(move |image| {
            let result = catch_unwind(AssertUnwindSafe(|| question(image)));
            let _ = answer.send(result.unwrap_or(Err(Errno::EUCLEAN)));
        });
        if self.questions.lock().send(question).is_err() {
            return Err(Errno::EIO);
        }
        match answered.recv_timeout(PATIENCE) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(Errno::EUCLEAN),
        }
    }

    fn path_of(&self, node: NodeId) -> Result<Vec<u8>, Errno> {
        if node.ino().0 == ROOT_INODE {
            return Ok(b"/".to_vec());
        }
        let number = node.ino().0 & !MADE_UP;
        if number >> NUMBER_BITS != u64::from(self.epoch) {
            // Of an earlier view.
            return Err(Errno::ESTALE);
        }
        let index = usize::try_from(number & (MOST_NODES as u64 - 1)).map_err(|_| Errno::ESTALE)?;
        let nodes = self.nodes.lock();
        nodes.paths.get(index).cloned().ok_or(Errno::ESTALE)
    }

    fn node_of(&self, path: Vec<u8>) -> Result<NodeId, Errno> {
        let mut nodes = self.nodes.lock();
        let number = match nodes.by_path.get(&path) {
            Some(&number) => number,
            None if nodes.paths.len() >= MOST_NODES => return Err(Errno::EOVERFLOW),
            None => {
                let number = nodes.paths.len() as u64;
                nodes.paths.push(path.clone());
                nodes.by_path.insert(path, number);
                number
            }
        };
        let number = MADE_UP | u64::from(self.epoch) << NUMBER_BITS | number;
        NodeId::new(self.slot, HostIno(number)).ok_or(Errno::EOVERFLOW)
    }

    /// The attributes of a node other than the root.
    pub(super) fn attr(&self, node: NodeId) -> Result<Seen, Errno> {
        let path = self.path_of(node)?;
        let metadata = self.ask(move |image| {
            image
                .symlink_metadata(path.as_slice())
                .map_err(|e| errno(&e))
        })?;
        Ok(seen(node, &metadata))
    }

    /// What `name` in `parent` is; `None` when it is not there.
    pub(super) fn lookup(&self, parent: NodeId, name: &OsStr) -> Result<Option<Seen>, Errno> {
        let path = join(self.path_of(parent)?, name.as_bytes())?;
        let asked = path.clone();
        let found = self.ask(
            move |image| match image.symlink_metadata(asked.as_slice()) {
                Ok(metadata) => Ok(Some(metadata)),
                Err(Ext4Error::NotFound) => Ok(None),
                Err(error) => Err(errno(&error)),
            },
        )?;
        found
            .map(|metadata| Ok(seen(self.node_of(path)?, &metadata)))
            .transpose()
    }

    /// The entries of a directory after the first `skip`, at most `most`, `.`
    /// and `..` left out.
    pub(super) fn list(
        &self,
        node: NodeId,
        skip: usize,
        most: usize,
    ) -> Result<Vec<SeenEntry>, Errno> {
        let path = self.path_of(node)?;
        let asked = path.clone();
        let entries = self.ask(move |image| {
            let entries = image.read_dir(asked.as_slice()).map_err(|e| errno(&e))?;
            let mut found = Vec::new();
            let mut skipped = 0;
            for entry in entries {
                let entry = entry.map_err(|e| errno(&e))?;
                let name = entry.file_name().as_ref().to_vec();
                if matches!(name.as_slice(), b"." | b"..") || name.contains(&b'/') {
                    continue;
                }
                if skipped < skip {
                    skipped += 1;
                    continue;
                }
                if found.len() >= most {
                    break;
                }
                // One whose inode is damaged must not hide the others.
                let metadata = entry.metadata().ok();
                found.push((name, metadata));
            }
            Ok(found)
        })?;
        entries
            .into_iter()
            .map(|(name, metadata)| {
                let node = self.node_of(join(path.clone(), &name)?)?;
                let seen = match metadata {
                    Some(metadata) => seen(node, &metadata),
                    None => Seen {
                        node,
                        mode: libc::S_IFREG,
                        uid: 0,
                        gid: 0,
                        size: 0,
                    },
                };
                Ok(SeenEntry { name, seen })
            })
            .collect()
    }

    /// Reads a file: less than `len` only at its end.
    pub(super) fn read(&self, node: NodeId, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let path = self.path_of(node)?;
        self.ask(move |image| {
            let metadata = image
                .symlink_metadata(path.as_slice())
                .map_err(|e| errno(&e))?;
            if metadata.is_symlink() {
                // It would be followed.
                return Err(Errno::ELOOP);
            }
            let mut file = image.open(path.as_slice()).map_err(|e| errno(&e))?;
            if offset >= metadata.len() {
                return Ok(Vec::new());
            }
            file.seek_to(offset).map_err(|e| errno(&e))?;
            let mut data = vec![0; len];
            let mut filled = 0;
            while filled < len {
                match file.read_bytes(&mut data[filled..]) {
                    Ok(0) => break,
                    Ok(read) => filled += read,
                    Err(error) => return Err(errno(&error)),
                }
            }
            data.truncate(filled);
            Ok(data)
        })
    }

    /// The target of a symbolic link.
    pub(super) fn read_link(&self, node: NodeId) -> Result<Vec<u8>, Errno> {
        let path = self.path_of(node)?;
        self.ask(move |image| {
            let metadata = image
                .symlink_metadata(path.as_slice())
                .map_err(|e| errno(&e))?;
            // Read whole, so that its claimed size is memory.
            if metadata.len() > LONGEST_PATH as u64 {
                return Err(Errno::EUCLEAN);
            }
            let target = image.read_link(path.as_slice()).map_err(|e| errno(&e))?;
            Ok(target.as_ref().to_vec())
        })
    }
}

fn serve(path: &Path, ready: &Sender<Result<(), Errno>>, questions: &Receiver<Question>) {
    let image = catch_unwind(|| Ext4::load_from_path(path).map_err(|error| errno(&error)));
    let image = match image.unwrap_or(Err(Errno::EUCLEAN)) {
        Ok(image) => image,
        Err(errno) => {
            let _ = ready.send(Err(errno));
            return;
        }
    };
    if ready.send(Ok(())).is_err() {
        return;
    }
    while let Ok(question) = questions.recv() {
        question(&image);
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

fn seen(node: NodeId, metadata: &Metadata) -> Seen {
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
    // Set-user-id programs of a guest are not this machine's.
    let mode = u32::from(metadata.mode()) & 0o1777;
    Seen {
        node,
        mode: kind | mode,
        uid: metadata.uid(),
        gid: metadata.gid(),
        size: metadata.len().min(i64::MAX as u64),
    }
}

fn errno(error: &Ext4Error) -> Errno {
    match error {
        Ext4Error::NotFound => Errno::ENOENT,
        Ext4Error::NotADirectory => Errno::ENOTDIR,
        Ext4Error::IsADirectory => Errno::EISDIR,
        Ext4Error::NotASymlink | Ext4Error::IsASpecialFile => Errno::EINVAL,
        Ext4Error::PathTooLong => Errno::ENAMETOOLONG,
        Ext4Error::TooManySymlinks => Errno::ELOOP,
        Ext4Error::Encrypted => Errno::EOPNOTSUPP,
        Ext4Error::Incompatible(_) => Errno::EOPNOTSUPP,
        Ext4Error::Corrupt(_) => Errno::EUCLEAN,
        _ => Errno::EIO,
    }
}
