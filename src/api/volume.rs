//! One volume, as a program has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::builder::VolumeBuilder;
use super::handle::VolumeHandle;
use crate::model::{DiskFormat, DiskFsType, Kind, Labels, VolumeName};
use crate::volume::{Removal, Result, VolumeFs, VolumeInfo, Volumes};

/// Where the contents of volumes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendKind {
    /// In a directory of this machine.
    Local,
}

/// A volume that exists.
///
/// It says what the volume was when it was got; it does not hold the volume
/// open, and somebody else may rename or remove it meanwhile.
///
/// ```
/// use volfs::{SizeExt, Volume};
///
/// # fn main() -> volfs::volume::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// let volumes = volfs::open(dir.path().join("store"))?;
/// let cache = Volume::builder("cache").quota(1.gib()).create(&volumes)?;
/// cache.fs()?.write("greeting.txt", "hello")?;
///
/// let again = Volume::get(&volumes, "cache")?;
/// assert_eq!(again.fs()?.read_to_string("greeting.txt")?, "hello");
/// again.remove()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Volume {
    volumes: Arc<dyn Volumes>,
    info: VolumeInfo,
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Volume").field(&self.info).finish()
    }
}

impl Volume {
    pub(super) fn new(volumes: &Arc<dyn Volumes>, info: VolumeInfo) -> Self {
        Self {
            volumes: Arc::clone(volumes),
            info,
        }
    }

    /// A volume to be made; a directory volume unless it is said otherwise.
    pub fn builder(name: impl Into<String>) -> VolumeBuilder {
        VolumeBuilder::new(name)
    }

    /// The volume with this name.
    ///
    /// # Errors
    /// [`NotFound`](crate::volume::Error::NotFound),
    /// [`InvalidName`](crate::volume::Error::InvalidName).
    pub fn get(volumes: &Arc<dyn Volumes>, name: &str) -> Result<Self> {
        let info = volumes.get(&name.parse()?)?;
        Ok(Self::new(volumes, info))
    }

    /// All volumes, newest first, with what they hold.
    ///
    /// # Errors
    /// I/O, or the daemon does not answer.
    pub fn list(volumes: &Arc<dyn Volumes>) -> Result<Vec<VolumeHandle>> {
        let infos = volumes.list()?;
        Ok(infos
            .into_iter()
            .map(|info| VolumeHandle::new(volumes, info))
            .collect())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &VolumeName {
        &self.info.name
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.info.kind
    }

    /// Its directory: under the mountpoint when the store is mounted, else in
    /// the store, where nobody enforces its limits but [`fs`](Self::fs).
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn path(&self) -> Result<PathBuf> {
        Ok(match self.volumes.mountpoint()? {
            Some(mountpoint) => mountpoint.join(self.info.name.as_str()),
            None => self.info.path.clone(),
        })
    }

    /// Bytes that it can hold: the capacity of a disk volume, the limit of a
    /// directory volume. `None` when there is no limit.
    #[must_use]
    pub fn capacity_bytes(&self) -> Option<u64> {
        self.info.capacity().map(|bytes| bytes.0)
    }

    /// Layout of the image of a disk volume.
    #[must_use]
    pub fn disk_format(&self) -> Option<DiskFormat> {
        self.info.disk.as_ref().map(|disk| disk.format)
    }

    /// File system in the image of a disk volume.
    #[must_use]
    pub fn disk_fstype(&self) -> Option<DiskFsType> {
        self.info.disk.as_ref().map(|disk| disk.fstype)
    }

    /// The image of a disk volume in the store. While a daemon serves the
    /// store, use `.volfs/disks/NAME.raw` under its mountpoint.
    #[must_use]
    pub fn disk_path(&self) -> Option<&Path> {
        self.info.disk.as_ref().map(|disk| disk.path.as_path())
    }

    /// Its labels, in order.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.info.labels
    }

    /// Where its contents are kept.
    #[must_use]
    pub fn backend_kind(&self) -> BackendKind {
        BackendKind::Local
    }

    /// All that was known of it when it was got.
    #[must_use]
    pub fn info(&self) -> &VolumeInfo {
        &self.info
    }

    /// Its files, confined to it and within its limits.
    ///
    /// # Errors
    /// As [`Volumes::files`].
    pub fn fs(&self) -> Result<VolumeFs> {
        self.volumes.files(&self.info.name)
    }

    /// Removes it, with all that it holds, to the trash.
    ///
    /// # Errors
    /// As [`Volumes::remove`].
    pub fn remove(self) -> Result<()> {
        self.volumes.remove(&self.info.name, Removal::Trash)
    }
}
