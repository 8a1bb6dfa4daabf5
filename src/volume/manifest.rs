//! `volume.json`: a copy of a volume's row beside its files, so that a lost
//! catalogue can be made anew.
//!
//! Written from the catalogue. While that is the one that the store was last
//! used with, and knows the volume and where its files are, nothing is learnt
//! from here.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::layout::{MANIFEST, sync_dir};
use crate::meta::VolumeRow;
use crate::model::{
    Bytes, DiskFormat, DiskFsType, Kind, Labels, Limits, Serial, Slot, Timestamp, VolumeId,
    VolumeName,
};
use crate::sys::named_file;

/// The version of the file's fields.
const VERSION: u32 = 1;

/// The contents of `volume.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub version: u32,
    pub id: VolumeId,
    pub serial: Serial,
    pub slot: Slot,
    pub name: VolumeName,
    pub kind: Kind,
    pub limits: Limits,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
    pub labels: Labels,
    pub pinned: bool,
    #[serde(default)]
    pub read_only: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trash_files: Option<Bytes>,
    pub created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
}

/// What only a disk volume has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Disk {
    pub size: Bytes,
    pub format: DiskFormat,
    pub fstype: DiskFsType,
}

impl Manifest {
    pub(super) fn of(row: &VolumeRow) -> Self {
        Self {
            version: VERSION,
            id: row.id,
            serial: row.serial,
            slot: row.slot,
            name: row.name.clone(),
            kind: row.kind,
            limits: row.limits,
            disk: row.disk.map(|disk| Disk {
                size: disk.size,
                format: disk.format,
                fstype: disk.fstype,
            }),
            labels: row.labels.clone(),
            pinned: row.pinned,
            read_only: row.read_only,
            trash_files: row.trash_files,
            created: row.created,
            owner: row.owner,
        }
    }

    fn to_bytes(&self, path: &Path) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::io("write", path, &std::io::Error::from(e)))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Writes the file in a new volume's directory, and makes it durable.
    pub(super) fn create(&self, home: &Path) -> Result<()> {
        write(&home.join(MANIFEST), |path| self.to_bytes(path))
    }

    /// Replaces the file: old or new, never half. Durable when this returns.
    pub(super) fn replace(&self, home: &Path) -> Result<()> {
        let (path, next) = (home.join(MANIFEST), home.join("volume.json.new"));
        match fs::remove_file(&next) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("replace", &next, &error));
            }
            _ => {}
        }
        write(&next, |path| self.to_bytes(path))?;
        fs::rename(&next, &path).map_err(|e| Error::io("replace", &path, &e))?;
        sync_dir(home)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Why it does not serve, in words.
    pub(super) fn read(home: &Path) -> std::result::Result<Self, String> {
        let path = home.join(MANIFEST);
        let bytes = read(&path).map_err(|error| error.to_string())?;
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if manifest.version != VERSION {
            return Err(format!(
                "it has version {}, this program knows {VERSION}",
                manifest.version
            ));
        }
        manifest.check()?;
        Ok(manifest)
    }

    /// What the catalogue would not take, somebody else has written.
    fn check(&self) -> std::result::Result<(), String> {
        let disk = self.kind == Kind::Disk;
        if disk != self.disk.is_some() || disk && self.limits != Limits::default() {
            return Err(format!("its fields do not go with the kind {}", self.kind));
        }
        if self
            .trash_files
            .is_some_and(|it| disk || it.0 == 0 || it.0 >> 63 != 0)
        {
            return Err("it cannot keep removed files".to_owned());
        }
        if self.disk.as_ref().is_some_and(|it| it.size == Bytes(0)) {
            return Err("its disk has no size".to_owned());
        }
        if !(1..1 << 62).contains(&self.serial.0) {
            return Err(format!("{} is not a serial", self.serial.0));
        }
        if self.labels.iter().any(|(key, _)| key.is_empty()) {
            return Err("it has a label without a key".to_owned());
        }
        self.limits.check().map_err(|error| error.to_string())
    }
}

/// More than any volume's file has: who puts another in its place does not get
/// it all into memory.
const MOST_BYTES: u64 = 4 << 20;

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = named_file::open(path)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write(path: &Path, bytes: impl FnOnce(&Path) -> Result<Vec<u8>>) -> Result<()> {
    let bytes = bytes(path)?;
    let done = || -> std::io::Result<()> {
        let mut file: File = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(&bytes)?;
        file.sync_all()
    };
    done().map_err(|e| Error::io("write", path, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            version: VERSION,
            id: VolumeId::random(),
            serial: Serial(5),
            slot: Slot::new(5).unwrap(),
            name: "v".parse().unwrap(),
            kind: Kind::Directory,
            limits: Limits {
                bytes: Some(Bytes(1 << 20)),
                inodes: None,
            },
            disk: None,
            labels: Labels::default(),
            pinned: true,
            read_only: true,
            trash_files: Some(Bytes(1 << 20)),
            created: Timestamp::from_nanos(1),
            owner: Some(1000),
        }
    }

    #[test]
    fn comes_back() {
        let home = tempfile::tempdir().unwrap();
        let mut written = manifest();
        written.create(home.path()).unwrap();
        assert_eq!(Manifest::read(home.path()).unwrap(), written);
        written.labels.set("k", "v");
        // What a crash has left in the middle of a replacement.
        fs::write(home.path().join("volume.json.new"), "{").unwrap();
        written.replace(home.path()).unwrap();
        assert_eq!(Manifest::read(home.path()).unwrap(), written);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_does_not_serve() {
        let home = tempfile::tempdir().unwrap();
        let bad = |change: &dyn Fn(&mut Manifest)| {
            let mut it = manifest();
            change(&mut it);
            it.replace(home.path()).unwrap();
            Manifest::read(home.path()).unwrap_err()
        };
        assert!(bad(&|it| it.version = 9).contains("version 9"));
        assert!(bad(&|it| it.kind = Kind::Disk).contains("disk"));
        assert!(bad(&|it| it.trash_files = Some(Bytes(0))).contains("removed files"));
        assert!(bad(&|it| it.serial = Serial(i64::MAX)).contains("serial"));
        assert!(bad(&|it| it.limits.bytes = Some(Bytes(0))).contains("quota"));
        fs::write(home.path().join(MANIFEST), "{\"version\": 1").unwrap();
        assert!(Manifest::read(home.path()).is_err());
    }
}
