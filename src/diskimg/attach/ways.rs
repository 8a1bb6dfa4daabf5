//! By what an image can be mounted on this machine.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use super::error::AttachError;
use super::{Access, Attached, Fuse2fs, MountedImage, fuse2fs, wait_until_free};
use crate::diskimg::check;
use crate::diskimg::inspect::{ImageState, inspect};
use crate::sys::creds::{self, Capability};
use crate::sys::loopdev;
use crate::sys::mount::{Context, How};

/// What was found, each with the reason where it is not to be had.
#[derive(Debug)]
pub struct Ways {
    kernel: Result<(), String>,
    fuse2fs: Result<PathBuf, String>,
}

impl Ways {
    /// Looks what there is.
    #[must_use]
    pub fn probe() -> Self {
        Self {
            kernel: probe_kernel(),
            fuse2fs: fuse2fs::find(),
        }
    }

    /// Why the kernel cannot mount images, if it cannot.
    #[must_use]
    pub fn why_not_kernel(&self) -> Option<&str> {
        self.kernel.as_ref().err().map(String::as_str)
    }

    /// Why fuse2fs cannot serve images, if it cannot.
    #[must_use]
    pub fn why_not_fuse2fs(&self) -> Option<&str> {
        self.fuse2fs.as_ref().err().map(String::as_str)
    }

    /// Why images cannot be mounted, if there is no way.
    #[must_use]
    pub fn why_none(&self) -> Option<String> {
        let (kernel, fuse2fs) = (self.why_not_kernel()?, self.why_not_fuse2fs()?);
        Some(no_way(kernel, fuse2fs).to_string())
    }

    /// Mounts the image at `path`, by the kernel where that can be done, else
    /// by fuse2fs, which sets access times always. One with errors that cannot
    /// be mended unasked is only read.
    ///
    /// # Errors
    /// [`AttachError`]; nothing is left attached.
    pub fn mount(&self, path: &Path, how: How) -> Result<MountedImage, AttachError> {
        wait_until_free(path)?;
        let access = if how.read_only {
            needs_nothing_written(path)?;
            Access::None
        } else {
            look_after(path)?
        };
        let kernel = match &self.kernel {
            Ok(()) => match Attached::new(path, access, how.noatime) {
                Ok(attached) => return Ok(MountedImage::Kernel(attached)),
                Err(error) if error.is_lack_of_means() => error.to_string(),
                Err(error) => return Err(error),
            },
            Err(why) => why.clone(),
        };
        match &self.fuse2fs {
            Ok(program) => {
                log::info!("{path:?} is served by fuse2fs: {kernel}");
                Fuse2fs::new(program, path, access != Access::Files).map(MountedImage::Fuse2fs)
            }
            Err(why) => Err(no_way(&kernel, why)),
        }
    }
}

fn no_way(kernel: &str, fuse2fs: &str) -> AttachError {
    AttachError::NoWay {
        why: format!("{kernel}; and {fuse2fs}"),
    }
}

fn probe_kernel() -> Result<(), String> {
    if !creds::has(Capability::SysAdmin) {
        return Err("the kernel mounts images only for root (CAP_SYS_ADMIN)".to_owned());
    }
    loopdev::probe().map_err(|errno| AttachError::Loop { errno }.to_string())?;
    // Loads the module where there is one.
    Context::open("ext4")
        .map(drop)
        .map_err(|errno| format!("the kernel has no ext4: {}", errno.desc()))
}

/// What was not unmounted cannot be mounted without writing to it.
fn needs_nothing_written(path: &Path) -> Result<(), AttachError> {
    let state = OpenOptions::new()
        .read(true)
        .open(path)
        .ok()
        .and_then(|image| Some(inspect(&image).ok()?.state));
    match state {
        Some(ImageState::NeedsRecovery | ImageState::NotUnmounted) => Err(AttachError::NoWay {
            why: "it was not cleanly unmounted, and nothing is written in a read-only mount"
                .to_owned(),
        }),
        Some(ImageState::Clean | ImageState::HasErrors) | None => Ok(()),
    }
}

/// Looks at an image before it is mounted: whether it may be written. What
/// takes no choice is mended, as it is when a machine starts: after errors
/// that were not the image's own (its disk was full), and what a fuse2fs that
/// was killed has left half written, as that keeps no journal. What the kernel
/// has left its journal mends.
fn look_after(path: &Path) -> Result<Access, AttachError> {
    let Ok(image) = OpenOptions::new().read(true).write(true).open(path) else {
        // Said by who mounts it.
        return Ok(Access::Files);
    };
    let state = match inspect(&image).map(|found| found.state) {
        Ok(state @ (ImageState::HasErrors | ImageState::NotUnmounted)) => state,
        Ok(ImageState::Clean | ImageState::NeedsRecovery) | Err(_) => return Ok(Access::Files),
    };
    log::warn!("{path:?} has errors or was not unmounted, and is checked before it is used");
    let said = match check::preen(&image) {
        Ok(report) if report.clean => return Ok(Access::Files),
        Ok(report) => report.said,
        Err(error) => error.to_string(),
    };
    log::warn!("{path:?}: {said}");
    if state == ImageState::HasErrors {
        // Read as when the errors were found.
        return Ok(Access::Recovery);
    }
    Err(AttachError::Unclean { said })
}
