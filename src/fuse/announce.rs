//! Tells who watches the root of the mount of what commands have changed there.
//!
//! The kernel sends inotify and fanotify events for what is called on the mount, and
//! none for what it is told that has changed. So a change is repeated as a call: a
//! process of our own calls mkdir(2), rmdir(2) or rename(2), and what it asks for is
//! answered as done, which it is. Nothing is changed by that but what the kernel
//! knows.
//!
//! The call is refused where the store has gone on meanwhile, and not made where
//! something else is on the mountpoint, or the daemon may not write to the root of the
//! mount; then the kernel forgets what it knows of the name, and nobody has an event.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use parking_lot::Mutex;

use super::fs::FileSystem;
use super::live::journal;
use super::node::{Generation, NodeId};
use super::ops::dots_entry;
use super::root;
use super::types::{Entry, Found};
use crate::fuse::error::{OpError, OpResult};
use crate::model::{Serial, VolumeName};
use crate::sys::apart::{self, Call};

/// What has become of a name in the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootChange {
    /// It leads to a volume.
    Made(VolumeName),
    /// It led to this volume.
    Removed(VolumeName, Serial),
    /// The volume has the second name in place of the first.
    Renamed(VolumeName, VolumeName, Serial),
}

/// Repeats changes as calls on the mount.
#[derive(Debug)]
pub(super) struct Announcer {
    mountpoint: CString,
    device: u64,
    /// The process that calls; 0 when none does.
    caller: AtomicU32,
    /// What it calls for. Locked by the thread that announces for as long as it takes
    /// to set it, and by those that serve for as long as it takes to read it.
    change: Mutex<Option<RootChange>>,
}

impl Announcer {
    /// For the mount on `mountpoint`, whose files have this `st_dev`.
    pub(super) fn new(mountpoint: &Path, device: u64) -> Option<Self> {
        Some(Self {
            mountpoint: CString::new(mountpoint.as_os_str().as_bytes()).ok()?,
            device,
            caller: AtomicU32::new(0),
            change: Mutex::new(None),
        })
    }

    /// Makes the call. Not by a thread that serves requests: it waits for one.
    pub(super) fn announce(&self, change: &RootChange) -> Result<(), Errno> {
        let text = |name: &VolumeName| CString::new(name.as_str()).map_err(|_| Errno::EINVAL);
        let (first, second) = match change {
            RootChange::Made(name) | RootChange::Removed(name, _) => {
                (text(name)?, CString::default())
            }
            RootChange::Renamed(from, to, _) => (text(from)?, text(to)?),
        };
        let call = match change {
            RootChange::Made(_) => Call::MakeDir(&first),
            RootChange::Removed(..) => Call::RemoveDir(&first),
            RootChange::Renamed(..) => Call::Rename(&first, &second),
        };
        *self.change.lock() = Some(change.clone());
        let result = apart::call(&self.mountpoint, self.device, call, &self.caller);
        *self.change.lock() = None;
        result
    }

    /// What the process `pid` calls for, if it is the one that calls for us.
    pub(super) fn by(&self, pid: u32) -> Option<RootChange> {
        if pid == 0 || self.caller.load(Ordering::Acquire) != pid {
            return None;
        }
        self.change.lock().clone()
    }
}

/// Stands for a removed volume that the kernel has not known: it must find what it
/// is to remove.
const REMOVED: NodeId = NodeId::control(u32::MAX);

/// Whether the name leads to the volume with this serial.
fn leads_to(fs: &FileSystem, name: &VolumeName, serial: Serial) -> bool {
    fs.store()
        .volume(name)
        .is_some_and(|volume| volume.serial == serial)
}

/// What the one who announces finds in the root: what was there before.
///
/// # Errors
/// ENOENT for any other name.
pub(super) fn lookup(fs: &FileSystem, change: &RootChange, name: &OsStr) -> OpResult<Found> {
    match change {
        RootChange::Removed(removed, _)
            if removed.as_str() == name && fs.store().volume(removed).is_none() =>
        {
            Ok(Found::Entry(Entry {
                generation: Generation::FIXED,
                ..dots_entry(REMOVED)
            }))
        }
        RootChange::Renamed(from, to, serial) if from.as_str() == name => {
            match fs.store().volume(to) {
                Some(volume) if volume.serial == *serial => {
                    Ok(Found::Entry(root::volume_entry(fs, &volume, name)?))
                }
                _ => Err(OpError::Host(Errno::ENOENT)),
            }
        }
        // Not to be remembered: it is there for all others.
        _ => Err(OpError::Host(Errno::ENOENT)),
    }
}

/// The answer to the mkdir(2) of a volume that is made.
///
/// # Errors
/// ENOENT when it is not there any more.
pub(super) fn mkdir(fs: &FileSystem, change: &RootChange, name: &OsStr) -> OpResult<Entry> {
    match change {
        RootChange::Made(made) if made.as_str() == name => match fs.store().volume(made) {
            Some(volume) => root::volume_entry(fs, &volume, name),
            None => Err(OpError::Host(Errno::ENOENT)),
        },
        _ => Err(OpError::Host(Errno::EINVAL)),
    }
}

/// The answer to the rmdir(2) of a volume that is removed.
///
/// # Errors
/// EEXIST when the name leads to another.
pub(super) fn rmdir(fs: &FileSystem, change: &RootChange, name: &OsStr) -> OpResult<()> {
    match change {
        RootChange::Removed(removed, serial) if removed.as_str() == name => {
            if fs.store().volume(removed).is_some() {
                return Err(OpError::Host(Errno::EEXIST));
            }
            // Should this process die now, the next must not remove another.
            journal::intend_one(NodeId::ROOT, name, serial.0.unsigned_abs());
            Ok(())
        }
        _ => Err(OpError::Host(Errno::EINVAL)),
    }
}

/// The answer to the rename(2) of a volume that is renamed.
///
/// # Errors
/// EEXIST when the names lead elsewhere by now.
pub(super) fn rename(
    fs: &FileSystem,
    change: &RootChange,
    (name, new_name): (&OsStr, &OsStr),
) -> OpResult<()> {
    match change {
        RootChange::Renamed(from, to, serial)
            if from.as_str() == name && to.as_str() == new_name =>
        {
            if fs.store().volume(from).is_some() || !leads_to(fs, to, *serial) {
                return Err(OpError::Host(Errno::EEXIST));
            }
            let places = ((NodeId::ROOT, name), (NodeId::ROOT, new_name));
            journal::intend(places.0, places.1, serial.0.unsigned_abs());
            Ok(())
        }
        _ => Err(OpError::Host(Errno::EINVAL)),
    }
}
