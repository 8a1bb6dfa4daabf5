//! That nobody has an image any more: two mounts of one image destroy it.
//!
//! A loop device is seen in sysfs. A fuse2fs holds a lock (flock(2)) on the
//! image by the descriptor that it was started with, for as long as it lives. Any
//! other program that has it open for writing, as a virtual machine does that was
//! given its path, is seen by a lease that the kernel does not give beside it.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::error::AttachError;
use crate::sys::{lease, loopdev};

/// How long the kernel may take to let go of a device after the unmount, and
/// fuse2fs to write what it holds.
pub(super) const LET_GO: Duration = Duration::from_secs(5);

/// How long who has closed an image that it has written may take to let go of it:
/// the kernel does that after the call has returned.
const CLOSED: Duration = Duration::from_millis(500);

/// Whether nobody has the image at `path` mounted, or open for writing.
#[must_use]
pub fn is_free(path: &Path) -> bool {
    who_has(path).is_none()
}

/// Waits until nobody has the image at `path` mounted, or open for writing.
///
/// # Errors
/// [`AttachError::InUse`], [`AttachError::Served`] or [`AttachError::Written`] when
/// somebody goes on to.
pub fn wait_until_free(path: &Path) -> Result<(), AttachError> {
    let start = Instant::now();
    while let Some(busy) = who_has(path) {
        let most = match busy {
            AttachError::Written { .. } => CLOSED,
            _ => LET_GO,
        };
        if start.elapsed() > most {
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
    let file = File::open(path).ok()?;
    let path = || path.to_owned();
    if matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return Some(AttachError::Served { path: path() });
    }
    lease::is_open_for_writing(&file).then(|| AttachError::Written { path: path() })
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
