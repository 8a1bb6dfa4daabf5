//! A volume in a list: its metadata at one moment.

use std::path::Path;
use std::sync::Arc;

use super::volume::Volume;
use crate::model::{Bytes, Labels, Mebibytes, Timestamp, VolumeName};
use crate::volume::{Result, VolumeFs, VolumeInfo, Volumes};

/// A snapshot of a volume's metadata, without opening the volume.
#[derive(Clone, Debug)]
pub struct VolumeHandle {
    volume: Volume,
}

impl VolumeHandle {
    pub(super) fn new(volumes: &Arc<dyn Volumes>, info: VolumeInfo) -> Self {
        Self {
            volume: Volume::new(volumes, info),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &VolumeName {
        self.volume.name()
    }

    /// The limit of a directory volume in mebibytes, rounded down; `None` when
    /// it has none.
    #[must_use]
    pub fn quota_mib(&self) -> Option<Mebibytes> {
        let bytes = self.volume.info().limits.bytes?;
        Some(Mebibytes(bytes.0 >> 20))
    }

    /// Its labels, in order.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        self.volume.labels()
    }

    /// When it was made.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.volume.info().created
    }

    /// What it held.
    #[must_use]
    pub fn used_bytes(&self) -> Bytes {
        self.volume.info().used.bytes
    }

    /// The image of a disk volume in the store.
    #[must_use]
    pub fn disk_path(&self) -> Option<&Path> {
        self.volume.disk_path()
    }

    /// Everything else.
    #[must_use]
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// Its files, confined to it and within its limits.
    ///
    /// # Errors
    /// As [`Volumes::files`].
    pub fn fs(&self) -> Result<VolumeFs> {
        self.volume.fs()
    }

    /// Removes it, with all that it holds, to the trash.
    ///
    /// # Errors
    /// As [`Volumes::remove`].
    pub fn remove(self) -> Result<()> {
        self.volume.remove()
    }
}
