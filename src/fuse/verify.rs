//! Comparing what a mounted volume is charged with what a walk of it finds.
//!
//! Changes of the volume wait meanwhile, reads and closes do not. What the
//! kernel writes by itself cannot be held back; it is noticed.

use std::collections::HashSet;
use std::os::fd::AsFd;

use nix::fcntl::OFlag;

use super::counting::Held;
use super::error::OpResult;
use super::fs::{FileSystem, Located};
use super::handles::Handle;
use crate::failpoint;
use crate::meta::charge;
use crate::model::{Bytes, Usage, VolumeName};
use crate::volume::{Error, Result, Verified, Volume, Volumes, check_is_directory};

/// How often a count is tried while the kernel writes by itself.
const TRIES: usize = 3;

/// Compares the account of the volume with a walk; see
/// [`Volumes::verify`](crate::volume::Volumes::verify).
pub(super) fn verify(fs: &FileSystem, name: &VolumeName, repair: bool) -> Result<Verified> {
    let not_found = || Error::NotFound { name: name.clone() };
    let volume = fs.store.volume(name).ok_or_else(not_found)?;
    check_is_directory(&volume)?;
    let held = fs.counting.hold(volume.slot);
    let verified = count(fs, &volume, &held, repair);
    drop(held);
    // Removed meanwhile: whatever was found means nothing.
    if fs.store.get(name)?.id != volume.id {
        return Err(not_found());
    }
    verified
}

/// Compares the account of a held volume with a walk; with `repair`, sets it
/// to what was found.
///
/// # Errors
/// [`Error::Unsteady`] when the kernel itself goes on writing to the volume;
/// the catalogue cannot be written; I/O.
pub(super) fn count(
    fs: &FileSystem,
    volume: &Volume,
    held: &Held<'_>,
    repair: bool,
) -> Result<Verified> {
    for _ in 0..TRIES {
        let before = held.still(|| look(fs, volume))?;
        failpoint::pause("count.begun");
        let walked = fs.store.recount(volume)?;
        let found = sum(walked, before.nameless);
        let differs = before.account != found || !volume.usage_is_exact();
        if differs && repair {
            // Outside of `still`: it writes to the catalogue.
            fs.store.mark_dirty(volume)?;
        }
        let steady: Result<bool> = held.still(|| {
            let after = look(fs, volume)?;
            // Files that have lost their last close meanwhile are out of both.
            if named(after) != named(before) {
                return Ok(false);
            }
            if differs && repair {
                fs.store.adopt_count(volume, sum(walked, after.nameless));
            }
            Ok(true)
        });
        if steady? {
            return Ok(Verified {
                name: volume.name(),
                accounted: before.account,
                was_exact: before.exact,
                found,
                repaired: differs && repair,
            });
        }
    }
    Err(Error::Unsteady {
        name: volume.name(),
        holders: super::holders::unaccounted_writers(fs, volume),
    })
}

/// The account of a volume at one moment.
#[derive(Clone, Copy)]
struct Moment {
    account: Usage,
    exact: bool,
    /// What is charged for files that are open and have no name any more: no
    /// walk finds them.
    nameless: Usage,
}

/// What is charged for what has a name. Wrapping: an account that is wrong may
/// be less than that.
fn named(moment: Moment) -> (u64, u64) {
    let (all, nameless) = (moment.account, moment.nameless);
    (
        all.bytes.0.wrapping_sub(nameless.bytes.0),
        all.inodes.wrapping_sub(nameless.inodes),
    )
}

fn look(fs: &FileSystem, volume: &Volume) -> Result<Moment> {
    let open = fs.handles.in_volume(volume.slot);
    let failed = |error: super::error::OpError| {
        let error = std::io::Error::from_raw_os_error(error.errno() as i32);
        Error::io("look at open files in", fs.store.data_dir(volume), &error)
    };
    let mut nameless = Usage::default();
    let mut seen = HashSet::new();
    for handle in &open {
        if handle.writes() && handle.file.is_none() {
            let (at, file) = file_of(fs, handle).map_err(failed)?;
            fs.settle_passthrough(&at, file).map_err(failed)?;
        }
        // Under a hidden name the walk finds it.
        let is_nameless = handle.inode.is_unlinked() && handle.ground.shows_removals();
        if is_nameless && seen.insert(handle.node) {
            let own = match &handle.file {
                Some(_) => None,
                None => Some(file_of(fs, handle).map_err(failed)?.1),
            };
            let file = handle.file.as_ref().map(AsFd::as_fd);
            let file = file.or(own.as_ref().map(AsFd::as_fd));
            let inode = fs.nameless(handle, file);
            let inode = inode.ok_or_else(|| failed(nix::errno::Errno::EIO.into()))?;
            nameless = sum(nameless, charge(inode, volume.unit()));
        }
    }
    Ok(Moment {
        account: volume.usage(),
        exact: volume.usage_is_exact(),
        nameless,
    })
}

fn file_of(fs: &FileSystem, handle: &Handle) -> OpResult<(Located, std::os::fd::OwnedFd)> {
    let at = Located {
        volume: std::sync::Arc::clone(&handle.volume),
        node: handle.node,
        ground: std::sync::Arc::clone(&handle.ground),
    };
    let file = fs.open_located(&at, OFlag::O_PATH)?;
    Ok((at, file))
}

fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        bytes: Bytes(a.bytes.0.saturating_add(b.bytes.0)),
        inodes: a.inodes.saturating_add(b.inodes),
    }
}
