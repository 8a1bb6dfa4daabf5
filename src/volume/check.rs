//! Checking and mending disk volumes, and coming to trust one again that a
//! guest has written.

use std::fs::OpenOptions;
use std::path::Path;

use super::api::{CheckHow, DiskCheck};
use super::error::{Error, Result};
use super::store::Store;
use crate::diskimg::{self, CheckError};
use crate::model::{Kind, VolumeName};

impl Store {
    pub(super) fn check_volume(&self, name: &VolumeName, how: CheckHow) -> Result<DiskCheck> {
        self.writable()?;
        let volume = self.index.read().find(name)?;
        if volume.kind != Kind::Disk {
            return Err(Error::Unsupported {
                what: format!("checking the directory volume {name:?}"),
                when: "only the images of disk volumes are checked".to_owned(),
            });
        }
        self.check_files(&volume)?;
        // Not under the lock of changes: it takes long. Whoever wants to
        // remove the volume meanwhile does not get the image.
        let _image = self.take_image(&volume)?;
        let path = self.image_path(&volume);
        let image = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| Error::io("open", &path, &error))?;
        let report = match how {
            CheckHow::Look => diskimg::check(&image),
            CheckHow::Mend => diskimg::mend(&image),
            CheckHow::Trust => diskimg::check_foreign(&image),
        };
        let report = report.map_err(|error| failed(&path, &error))?;
        if how == CheckHow::Trust && report.clean {
            // What was checked is what the kernel will mount.
            image
                .sync_all()
                .map_err(|error| Error::io("sync", &path, &error))?;
            self.set_guest_written(&volume, false)?;
        }
        Ok(DiskCheck {
            clean: report.clean,
            mended: report.mended,
            trusted: !volume.is_guest_written(),
            said: report.said,
        })
    }
}

fn failed(path: &Path, error: &CheckError) -> Error {
    match error {
        CheckError::Access(access) => Error::io(&access.action, path, &access.source),
        _ => Error::Image {
            path: path.to_owned(),
            why: error.to_string(),
        },
    }
}
