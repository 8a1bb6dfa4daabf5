//! `volume.json`: a copy of a volume's row beside its files, so that a lost
//! catalogue can be made anew.
//!
//! Written from the catalogue, and read for that purpose only: while there is
//! a catalogue nothing is ever learnt from here.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
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
    pub created: Timestamp,
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
            created: row.created,
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
        let bytes = fs::read(&path).map_err(|error| error.to_string())?;
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if manifest.version != VERSION {
            return Err(format!(
                "it has version {}, this program knows {VERSION}",
                manifest.version
            ));
        }
        Ok(manifest)
    }
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
