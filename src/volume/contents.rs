//! Where a volume's files are in the store, and whether they are there.

use std::fs::File;
use std::path::PathBuf;

use nix::errno::Errno;

use super::error::{Error, Result};
use super::in_memory::Volume;
use super::layout::Place;
use super::store::Store;
use crate::model::Kind;
use crate::sys::node;

impl Store {
    /// Looks whether a volume's files are where they should be: in the store,
    /// on its file system, and behind no symbolic link.
    ///
    /// # Errors
    /// [`Error::FilesMissing`]: somebody has removed them by hand.
    /// [`Error::Elsewhere`]: something else is in their place.
    pub fn check_files(&self, volume: &Volume) -> Result<()> {
        let path = self.contents(Place::Volumes, volume);
        let elsewhere = |what: &str| Error::Elsewhere {
            name: volume.name(),
            path: path.clone(),
            what: what.to_owned(),
        };
        let volumes = self.layout.place(Place::Volumes);
        let below = path.strip_prefix(&volumes).unwrap_or(&path);
        let opened = File::open(&volumes)
            .map_err(|error| Error::io("open", &volumes, &error))
            .map(|dir| node::open_path(dir, below.as_os_str()))?;
        let is_directory = match opened.and_then(node::stat) {
            Ok(found) => found.st_mode & libc::S_IFMT == libc::S_IFDIR,
            Err(Errno::ENOENT) => return Err(self.files_missing(volume)),
            Err(Errno::EXDEV) => return Err(elsewhere("on another file system")),
            Err(Errno::ELOOP | Errno::ENOTDIR) => return Err(elsewhere("behind a symbolic link")),
            Err(errno) => return Err(Error::io("look at", &path, &errno.into())),
        };
        match (volume.kind, is_directory) {
            (Kind::Directory, false) => Err(elsewhere("not a directory")),
            (Kind::Disk, true) => Err(elsewhere("a directory")),
            _ => Ok(()),
        }
    }

    pub(super) fn files_missing(&self, volume: &Volume) -> Error {
        Error::FilesMissing {
            name: volume.name(),
            path: self.contents(Place::Volumes, volume),
        }
    }

    /// What a volume of its kind cannot be without.
    pub(super) fn contents(&self, place: Place, volume: &Volume) -> PathBuf {
        match volume.kind {
            Kind::Directory => self.layout.data(place, volume.id),
            Kind::Disk => self.layout.image(place, volume.id),
        }
    }
}
