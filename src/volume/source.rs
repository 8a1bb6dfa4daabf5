//! The contents of a volume, held still enough to be read as a whole: for
//! exports and clones.

use std::any::Any;
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::unistd::syncfs;

use super::api::{VolumeInfo, Volumes};
use super::error::{Error, Result};
use crate::model::{Kind, VolumeId};
use crate::sys::xattr;

/// A volume whose contents are being read. Nobody can remove it meanwhile.
pub struct Source {
    info: VolumeInfo,
    // Held, never read.
    _guard: Box<dyn Any + Send>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Source").field(&self.info.name).finish()
    }
}

impl Source {
    /// Of a volume that is in use as long as `guard` lives.
    pub(super) fn new(info: VolumeInfo, guard: Box<dyn Any + Send>) -> Self {
        Self {
            info,
            _guard: guard,
        }
    }

    /// Of a volume of a mounted store, which is in use as long as it is open in
    /// the mount.
    pub(crate) fn through_mount(
        volumes: &dyn Volumes,
        mountpoint: &Path,
        info: VolumeInfo,
    ) -> Result<Self> {
        let guard: Box<dyn Any + Send> = match info.kind {
            Kind::Directory => {
                let path = mountpoint.join(info.name.as_str());
                let root = File::open(&path).map_err(|e| Error::io("open", &path, &e))?;
                check_is(&root, info.id, &path)?;
                // What is mapped and changed, and not in the store yet.
                syncfs(&root).map_err(|e| Error::io("sync", &path, &e.into()))?;
                Box::new(root)
            }
            Kind::Disk => {
                let image = format!(".volfs/disks/{}.raw", info.name);
                let path = mountpoint.join(image);
                let opened = File::open(&path).map_err(|error| match error.raw_os_error() {
                    Some(libc::EBUSY) => Error::InUse {
                        name: info.name.clone(),
                        holders: volumes.holders(&info.name).unwrap_or_default(),
                    },
                    _ => Error::io("open", &path, &error),
                })?;
                // Another volume may have got the name since it was looked at.
                if volumes.get(&info.name)?.id != info.id {
                    let name = info.name;
                    return Err(Error::NotFound { name });
                }
                Box::new(opened)
            }
        };
        Ok(Self::new(info, guard))
    }

    /// The volume.
    #[must_use]
    pub fn info(&self) -> &VolumeInfo {
        &self.info
    }

    /// Its root directory or image in the store.
    #[must_use]
    pub fn contents(&self) -> PathBuf {
        match &self.info.disk {
            Some(disk) => disk.path.clone(),
            None => self.info.path.clone(),
        }
    }
}

/// Whether `root` is the root directory of this volume in a mount of volfs.
pub(super) fn check_is(root: &File, id: VolumeId, path: &Path) -> Result<()> {
    let mut text = [0; 64];
    let found = xattr::get(root, OsStr::new("volfs.id"), &mut text)
        .ok()
        .and_then(|len| std::str::from_utf8(text.get(..len)?).ok());
    if found == Some(id.to_string().as_str()) {
        return Ok(());
    }
    Err(Error::Io {
        action: "find the volume that the daemon shows at".to_owned(),
        path: path.to_owned(),
        errno: libc::ESTALE,
    })
}
