//! Checking and mending disk volumes, and coming to trust one again that a
//! guest has written.

use std::fs::OpenOptions;
use std::path::Path;

use super::api::{CheckHow, DiskCheck};
use super::error::{Error, Result};
use super::in_memory::Volume;
use super::lease::Use;
use super::store::Store;
use crate::diskimg::{self, CheckError};
use crate::model::{Kind, VolumeName};

impl Store {
    pub(super) fn check_volume(&self, name: &VolumeName, how: CheckHow) -> Result<DiskCheck> {
        self.writable()?;
        check_is_disk(&*self.index.read().find(name)?)?;
        let lease = self.lease(name, Use::Alone)?;
        let volume = lease.volume();
        // Another may have got the name meanwhile.
        check_is_disk(volume)?;
        self.check_files(volume)?;
        let _image = self.take_image(&lease)?;
        let path = self.image_path(volume);
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
            self.set_guest_written(volume, false)?;
        }
        Ok(DiskCheck {
            clean: report.clean,
            mended: report.mended,
            trusted: !volume.is_guest_written(),
            said: report.said,
        })
    }
}

fn check_is_disk(volume: &Volume) -> Result<()> {
    match volume.kind {
        Kind::Disk => Ok(()),
        Kind::Directory => Err(Error::Unsupported {
            what: format!("checking the directory volume {:?}", volume.name()),
            when: "only the images of disk volumes are checked".to_owned(),
        }),
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
