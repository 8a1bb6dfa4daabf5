//! Where things are in a store: paths, and the few operations on directories
//! that all parts of the store share.
//!
//! Knows no catalogue and no volume but by its id.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::error::{Error, Result};
use crate::model::VolumeId;

/// The paths of a store.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

/// The directories that a volume's own directory can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Volumes that are there.
    Volumes,
    /// Removed volumes.
    Trash,
    /// Volumes that are being built.
    Tmp,
}

impl Place {
    pub(super) const ALL: [Self; 3] = [Self::Volumes, Self::Trash, Self::Tmp];

    const fn name(self) -> &'static str {
        match self {
            Self::Volumes => "volumes",
            Self::Trash => "trash",
            Self::Tmp => "tmp",
        }
    }
}

/// What is in one of the directories.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Directories with the name of an id.
    pub ids: HashSet<VolumeId>,
    /// Anything else: not ours, never touched.
    pub foreign: Vec<OsString>,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn catalogue(&self) -> PathBuf {
        self.root.join("meta.db")
    }

    /// What ties the catalogue to the volumes: it lies with them, so that who
    /// restores a catalogue does not restore it, too.
    pub(super) fn lineage(&self) -> PathBuf {
        self.place(Place::Volumes).join(LINEAGE)
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn events(&self) -> PathBuf {
        self.root.join("events.jsonl")
    }

    pub(super) fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    pub(super) fn place(&self, place: Place) -> PathBuf {
        self.root.join(place.name())
    }

    pub(super) fn home(&self, place: Place, id: VolumeId) -> PathBuf {
        self.place(place).join(id.to_string())
    }

    pub(super) fn data(&self, place: Place, id: VolumeId) -> PathBuf {
        self.home(place, id).join(DATA)
    }

    pub(super) fn image(&self, place: Place, id: VolumeId) -> PathBuf {
        self.home(place, id).join(IMAGE)
    }

    /// Lists a directory; `None` when it is not there.
    pub(super) fn list(&self, place: Place) -> Result<Option<Listing>> {
        let path = self.place(place);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("list", &path, &error)),
        };
        let mut listing = Listing::default();
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("list", &path, &e))?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.parse().ok());
            match (id, entry.file_type()) {
                (Some(id), Ok(kind)) if kind.is_dir() => {
                    listing.ids.insert(id);
                }
                _ if name == LINEAGE => {}
                _ => listing.foreign.push(name),
            }
        }
        Ok(Some(listing))
    }

    /// Moves a directory to the place of another volume, which has to be free.
    pub(super) fn move_home(&self, from: (Place, VolumeId), to: (Place, VolumeId)) -> Result<()> {
        let (old, new) = (self.home(from.0, from.1), self.home(to.0, to.1));
        rename_noreplace(&old, &new).map_err(|e| Error::io("move", &old, &e))
    }

    /// Moves a volume's directory; never onto another one. A directory that
    /// has been moved there already (and is no longer in `from`) is fine.
    pub(super) fn relocate(&self, id: VolumeId, from: Place, to: Place) -> Result<()> {
        let (old, new) = (self.home(from, id), self.home(to, id));
        match rename_noreplace(&old, &new) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && new.is_dir() => Ok(()),
            Err(error) => Err(Error::io("move", &old, &error)),
        }
    }

    /// Makes the entries of a directory durable.
    pub(super) fn sync(&self, place: Place) -> Result<()> {
        sync_dir(&self.place(place))
    }
}

/// Name of the file in `volumes/` that the catalogue's lineage is in.
const LINEAGE: &str = ".lineage";
/// Name of a directory volume's root below its own directory.
pub(super) const DATA: &str = "data";
/// Name of a disk volume's image below its own directory.
pub(super) const IMAGE: &str = "disk.raw";
/// Name of the copy of the catalogue's row below a volume's own directory.
pub(super) const MANIFEST: &str = "volume.json";

/// Makes the entries and attributes of a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|e| Error::io("sync", path, &e))
}

/// `rename` that fails when `new` exists.
pub(super) fn rename_noreplace(old: &Path, new: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, old, AT_FDCWD, new, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(()),
        // A file system without the flag: we are the only one who makes such
        // names here (the store's lock is held), so that looking first is exact.
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS) => {
            if new.symlink_metadata().is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(old, new)
        }
        Err(errno) => Err(errno.into()),
    }
}
