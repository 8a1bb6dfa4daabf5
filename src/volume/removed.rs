//! Files that were removed from a volume and are kept for a while, in `removed`
//! beside the volume's `data`: each under the number of its inode, with a note of what it
//! was. They are no part of the volume any more: nothing in it leads to them, and they
//! are not charged.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use parking_lot::Mutex;

use super::api::VolumeInfo;
use super::error::{Error, Result};
use super::layout::DATA;
use crate::failpoint;
use crate::model::{Bytes, Timestamp};
use crate::sys::node;

/// Its name beside [`DATA`].
const DIR: &str = "removed";
/// What a note's name has after the file's.
const NOTE: &str = ".was";
/// Written anew by whoever deletes files other than the process that serves the volume.
const CHANGED: &str = "changed";
/// What the name of a file begins with that is just being brought back: one that is
/// removed then is not kept once more.
pub(super) const TEMPORARY: &str = ".volfs-restore-";
/// The most files that a volume keeps.
const MOST: usize = 10_000;
/// What the host allocates in one unit of `st_blocks` (stat(2)).
const SECTOR: u64 = 512;

/// A file that was removed and is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedFile {
    /// What it was called, from the volume's root.
    pub path: PathBuf,
    /// How long it is.
    pub size: Bytes,
    /// What the host has allocated for it.
    pub allocated: Bytes,
    /// The user who removed it.
    pub uid: u32,
    /// When it was removed.
    pub removed: Timestamp,
    /// Where it is kept.
    pub kept: PathBuf,
}

/// The kept files of a volume, as the process knows them that serves it.
#[derive(Debug)]
pub(crate) struct Removed {
    /// 0 where none are kept.
    limit: AtomicU64,
    /// Locked over each file that comes or goes: a note belongs to its file.
    state: Mutex<Option<Index>>,
}

#[derive(Debug)]
struct Index {
    /// Oldest first: their names, and what they take.
    files: VecDeque<(String, u64)>,
    total: u64,
    /// What [`CHANGED`] was.
    seen: Option<(u64, i64, i64)>,
}

/// What becomes of a name.
pub(crate) struct Leaving<'a> {
    /// The root directory of the volume.
    pub root: &'a OwnedFd,
    /// The directory of the name.
    pub dir: BorrowedFd<'a>,
    /// The name.
    pub name: &'a OsStr,
    /// What it leads to.
    pub stat: &'a FileStat,
    /// Who removes it.
    pub uid: u32,
}

impl Removed {
    pub(super) fn new(limit: Option<Bytes>) -> Self {
        Self {
            limit: AtomicU64::new(limit.map_or(0, |limit| limit.0)),
            state: Mutex::new(None),
        }
    }

    pub(super) fn set_limit(&self, limit: Option<Bytes>) {
        let limit = limit.map_or(0, |limit| limit.0);
        self.limit.store(limit, Ordering::SeqCst);
    }

    /// Whether a file that loses its last name is to be kept.
    pub(crate) fn wants(&self, name: &OsStr, stat: &FileStat) -> bool {
        let limit = self.limit.load(Ordering::SeqCst);
        let regular = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        let comes_back = name.as_bytes().starts_with(TEMPORARY.as_bytes());
        limit > 0 && regular && !comes_back && stat.st_nlink == 1 && allocated(stat) <= limit
    }

    /// Takes a file out of its volume; what is too much then is deleted.
    ///
    /// # Errors
    /// It cannot be kept; it is still there.
    pub(crate) fn keep(&self, leaving: &Leaving<'_>) -> nix::Result<()> {
        let mut state = self.state.lock();
        let dir = make_dir(leaving.root)?;
        let index = current(&mut state, &dir)?;
        let key = leaving.stat.st_ino.to_string();
        write_note(&dir, &key, &path_of(leaving)?, leaving.uid)?;
        failpoint::hit("live.remove.noted");
        let rename = || {
            let no_replace = libc::RENAME_NOREPLACE;
            node::rename(
                leaving.dir,
                leaving.name,
                &dir,
                OsStr::new(&key),
                no_replace,
            )
        };
        match rename() {
            // Kept before this store was copied to another file system.
            Err(Errno::EEXIST) => {
                delete(&dir, &key)?;
                index.files.retain(|(name, _)| *name != key);
                write_note(&dir, &key, &path_of(leaving)?, leaving.uid)?;
                rename()?;
            }
            renamed => renamed?,
        }
        let bytes = allocated(leaving.stat);
        index.files.push_back((key, bytes));
        index.total = index.total.saturating_add(bytes);
        failpoint::hit("live.remove.kept");
        index.evict(&dir, self.limit.load(Ordering::SeqCst));
        Ok(())
    }

    /// A kept file that was still open has been closed: it may have grown meanwhile.
    pub(crate) fn closed(&self, root: &OwnedFd, stat: &FileStat) {
        let mut state = self.state.lock();
        let Ok(dir) = open_dir(root) else {
            return;
        };
        let Ok(index) = current(&mut state, &dir) else {
            return;
        };
        let key = stat.st_ino.to_string();
        let Some((_, bytes)) = index.files.iter_mut().find(|(name, _)| *name == key) else {
            return;
        };
        let before = std::mem::replace(bytes, allocated(stat));
        index.total = (index.total + allocated(stat)).saturating_sub(before);
        let limit = self.limit.load(Ordering::SeqCst);
        if limit > 0 {
            index.evict(&dir, limit);
        }
    }

    /// Deletes what is more than the limit, which may have been lowered.
    pub(super) fn trim(&self, data: &Path) {
        let limit = self.limit.load(Ordering::SeqCst);
        let Ok(root) = File::open(data) else {
            return;
        };
        let mut state = self.state.lock();
        if let (1.., Ok(dir)) = (limit, open_dir(&root.into()))
            && let Ok(index) = current(&mut state, &dir)
        {
            index.evict(&dir, limit);
        }
    }
}

impl Index {
    fn evict(&mut self, dir: &OwnedFd, limit: u64) {
        while self.total > limit || self.files.len() > MOST {
            let Some((name, bytes)) = self.files.pop_front() else {
                return;
            };
            if let Err(errno) = delete(dir, &name) {
                log::warn!(
                    "a removed file that is kept cannot be deleted: {}",
                    errno.desc()
                );
            }
            self.total = self.total.saturating_sub(bytes);
        }
    }
}

/// Whether the inode of `stat` is one that is kept of the volume whose root is `root`.
pub(crate) fn is_kept(root: &OwnedFd, stat: &FileStat) -> bool {
    let key = stat.st_ino.to_string();
    let found = open_dir(root)
        .and_then(|dir| node::open_path(&dir, OsStr::new(&key)))
        .and_then(node::stat);
    found.is_ok_and(|found| (found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino))
}

/// The kept files of a volume, last removed first.
///
/// # Errors
/// I/O.
pub fn removed_files(info: &VolumeInfo) -> Result<Vec<RemovedFile>> {
    let dir = dir_of(info);
    let failed = |error| Error::io("list", &dir, &error);
    let entries = match fs::read_dir(&dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let kept = entry.map_err(failed)?.path();
        if is_key(kept.file_name().unwrap_or_default()) {
            // It may give way to another just now.
            files.extend(read(kept));
        }
    }
    files.sort_by_key(|file| std::cmp::Reverse(file.removed));
    Ok(files)
}

/// Deletes kept files of a volume; returns how many there were.
///
/// # Errors
/// I/O.
pub fn delete_removed_files(info: &VolumeInfo, files: &[RemovedFile]) -> Result<usize> {
    let mut deleted = 0;
    for file in files {
        match fs::remove_file(&file.kept) {
            Ok(()) => deleted += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("delete", &file.kept, &error)),
        }
        let _ = fs::remove_file(note_of(&file.kept));
    }
    if deleted > 0 {
        let changed = dir_of(info).join(CHANGED);
        let now = Timestamp::now().as_nanos().to_string();
        let next = dir_of(info).join(format!("{CHANGED}.{}", std::process::id()));
        fs::write(&next, now)
            .and_then(|()| fs::rename(&next, &changed))
            .map_err(|error| Error::io("write", &changed, &error))?;
    }
    Ok(deleted)
}

/// Whether files of the volume with this root directory are kept.
pub(super) fn are_any(data: &Path) -> bool {
    let entries = data.parent().map(|home| fs::read_dir(home.join(DIR)));
    entries.is_some_and(|entries| {
        let mut names = entries.into_iter().flatten().flatten();
        names.any(|entry| is_key(&entry.file_name()))
    })
}

fn dir_of(info: &VolumeInfo) -> PathBuf {
    debug_assert!(info.path.ends_with(DATA));
    info.path.with_file_name(DIR)
}

fn note_of(kept: &Path) -> PathBuf {
    kept.with_extension(&NOTE[1..])
}

fn is_key(name: &OsStr) -> bool {
    name.as_bytes().iter().all(u8::is_ascii_digit)
}

fn allocated(stat: &FileStat) -> u64 {
    stat.st_blocks.unsigned_abs() * SECTOR
}

fn read(kept: PathBuf) -> Option<RemovedFile> {
    let found = fs::symlink_metadata(&kept).ok()?;
    let (uid, removed, path) = fs::read(note_of(&kept)).ok().and_then(parse_note)?;
    Some(RemovedFile {
        path,
        size: Bytes(found.len()),
        allocated: Bytes(found.blocks() * SECTOR),
        uid,
        removed,
        kept,
    })
}

/// A line with the user and the time, and the path as it is.
fn parse_note(bytes: Vec<u8>) -> Option<(u32, Timestamp, PathBuf)> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end]).ok()?;
    let (uid, nanos) = line.split_once(' ')?;
    let path = OsString::from_vec(bytes[end + 1..].to_vec());
    Some((
        uid.parse().ok()?,
        Timestamp::from_nanos(nanos.parse().ok()?),
        path.into(),
    ))
}

fn write_note(dir: &OwnedFd, key: &str, path: &Path, uid: u32) -> nix::Result<()> {
    let name = format!("{key}{NOTE}");
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let note = openat(dir, name.as_str(), flags | OFlag::O_CLOEXEC, mode)?;
    let mut bytes = format!("{uid} {}\n", Timestamp::now().as_nanos()).into_bytes();
    bytes.extend_from_slice(path.as_os_str().as_bytes());
    File::from(note)
        .write_all(&bytes)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// The path of a name from the volume's root.
fn path_of(leaving: &Leaving<'_>) -> nix::Result<PathBuf> {
    let path = |fd| fs::read_link(node::proc_path(fd)).map_err(|_| Errno::ENOENT);
    let (root, dir) = (path(leaving.root.as_fd())?, path(leaving.dir)?);
    let below = dir.strip_prefix(&root).map_err(|_| Errno::EXDEV)?;
    Ok(below.join(leaving.name))
}

const DIR_FLAGS: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

fn home(root: &OwnedFd) -> nix::Result<OwnedFd> {
    openat(root, "..", DIR_FLAGS | OFlag::O_PATH, Mode::empty())
}

fn open_dir(root: &OwnedFd) -> nix::Result<OwnedFd> {
    openat(home(root)?, DIR, DIR_FLAGS, Mode::empty())
}

fn make_dir(root: &OwnedFd) -> nix::Result<OwnedFd> {
    match open_dir(root) {
        Err(Errno::ENOENT) => {
            mkdirat(home(root)?, DIR, Mode::S_IRWXU)?;
            open_dir(root)
        }
        opened => opened,
    }
}

/// The file first: a note without a file is nothing.
fn delete(dir: &OwnedFd, key: &str) -> nix::Result<()> {
    for name in [key.to_owned(), format!("{key}{NOTE}")] {
        match unlinkat(dir, name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The index of what is there, read anew where somebody else has changed that.
fn current<'a>(state: &'a mut Option<Index>, dir: &OwnedFd) -> nix::Result<&'a mut Index> {
    let changed = node::open_path(dir, OsStr::new(CHANGED)).and_then(node::stat);
    let seen = changed
        .ok()
        .map(|it| (it.st_ino, it.st_mtime, it.st_mtime_nsec));
    let index = match state.take() {
        Some(index) if index.seen == seen => index,
        _ => scan(dir, seen)?,
    };
    Ok(state.insert(index))
}

fn scan(dir: &OwnedFd, seen: Option<(u64, i64, i64)>) -> nix::Result<Index> {
    let path = node::proc_path(dir.as_fd());
    let names = crate::sys::dir::names(openat(dir, ".", DIR_FLAGS, Mode::empty())?)?;
    let mut found = Vec::new();
    for name in names {
        let Ok(name) = name.into_string() else {
            continue;
        };
        if let Some(key) = name.strip_suffix(NOTE) {
            if node::open_path(dir, OsStr::new(key)).is_err_and(|it| it == Errno::ENOENT) {
                // What it is about has stayed where it was, or has been deleted.
                let _ = unlinkat(dir, name.as_str(), UnlinkatFlags::NoRemoveDir);
            }
        } else if is_key(OsStr::new(&name))
            && let Ok(stat) = node::open_path(dir, OsStr::new(&name)).and_then(node::stat)
        {
            let removed = read(path.join(&name)).map(|file| file.removed);
            found.push((removed, name, allocated(&stat)));
        }
    }
    found.sort_unstable();
    Ok(Index {
        total: found.iter().map(|(_, _, bytes)| bytes).sum(),
        files: found
            .into_iter()
            .map(|(_, name, bytes)| (name, bytes))
            .collect(),
        seen,
    })
}
