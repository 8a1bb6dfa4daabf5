//! Making the files that an archive holds, inside the volume and nowhere else.
//!
//! A name is made in a directory that is opened from the volume's root through
//! no link at all, and never replaces what is not of the same archive. So an
//! archive that makes a symbolic link and then writes through it is refused.
//!
//! A directory gets what its entry says at once, so that nothing of it has to
//! be kept in memory; see [`filling`](super::filling) for what is done to it afterwards.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstatat, makedev};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::archive::{Entry, Kind};
use super::attributes::{Attributes, Missed, clear};
use super::budget::Budget;
use super::clone::{open_deep, pieces};
use super::filling::Filling;
use super::import::Import;
use super::make;
use crate::meta::{ATTRIBUTES_MOST, Inode};
use crate::model::{AllocationUnit, Limits, Usage, shown};
use crate::sys::node::{self, chmod, open_beneath, open_path};
use crate::volume::{Error, Result};

const DIR: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW);

/// The owner's right to pass through a directory.
const OWNER_PASSES: u32 = 0o100;

/// The most bytes of the paths of directories that are closed to their owner.
const CLOSED_MOST: usize = 8 << 20;

/// A volume's root directory that is being filled.
pub(super) struct Unpacker {
    root: PathBuf,
    root_fd: OwnedFd,
    limits: Limits,
    budget: Budget,
    devices: bool,
    // The modes of directories whose owner may not pass through them, for when
    // nothing is made in them any more; empty for root, who may.
    closed: BTreeMap<PathBuf, u32>,
    closed_bytes: usize,
    // The directory of the last entry: the next is mostly in it, too.
    last: Option<Filling>,
    missed: Missed,
    lenient: bool,
}

impl Unpacker {
    pub(super) fn new(
        root: &Path,
        limits: Limits,
        unit: AllocationUnit,
        devices: bool,
    ) -> Result<Self> {
        let root_fd = nix::fcntl::open(root, DIR | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|e| Error::io("open", root, &e.into()))?;
        let mut unpacker = Self {
            root: root.to_owned(),
            root_fd,
            limits,
            budget: Budget::new(limits, unit),
            devices,
            closed: BTreeMap::new(),
            closed_bytes: 0,
            last: None,
            missed: Missed::default(),
            // Others than root have their own files only.
            lenient: !nix::unistd::geteuid().is_root(),
        };
        let root_fd = unpacker.root_fd()?;
        unpacker.charge_new(&root_fd, Path::new(""))?;
        unpacker.give(&root_fd, &implied(), Path::new(""))?;
        Ok(unpacker)
    }

    fn root_fd(&self) -> Result<OwnedFd> {
        let root_fd = self.root_fd.try_clone();
        root_fd.map_err(|e| Error::io("open", &self.root, &e))
    }

    /// What has been charged.
    pub(super) fn used(&self) -> Usage {
        self.budget.used()
    }

    /// Makes what an entry says.
    pub(super) fn unpack<R: Read>(
        &mut self,
        import: &mut Import<'_, R>,
        entry: &Entry,
    ) -> Result<()> {
        let path = inside(&entry.path)?;
        if self.limits.bytes.is_some() && entry.attributes.xattr_bytes() > ATTRIBUTES_MOST {
            return Err(Error::NoSpace {
                path,
                why: format!(
                    "the extended attributes of a file hold at most {ATTRIBUTES_MOST} bytes in a volume with a quota: they are not charged"
                ),
            });
        }
        let Some(name) = path.file_name() else {
            return match entry.kind {
                Kind::Directory => {
                    self.leave()?;
                    let root_fd = self.root_fd()?;
                    clear(&root_fd).map_err(|e| Error::io("create", &path, &e.into()))?;
                    self.directory(&root_fd, &entry.attributes, &path)
                }
                _ => Err(refused(&path, "would take the place of the volume's root")),
            };
        };
        let filling = self.enter(import, &path)?;
        let made = self.make(import, entry, &path, &filling.fd, name);
        self.last = Some(filling);
        match made? {
            Some(fd) if entry.kind == Kind::Directory => {
                self.directory(&fd, &entry.attributes, &path)
            }
            Some(fd) => self.give(&fd, &entry.attributes, &path),
            None => Ok(()),
        }
    }

    /// Makes it, and returns what is to get the entry's attributes at once.
    fn make<R: Read>(
        &mut self,
        import: &mut Import<'_, R>,
        entry: &Entry,
        path: &Path,
        dir: &OwnedFd,
        name: &OsStr,
    ) -> Result<Option<OwnedFd>> {
        let failed = |errno: Errno| Error::io("create", path, &errno.into());
        match entry.kind {
            Kind::Directory => {
                // Said once more, or made for what is in it.
                if let Ok(there) = open_beneath(dir, name, DIR, Mode::empty()) {
                    clear(&there).map_err(failed)?;
                    return Ok(Some(there));
                }
                let made = self.replace(dir, name, path, || make::directory(dir, name))?;
                self.budget.take(Inode::Directory { size: 0 }, path)?;
                self.charge_new(&made, path)?;
                return Ok(Some(made));
            }
            Kind::File => {
                let file = self.replace(dir, name, path, || make::file(dir, name))?;
                // Before a byte of it is written.
                let size = entry.content.size;
                self.budget.take(Inode::File { size }, path)?;
                import.write(&entry.content, &file, path)?;
                return Ok(Some(file.into()));
            }
            Kind::HardLink => {
                let target = inside(&entry.link)?;
                if target == path {
                    return Err(refused(path, "is a link to itself"));
                }
                let inode = open_deep(&self.root, &target).map_err(|errno| match errno {
                    Errno::ELOOP | Errno::ENOTDIR | Errno::EXDEV => through_link(&target),
                    Errno::ENOENT => refused(path, "is a link to something that is not there"),
                    errno => failed(errno),
                })?;
                self.replace(dir, name, path, || node::link(&inode, dir, name))?;
                return Ok(None);
            }
            Kind::Symlink => {
                let target = OsStr::from_bytes(&entry.link);
                self.replace(dir, name, path, || make::symlink(target, dir, name))?;
                self.budget.take(Inode::Other, path)?;
            }
            Kind::Fifo => {
                self.replace(dir, name, path, || {
                    make::special(dir, name, SFlag::S_IFIFO, 0)
                })?;
                self.budget.take(Inode::Other, path)?;
            }
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => {
                if !self.devices {
                    return Err(refused(
                        path,
                        "is a device node; '--devices' lets them in, which is for archives that you trust",
                    ));
                }
                let kind = match entry.kind {
                    Kind::CharDevice(..) => SFlag::S_IFCHR,
                    _ => SFlag::S_IFBLK,
                };
                let device = makedev(major.into(), minor.into());
                self.replace(dir, name, path, || make::special(dir, name, kind, device))?;
                self.budget.take(Inode::Other, path)?;
            }
        }
        open_path(dir, name).map(Some).map_err(failed)
    }

    /// Makes something under a name, to be charged afterwards; an earlier entry
    /// of that name gives way, and its room back.
    fn replace<T>(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        path: &Path,
        make: impl Fn() -> nix::Result<T>,
    ) -> Result<T> {
        let failed = |errno: Errno| Error::io("create", path, &errno.into());
        match make() {
            Err(Errno::EEXIST) => {}
            other => return other.map_err(failed),
        }
        let there = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
        let inode = Inode::of(&there);
        if inode.is_directory() {
            unlinkat(dir, name, UnlinkatFlags::RemoveDir).map_err(|errno| match errno {
                Errno::ENOTEMPTY | Errno::EEXIST => refused(
                    path,
                    "would take the place of a directory that is not empty",
                ),
                errno => failed(errno),
            })?;
            self.open_for_good(path);
        } else {
            unlinkat(dir, name, UnlinkatFlags::NoRemoveDir).map_err(failed)?;
        }
        if inode.is_directory() || there.st_nlink <= 1 {
            self.budget.give_back(inode);
        }
        make().map_err(failed)
    }

    /// The directory that a path is in, to be filled; those that no entry has
    /// made are made.
    fn enter<R: Read>(&mut self, import: &Import<'_, R>, path: &Path) -> Result<Filling> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some(last) = self.last.take_if(|last| last.path == parent) {
            return Ok(last);
        }
        self.leave()?;
        let failed = |errno: Errno| match errno {
            Errno::ELOOP | Errno::ENOTDIR | Errno::EXDEV => through_link(path),
            errno => Error::io("open the directory of", path, &errno.into()),
        };
        let root = || -> nix::Result<OwnedFd> {
            open_beneath(&self.root_fd, OsStr::new("."), DIR, Mode::empty())
        };
        let opened = pieces(parent)
            .iter()
            .try_fold(root().map_err(failed)?, |dir, piece| {
                open_beneath(&dir, piece.as_os_str(), DIR, Mode::empty())
            });
        match opened {
            Err(Errno::ENOENT) => {}
            other => return Filling::new(other.map_err(failed)?, parent).map_err(failed),
        }
        let mut dir = root().map_err(failed)?;
        let mut so_far = PathBuf::new();
        for name in parent.components() {
            if import.is_stopped() {
                return Err(Error::Interrupted);
            }
            so_far.push(name);
            let name = name.as_os_str();
            dir = match open_beneath(&dir, name, DIR, Mode::empty()) {
                Err(Errno::ENOENT) => {
                    self.budget.take(Inode::Directory { size: 0 }, &so_far)?;
                    let above = Filling::new(dir, Path::new("")).map_err(failed)?;
                    let made = make::directory(&above.fd, name).map_err(failed)?;
                    self.charge_new(&made, &so_far)?;
                    self.give(&made, &implied(), &so_far)?;
                    self.charge(&above, &so_far)?;
                    above.leave().map_err(failed)?;
                    made
                }
                other => other.map_err(failed)?,
            };
        }
        Filling::new(dir, parent).map_err(failed)
    }

    /// The directory that was filled is as it is to be.
    fn leave(&mut self) -> Result<()> {
        let Some(last) = self.last.take() else {
            return Ok(());
        };
        self.charge(&last, &last.path)?;
        let left = last.leave();
        left.map_err(|e| Error::io("set the time of", &last.path, &e.into()))
    }

    /// What a new directory takes that is larger than others is charged.
    fn charge_new(&self, made: &OwnedFd, path: &Path) -> Result<()> {
        let size = node::stat(made).map_err(|e| Error::io("look at", path, &e.into()))?;
        self.budget
            .resize_directory(0, size.st_size.unsigned_abs(), path)
    }

    /// What the names in a directory take is charged.
    fn charge(&self, filled: &Filling, path: &Path) -> Result<()> {
        let sizes = filled.sizes();
        let (before, now) = sizes.map_err(|e| Error::io("look at", path, &e.into()))?;
        self.budget.resize_directory(before, now, path)
    }

    fn give(&mut self, fd: &OwnedFd, attributes: &Attributes, path: &Path) -> Result<()> {
        attributes
            .give(fd, self.lenient, &mut self.missed)
            .map_err(|(action, errno)| Error::io(action, path, &errno.into()))
    }

    /// Gives a directory what its entry says, but for what would keep its owner
    /// from passing through.
    fn directory(&mut self, fd: &OwnedFd, attributes: &Attributes, path: &Path) -> Result<()> {
        self.open_for_good(path);
        if !self.lenient || attributes.mode & OWNER_PASSES != 0 {
            return self.give(fd, attributes, path);
        }
        self.closed_bytes += path.as_os_str().len();
        if self.closed_bytes > CLOSED_MOST {
            return Err(refused(
                path,
                "is one directory too many that is closed to its owner; root can import them",
            ));
        }
        self.closed.insert(path.to_owned(), attributes.mode);
        let open = Attributes {
            mode: attributes.mode | OWNER_PASSES,
            ..attributes.clone()
        };
        self.give(fd, &open, path)
    }

    /// No mode is kept of it.
    fn open_for_good(&mut self, path: &Path) {
        if self.closed.remove(path).is_some() {
            self.closed_bytes -= path.as_os_str().len();
        }
    }

    /// Nothing is made any more.
    pub(super) fn finish(&mut self) -> Result<Missed> {
        self.leave()?;
        // Those further down first.
        for (path, mode) in self.closed.iter().rev() {
            open_deep(&self.root, path)
                .and_then(|fd| chmod(&fd, Mode::from_bits_truncate(*mode)))
                .map_err(|e| Error::io("set the mode of", path, &e.into()))?;
        }
        Ok(self.missed)
    }
}

/// What a directory is that no entry speaks of.
fn implied() -> Attributes {
    let now = crate::model::Timestamp::now().as_nanos();
    Attributes {
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        mode: 0o755,
        // A remainder of division by 10^9 fits.
        mtime: (
            now.div_euclid(1_000_000_000),
            now.rem_euclid(1_000_000_000) as u32,
        ),
        atime: None,
        xattrs: Vec::new(),
    }
}

/// The path of an entry, from the volume's root, if it is one.
fn inside(name: &[u8]) -> Result<PathBuf> {
    let shown = Path::new(OsStr::from_bytes(name));
    if name.starts_with(b"/") {
        return Err(refused(shown, "is an absolute path"));
    }
    if name.contains(&0) {
        return Err(refused(shown, "has a zero byte in its name"));
    }
    let mut path = PathBuf::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(refused(shown, "leads out of the volume by '..'")),
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Ok(path)
}

fn through_link(path: &Path) -> Error {
    refused(
        path,
        "is reached through a symbolic link, or something else that is no directory",
    )
}

fn refused(path: &Path, why: &str) -> Error {
    Error::Archive {
        why: format!("{} {why}", shown(path)),
    }
}
