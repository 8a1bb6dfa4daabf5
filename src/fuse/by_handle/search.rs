//! Finding an inode in a volume by its number: the volume is walked.
//!
//! In which directory each inode was seen on the way is remembered for a while,
//! because whoever asks for one (an NFS server that has been started anew) asks
//! for many. What is remembered is nothing but a hint: an inode is found where a
//! directory below the volume's root has a name of it now.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::stat::FileStat;
use parking_lot::Mutex;

use super::super::error::{OpError, OpResult};
use super::super::host::Host;
use super::super::node::HostIno;
use super::super::nodes::Way;
use super::inside;
use crate::model::Serial;
use crate::sys::descent::{Descent, LIST, open_below};
use crate::sys::{dir, node};
use crate::volume::Volume;

/// Inodes that are remembered: 64 MiB.
const MOST: usize = 4 << 20;
/// How long they are, when nobody asks.
const WHILE: Duration = Duration::from_secs(60);
/// How often a volume is walked for one inode while names in it are moved.
const TRIES: usize = 8;
/// Bytes of a directory that are read at a time.
const BUFFER: usize = 32 << 10;

/// Where inodes have been seen.
#[derive(Default)]
pub(in crate::fuse) struct Places {
    /// Held for a walk: who asks for the same volume waits for what it finds. He
    /// does so on a thread of his own. A leaf lock.
    seen: Mutex<Option<Seen>>,
    /// Names that were moved to other directories, or added to inodes that had
    /// one: a walk may have missed them.
    moves: AtomicU64,
}

/// What was seen in the last walk.
struct Seen {
    volume: Serial,
    /// Inodes and the directory that each was in, in order.
    parents: Vec<(u64, u64)>,
    /// Directories and their generations, in order.
    directories: Vec<(u64, u32)>,
    used: Instant,
}

impl Places {
    /// A name has been moved, or one has been added.
    pub(in crate::fuse) fn name_moved(&self) {
        self.moves.fetch_add(1, Ordering::Release);
    }

    /// Forgets what nobody has asked for in a while.
    pub(in crate::fuse) fn forget_old(&self) {
        // While somebody walks there is nothing old.
        if let Some(mut seen) = self.seen.try_lock()
            && seen.as_ref().is_some_and(|it| it.used.elapsed() > WHILE)
        {
            *seen = None;
        }
    }

    /// Opens (`O_PATH`) inode `ino`, if it has a name below `root`, the root of
    /// `volume`.
    ///
    /// # Errors
    /// ESTALE when it has none.
    pub(super) fn find(
        &self,
        volume: &Volume,
        root: &OwnedFd,
        host: &Host,
        ino: u64,
    ) -> OpResult<OwnedFd> {
        let mut seen = self.seen.lock();
        let known = seen.as_mut().filter(|it| it.volume == volume.serial);
        if let Some(found) = known.and_then(|it| it.look(root, host, ino)) {
            return Ok(found);
        }
        for _ in 0..TRIES {
            let moves = self.moves.load(Ordering::Acquire);
            let mut walk = Walk::new(root, ino)?;
            walk.run(root, host)?;
            log::debug!("volume {} was searched for inode {ino}", volume.name());
            let found = walk.found.take();
            *seen = walk.seen(volume.serial);
            if let Some(found) = found {
                return Ok(found);
            }
            if self.moves.load(Ordering::Acquire) == moves {
                break;
            }
        }
        Err(OpError::Host(Errno::ESTALE))
    }
}

impl Seen {
    /// Opens `ino` in the directory that it was seen in.
    fn look(&mut self, root: &OwnedFd, host: &Host, ino: u64) -> Option<OwnedFd> {
        self.used = Instant::now();
        let parent = value(&self.parents, ino)?;
        let top = node::stat(root).ok()?;
        let dir = if parent == top.st_ino {
            open_below(root, OsStr::new("."), LIST).ok()?
        } else {
            let way = Way::Generation(value(&self.directories, parent)?);
            let dir = host.open(HostIno(parent), Some(&way), LIST).ok()?;
            inside::is_below(&dir, &top).ok()?.then_some(dir)?
        };
        let mut buffer = vec![0; BUFFER];
        loop {
            let mut any = false;
            for entry in dir::read(&dir, &mut buffer).ok()? {
                any = true;
                if entry.ino == ino
                    && let Some(found) = open_named(&dir, entry.name, (top.st_dev, ino))
                {
                    return Some(found);
                }
            }
            if !any {
                return None;
            }
        }
    }
}

fn value<T: Copy>(pairs: &[(u64, T)], key: u64) -> Option<T> {
    let index = pairs.binary_search_by_key(&key, |pair| pair.0).ok()?;
    Some(pairs[index].1)
}

/// Opens (`O_PATH`) what is called `name` in `dir`, if it is that inode.
fn open_named(dir: impl AsFd, name: &OsStr, inode: (u64, u64)) -> Option<OwnedFd> {
    if name == "." || name == ".." {
        return None;
    }
    let found = node::open_path(dir, name).ok()?;
    let stat = node::stat(&found).ok()?;
    ((stat.st_dev, stat.st_ino) == inode).then_some(found)
}

/// A walk over a volume.
struct Walk {
    wanted: u64,
    found: Option<OwnedFd>,
    top: FileStat,
    parents: Vec<(u64, u64)>,
    directories: Vec<(u64, u32)>,
    buffer: Vec<u8>,
}

impl Walk {
    fn new(root: &OwnedFd, wanted: u64) -> OpResult<Self> {
        Ok(Self {
            wanted,
            found: None,
            top: node::stat(root)?,
            parents: Vec::new(),
            directories: Vec::new(),
            buffer: vec![0; BUFFER],
        })
    }

    fn run(&mut self, root: &OwnedFd, host: &Host) -> Result<(), Errno> {
        let top = open_below(root, OsStr::new("."), LIST)?;
        // For each level, the directories in it that are still to be looked at.
        let mut levels = vec![self.look(&top, self.top.st_ino)?];
        let mut descent = Descent::new(top, LIST)?.wherever_they_are();
        while let Some(left) = levels.last_mut() {
            let Some(name) = left.pop() else {
                levels.pop();
                // One that was moved away since: who moved it has counted that.
                let _ = descent.leave();
                continue;
            };
            // Removed or replaced since it was listed, or no directory.
            let Ok(dir) = open_below(descent.dir(), &name, LIST) else {
                continue;
            };
            let stat = node::stat(&dir)?;
            // What is mounted in it is not the volume's.
            if stat.st_dev != self.top.st_dev {
                continue;
            }
            if let Ok(Ok(way)) = host.way_to(&dir, &stat) {
                self.directories.push((stat.st_ino, way.generation()));
            }
            let below = self.look(&dir, stat.st_ino)?;
            if !below.is_empty() {
                levels.push(below);
                descent.enter(&name, dir)?;
            }
        }
        Ok(())
    }

    /// Looks at the names in a directory that was just opened; returns those of
    /// what may be directories.
    fn look(&mut self, dir: &OwnedFd, number: u64) -> Result<Vec<OsString>, Errno> {
        let mut below = Vec::new();
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let mut any = false;
            for entry in dir::read(dir, &mut buffer)? {
                any = true;
                if entry.name == "." || entry.name == ".." {
                    continue;
                }
                if entry.ino == self.wanted && self.found.is_none() {
                    self.found = open_named(dir, entry.name, (self.top.st_dev, self.wanted));
                }
                if self.parents.len() <= MOST {
                    self.parents.push((entry.ino, number));
                }
                if matches!(entry.kind, libc::DT_DIR | libc::DT_UNKNOWN) {
                    below.push(entry.name.to_owned());
                }
            }
            if !any {
                self.buffer = buffer;
                return Ok(below);
            }
        }
    }

    /// What is remembered of it: nothing of a volume that has too much.
    fn seen(mut self, volume: Serial) -> Option<Seen> {
        if self.parents.len() > MOST {
            return None;
        }
        self.parents.sort_unstable();
        self.parents.dedup_by_key(|pair| pair.0);
        self.parents.shrink_to_fit();
        self.directories.sort_unstable();
        Some(Seen {
            volume,
            parents: self.parents,
            directories: self.directories,
            used: Instant::now(),
        })
    }
}
