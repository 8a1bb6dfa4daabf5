//! Building a volume's directory aside, so that it appears complete or not at
//! all.
//!
//! What a volume of each kind consists of is said here and nowhere else. Knows
//! no catalogue.

use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use super::delete::delete_whole_tree;
use super::error::{Error, Result};
use super::identity::contents_id;
use super::image;
use super::layout::{DATA, IMAGE, Layout, Place, sync_dir};
use super::manifest::Manifest;
use super::staging;
use crate::failpoint;
use crate::meta::{ContentsId, VolumeRow};
use crate::model::{Kind, Owner, VolumeId};
use crate::sys::acl;

/// A volume's directory that has no row in the catalogue yet. Deleted when it
/// is dropped, unless it was [kept](Self::keep).
#[derive(Debug)]
pub(super) struct Build<'a> {
    layout: &'a Layout,
    id: VolumeId,
    place: Place,
    kept: bool,
    // Held, never read: says that somebody builds here.
    _lock: Option<File>,
}

impl<'a> Build<'a> {
    /// Builds the volume under `tmp/`; on disk in full when this returns.
    ///
    /// Three fsyncs: `volume.json`, the contents, and the directory that holds
    /// both. [`publish`](Self::publish) adds a fourth and the commit of the
    /// row a fifth. All is made before the first of them, so that on file
    /// systems that keep a journal the second and third find nothing left to
    /// write.
    pub(super) fn new(layout: &'a Layout, row: &VolumeRow, owner: Option<Owner>) -> Result<Self> {
        let home = layout.home(Place::Tmp, row.id);
        make_dir(&home)?;
        // From here on the guard deletes what there is of it.
        let mut build = Self {
            layout,
            id: row.id,
            place: Place::Tmp,
            kept: false,
            _lock: None,
        };
        build._lock = staging::lock(&home).map_err(|e| Error::io("lock", &home, &e))?;
        mark_unfinished(&home)?;
        let owner = owner.unwrap_or_else(|| Owner {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            mode: 0o755,
        });
        let data = home.join(DATA);
        let is_disk = match (row.kind, row.disk) {
            (Kind::Disk, Some(disk)) => {
                image::make(&home.join(IMAGE), disk.size, owner)?;
                true
            }
            (Kind::Directory, _) | (Kind::Disk, None) => {
                directory_contents(&data, owner)?;
                false
            }
        };
        Manifest::of(row).create(&home)?;
        if !is_disk {
            sync_dir(&data)?;
        }
        sync_dir(&home)?;
        failpoint::hit("create.built");
        Ok(build)
    }

    /// A volume whose contents somebody else has built under `tmp/`.
    pub(super) fn of_staged(layout: &'a Layout, row: &VolumeRow) -> Self {
        Self {
            layout,
            id: row.id,
            place: Place::Tmp,
            kept: false,
            _lock: None,
        }
    }

    /// Adds what describes it to the contents.
    pub(super) fn complete(&self, row: &VolumeRow) -> Result<()> {
        let home = self.layout.home(Place::Tmp, row.id);
        mark_unfinished(&home)?;
        Manifest::of(row).create(&home)?;
        sync_dir(&home)
    }

    /// Moves the volume to `volumes/`, durably.
    pub(super) fn publish(&mut self) -> Result<()> {
        self.layout.relocate(self.id, Place::Tmp, Place::Volumes)?;
        self.place = Place::Volumes;
        self.layout.sync(Place::Volumes)?;
        failpoint::hit("create.renamed");
        Ok(())
    }

    /// By what the contents will be known again.
    pub(super) fn contents(&self) -> Option<ContentsId> {
        contents_id(&self.layout.home(self.place, self.id))
    }

    /// The row is committed: the directory stays.
    pub(super) fn keep(mut self) {
        self.kept = true;
        let home = self.layout.home(self.place, self.id);
        if let Err(error) = fs::set_permissions(&home, Permissions::from_mode(0o700)) {
            // It is asked for only where there is no row.
            log::warn!("{home:?}: {error}");
        }
    }
}

impl Drop for Build<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let undo = || {
            if self.place != Place::Tmp {
                self.layout.relocate(self.id, self.place, Place::Tmp)?;
            }
            delete_whole_tree(&self.layout.home(Place::Tmp, self.id))
        };
        if let Err(error) = undo() {
            log::warn!("what was built of a volume that could not be made is left: {error}");
        }
    }
}

/// On a volume's own directory, which is nobody's but the store's: that its row
/// is yet to be committed. The sticky bit means nothing there otherwise, and
/// taking it away costs no write that anybody waits for.
const UNFINISHED: u32 = 0o1000;

fn mark_unfinished(home: &Path) -> Result<()> {
    fs::set_permissions(home, Permissions::from_mode(0o700 | UNFINISHED))
        .map_err(|e| Error::io("set the mode of", home, &e))
}

/// Whether a directory without a row was being made when the store was last in
/// use, so that nobody was told that there is a volume.
pub(super) fn is_unfinished(home: &Path) -> bool {
    home.symlink_metadata()
        .is_ok_and(|found| found.permissions().mode() & UNFINISHED != 0)
}

/// A directory volume is a directory. It is yet to be synced.
fn directory_contents(data: &Path, owner: Owner) -> Result<()> {
    make_dir(data)?;
    // Said outright: the umask or a set-group-id bit of the store's directory
    // would have their say otherwise.
    staging::set_owner(data, owner)
}

/// Makes a directory of a volume, or for one: closed to others, and without the
/// ACLs that the store's directory hands down, so that nothing in it gets any.
pub(super) fn make_dir(path: &Path) -> Result<()> {
    let error = |error: std::io::Error| Error::io("create", path, &error);
    DirBuilder::new().mode(0o700).create(path).map_err(error)?;
    let dir = File::open(path).map_err(error)?;
    for acl in [acl::ACCESS, acl::DEFAULT] {
        acl::remove(&dir, acl).map_err(|e| Error::io("take an ACL from", path, &e.into()))?;
    }
    // An ACL has its say on the mode.
    dir.set_permissions(Permissions::from_mode(0o700))
        .map_err(error)
}
