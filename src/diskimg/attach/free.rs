//! That nobody has an image any more: two mounts of one image destroy it.
//!
//! A loop device is seen in sysfs. A fuse2fs holds a lock (flock(2)) on the
//! image by the descriptor that it was started with, for as long as it lives.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::error::AttachError;
use crate::sys::loopdev;

/// How long the kernel may take to let go of a device after the unmount, and
/// fuse2fs to write what it holds.
pub(super) const LET_GO: Duration = Duration::from_secs(5);

/// Whether nobody has the image at `path` mounted.
#[must_use]
pub fn is_free(path: &Path) -> bool {
    who_has(path).is_none()
}

/// Waits until nobody has the image at `path` mounted.
///
/// # Errors
/// [`AttachError::InUse`] or [`AttachError::Served`] when it stays mounted.
pub fn wait_until_free(path: &Path) -> Result<(), AttachError> {
    let deadline = Instant::now() + LET_GO;
    while let Some(busy) = who_has(path) {
        if Instant::now() > deadline {
            return Err(busy);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn who_has(path: &Path) -> Option<AttachError> {
    if let Some(device) = loopdev::device_of(path) {
        return Some(AttachError::InUse { device });
    }
    let locked = File::open(path)
        .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)));
    locked.then(|| AttachError::Served {
        path: path.to_owned(),
    })
}

/// Opens the image and locks it, for as long as the result or a duplicate of it
/// is open in any process.
pub(super) fn lock(path: &Path, read_only: bool) -> Result<File, AttachError> {
    let failed = |error: std::io::Error| AttachError::Open {
        errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
    };
    let file = OpenOptions::new()
        .read(true)
        .write(!read_only)
        .open(path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(AttachError::Served {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
