//! A volume that is to be made, put together step by step.

use std::sync::Arc;

use super::volume::Volume;
use crate::model::{IntoSize, Kind, Labels, Limits, Owner, VolumeSpec};
use crate::volume::{Result, Volumes};

/// A volume as it is asked for; see [`Volume::builder`].
///
/// Sizes are [`Bytes`](crate::model::Bytes) (`1.gib()`) or a bare number of
/// mebibytes.
///
/// ```
/// use volfs::{Kind, SizeExt, Volume};
///
/// # fn main() -> volfs::volume::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let volumes = volfs::open(dir.path().join("store"))?;
/// let scratch = Volume::builder("scratch")
///     .quota(512)
///     .label("team", "build")
///     .create(&volumes)?;
/// assert_eq!(scratch.capacity_bytes(), Some(512 << 20));
///
/// let db = Volume::builder("db").disk().size(64.mib()).create(&volumes)?;
/// assert_eq!(db.kind(), Kind::Disk);
///
/// // A directory volume has a quota, a disk volume has a size.
/// assert!(Volume::builder("no").directory().size(1.gib()).build().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is made before create()"]
pub struct VolumeBuilder {
    name: String,
    kind: Kind,
    limits: Limits,
    size: Option<crate::model::Bytes>,
    labels: Labels,
    owner: Option<Owner>,
}

/// A volume that can be made: its parts go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeConfig {
    spec: VolumeSpec,
}

impl VolumeBuilder {
    pub(super) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Directory,
            limits: Limits::default(),
            size: None,
            labels: Labels::default(),
            owner: None,
        }
    }

    /// Files in a directory of the host's file system.
    pub fn directory(mut self) -> Self {
        self.kind = Kind::Directory;
        self
    }

    /// An image with a file system of its own.
    pub fn disk(mut self) -> Self {
        self.kind = Kind::Disk;
        self
    }

    /// The most bytes that a directory volume may hold.
    pub fn quota(mut self, size: impl IntoSize) -> Self {
        self.limits.bytes = Some(size.into_size());
        self
    }

    /// The most files and directories that a directory volume may hold.
    pub fn quota_inodes(mut self, inodes: u64) -> Self {
        self.limits.inodes = Some(inodes);
        self
    }

    /// The capacity of a disk volume.
    pub fn size(mut self, size: impl IntoSize) -> Self {
        self.size = Some(size.into_size());
        self
    }

    /// A label; one with the same key is replaced.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.set(key, value);
        self
    }

    /// Owner and permission bits of the root directory; otherwise they are the
    /// process's own, and 755.
    pub fn owner(mut self, uid: u32, gid: u32, mode: u32) -> Self {
        self.owner = Some(Owner { uid, gid, mode });
        self
    }

    /// Checks that the parts go together.
    ///
    /// # Errors
    /// [`InvalidName`](crate::volume::Error::InvalidName),
    /// [`InvalidSpec`](crate::volume::Error::InvalidSpec).
    pub fn build(self) -> Result<VolumeConfig> {
        let spec = VolumeSpec {
            name: self.name.parse()?,
            kind: self.kind,
            limits: self.limits,
            size: self.size,
            labels: self.labels,
            owner: self.owner,
        };
        spec.check()?;
        Ok(VolumeConfig { spec })
    }

    /// Makes the volume.
    ///
    /// # Errors
    /// As [`build`](Self::build) and [`VolumeConfig::create`].
    pub fn create(self, volumes: &Arc<dyn Volumes>) -> Result<Volume> {
        self.build()?.create(volumes)
    }
}

impl VolumeConfig {
    /// What is asked for.
    #[must_use]
    pub fn spec(&self) -> &VolumeSpec {
        &self.spec
    }

    /// Makes the volume; it exists completely or not at all.
    ///
    /// # Errors
    /// As [`Volumes::create`].
    pub fn create(&self, volumes: &Arc<dyn Volumes>) -> Result<Volume> {
        let info = volumes.create(&self.spec)?;
        Ok(Volume::new(volumes, info))
    }
}
