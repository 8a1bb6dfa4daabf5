//! A second volume with the same contents, sharing the space of the first
//! where the host's file system can.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, SFlag};

use super::attributes::{Attributes, Missed};
use super::budget::Budget;
use super::data::{self, Copier, How};
use super::walk::{Found, Visit, walk};
use super::{Watch, make};
use crate::meta::Inode;
use crate::model::{Kind, Labels, Limits, Usage, VolumeName, VolumeSpec};
use crate::sys::descent::{Descent, PASS, open_top};
use crate::sys::node::{self, open_path};
use crate::volume::{Error, Result, Source, Staging, VolumeInfo, Volumes};

/// How the copy differs from the original. By default in nothing but its name:
/// limits and labels are the same. It is not pinned.
#[derive(Clone, Debug, Default)]
pub struct CloneOptions {
    /// Other limits; what the original holds must be within them.
    pub limits: Option<Limits>,
    /// Labels that are set besides.
    pub labels: Vec<(String, String)>,
}

/// What has come of it.
#[derive(Clone, Debug)]
pub struct Cloned {
    /// The new volume.
    pub info: VolumeInfo,
    /// Whether it shares the original's space: it takes none of its own, but
    /// for what describes the files.
    pub shared: bool,
}

/// Makes the volume `to` with the contents that `from` has now. Files that are
/// changed meanwhile may have the old contents or the new.
///
/// The image of a disk volume is copied as it is, with the UUID of its file
/// system; nobody may be using it.
///
/// # Errors
/// [`Error::NotFound`], [`Error::Exists`], [`Error::InUse`],
/// [`Error::NoSpace`], [`Error::Interrupted`], I/O; there is no new volume
/// then.
pub fn clone(
    volumes: &dyn Volumes,
    from: &VolumeName,
    to: &VolumeName,
    options: &CloneOptions,
    watch: &dyn Watch,
) -> Result<Cloned> {
    let source = volumes.source(from)?;
    let info = source.info();
    let mut labels: Labels = info.labels.clone();
    for (key, value) in &options.labels {
        labels.set(key, value);
    }
    let spec = VolumeSpec {
        name: to.clone(),
        kind: info.kind,
        limits: options.limits.unwrap_or(info.limits),
        size: info.disk.as_ref().map(|disk| disk.size),
        labels,
        owner: None,
    };
    let staging = Staging::begin(volumes, &spec)?;
    // A limit below what is used keeps nothing from being copied: it was
    // lowered afterwards, and holds for the copy in the same way.
    let enforced = options.limits.unwrap_or_default();
    let (used, shared) = match info.kind {
        Kind::Directory => files(&source, &staging, enforced, watch)?,
        Kind::Disk => image(&source, &staging, watch)?,
    };
    let guest_written = info.disk.as_ref().is_some_and(|disk| disk.guest_written);
    let info = staging.finish(volumes, used, guest_written)?;
    Ok(Cloned { info, shared })
}

fn image(source: &Source, staging: &Staging, watch: &dyn Watch) -> Result<(Usage, bool)> {
    let (from, to) = (source.contents(), staging.contents());
    let failed = |action: &str, errno: Errno| Error::io(action, &from, &errno.into());
    let original = File::open(&from).map_err(|e| Error::io("open", &from, &e))?;
    let size = original
        .metadata()
        .map_err(|e| Error::io("look at", &from, &e))?
        .len();
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let copy: File = nix::fcntl::open(&to, flags, mode)
        .map_err(|e| Error::io("create", &to, &e.into()))?
        .into();
    let how = Copier::default().copy(&original, &copy, size, watch, &failed)?;
    Ok((Usage::default(), how == How::Shared))
}

fn files(
    source: &Source,
    staging: &Staging,
    limits: Limits,
    watch: &dyn Watch,
) -> Result<(Usage, bool)> {
    let root = staging.contents();
    let into = open_top(&root, PASS).and_then(|top| Descent::new(top, PASS));
    let mut cloner = Cloner {
        into: into.map_err(|e| Error::io("open", &root, &e.into()))?,
        root,
        linked: HashMap::new(),
        budget: Budget::new(limits, staging.unit()),
        copier: Copier::default(),
        shared: true,
        missed: Missed::default(),
        watch,
    };
    walk(&source.contents(), &mut cloner)?;
    Ok((cloner.budget.used(), cloner.shared))
}

struct Cloner<'a> {
    root: PathBuf,
    // The way to the directory that is being filled.
    into: Descent,
    // Inodes with several names, and the first of them.
    linked: HashMap<u64, PathBuf>,
    budget: Budget,
    copier: Copier,
    shared: bool,
    missed: Missed,
    watch: &'a dyn Watch,
}

impl Cloner<'_> {
    fn give_attributes(&mut self, found: &Found<'_>, to: &OwnedFd) -> Result<()> {
        let attributes =
            Attributes::of(found.fd, found.stat).map_err(|e| found.failed("look at", e))?;
        // Who owns the store may not be who owns the files.
        let lenient = !nix::unistd::geteuid().is_root();
        attributes
            .give(to, lenient, &mut self.missed)
            .map_err(|(action, errno)| found.failed(action, errno))
    }

    fn file(&mut self, found: &Found<'_>) -> Result<OwnedFd> {
        let failed = |action: &str, errno: Errno| found.failed(action, errno);
        let from = data::open(found.fd).map_err(|e| failed("open", e))?;
        let size = found.stat.st_size.unsigned_abs();
        self.budget.take(Inode::File { size }, found.path)?;
        let to = make::file(self.into.dir(), found.name()).map_err(|e| failed("create", e))?;
        let how = self.copier.copy(&from, &to, size, self.watch, &failed)?;
        self.shared &= how == How::Shared;
        let after = node::stat(&to)
            .map_err(|e| failed("look at", e))?
            .st_size
            .unsigned_abs();
        // It may have grown since it was found.
        self.budget.resize(size, after, found.path)?;
        Ok(to.into())
    }
}

impl Visit for Cloner<'_> {
    fn enter(&mut self, found: &Found<'_>) -> Result<()> {
        // The new root is there.
        if found.path.as_os_str().is_empty() {
            return Ok(());
        }
        let failed = |errno: Errno| found.failed("create", errno);
        self.budget.take(Inode::Directory { size: 0 }, found.path)?;
        let made = make::directory(self.into.dir(), found.name()).map_err(failed)?;
        self.into.enter(found.name(), made).map_err(failed)
    }

    fn leave(&mut self, found: &Found<'_>) -> Result<()> {
        let failed = |errno: Errno| found.failed("come back from", errno);
        // Its owner may be kept from it when it has them.
        let left = self.into.leave().map_err(failed)?;
        let dir = match left {
            Some((dir, _)) => dir,
            None => {
                let root = self.into.dir().try_clone();
                root.map_err(|e| Error::io("open", &self.root, &e))?
            }
        };
        // What it takes with all its names; of the root what is beyond a block.
        let filled = node::stat(&dir).map_err(failed)?.st_size.unsigned_abs();
        self.budget.resize_directory(0, filled, found.path)?;
        // Now, as what was made in it has changed its time.
        self.give_attributes(found, &dir)
    }

    fn vanished(&mut self, _path: &Path) {}

    fn lost(&mut self, path: &Path, stat: &FileStat) -> Result<()> {
        let failed = |action: &str, errno: Errno| Error::io(action, path, &errno.into());
        let left = self.into.leave().map_err(|e| failed("come back from", e))?;
        // Cannot be the root, which is always found.
        if let Some((dir, _)) = left {
            // The others can no longer be read.
            let attributes = Attributes::without_xattrs(stat);
            let lenient = !nix::unistd::geteuid().is_root();
            attributes
                .give(&dir, lenient, &mut self.missed)
                .map_err(|(action, errno)| failed(action, errno))?;
        }
        Ok(())
    }

    fn visit(&mut self, found: &Found<'_>) -> Result<()> {
        if self.watch.is_stopped() {
            return Err(Error::Interrupted);
        }
        let failed = |errno: Errno| found.failed("create", errno);
        if found.stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&found.stat.st_ino) {
                let inode = open_deep(&self.root, first).map_err(failed)?;
                return node::link(&inode, self.into.dir(), found.name()).map_err(failed);
            }
            self.linked.insert(found.stat.st_ino, found.path.to_owned());
        }
        let made = match found.kind() {
            SFlag::S_IFREG => self.file(found)?,
            kind => {
                self.budget.take(Inode::Other, found.path)?;
                let dir = self.into.dir();
                if kind == SFlag::S_IFLNK {
                    let target = make::target(found.fd).map_err(failed)?;
                    make::symlink(&target, dir, found.name()).map_err(failed)?;
                } else {
                    make::special(dir, found.name(), kind, found.stat.st_rdev).map_err(failed)?;
                }
                open_path(dir, found.name()).map_err(failed)?
            }
        };
        self.give_attributes(found, &made)
    }
}

/// Opens (`O_PATH`) what is at `path` below `root`, through no link, also where
/// the path is longer than a system call takes.
pub(super) fn open_deep(root: &Path, path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut dir = nix::fcntl::open(root, flags, Mode::empty())?;
    for part in pieces(path) {
        dir = open_path(&dir, part.as_os_str())?;
    }
    Ok(dir)
}

/// A path in pieces that a system call takes.
pub(super) fn pieces(path: &Path) -> Vec<PathBuf> {
    /// `PATH_MAX` is 4096, a name at most 255.
    const LONG: usize = 3072;
    let mut pieces = Vec::new();
    let mut piece = PathBuf::new();
    for component in path.components() {
        piece.push(component);
        if piece.as_os_str().len() > LONG {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    if !piece.as_os_str().is_empty() {
        pieces.push(piece);
    }
    pieces
}
