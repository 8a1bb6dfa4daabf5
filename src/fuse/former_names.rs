//! The names that volumes had before, while this mount is up: for what is
//! known by a path from then, as the layers of an overlay are.
//!
//! A volume that is not in use when it is removed takes its former names with
//! it.

use parking_lot::Mutex;

use super::live::{Live, NameRecord};
use crate::model::{Serial, Slot, VolumeName};
use crate::volume::{Store, Volume};

/// What a name says of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Called {
    /// It never was the volume's.
    Never,
    /// It is the volume's, and was no other's.
    Now,
    /// The volume had it, or has it after another one.
    Once,
}

#[derive(Debug)]
struct Former {
    slot: Slot,
    serial: Serial,
    name: VolumeName,
    /// For the next process that serves the mount.
    _noted: Option<NameRecord>,
}

/// The former names of all volumes.
#[derive(Debug, Default)]
pub(super) struct FormerNames {
    /// A leaf lock, but for the store's index.
    all: Mutex<Vec<Former>>,
}

impl FormerNames {
    /// `volume` is about to lose `name`.
    pub(super) fn note(&self, store: &Store, live: &Live, volume: &Volume, name: &VolumeName) {
        let mut all = self.all.lock();
        all.retain(|it| is_there(store, it));
        let known = |it: &Former| it.serial == volume.serial && it.name == *name;
        if !all.iter().any(known) {
            all.push(Former {
                slot: volume.slot,
                serial: volume.serial,
                name: name.clone(),
                _noted: live.name_record(volume.serial, name),
            });
        }
    }

    /// Whether `volume` has been renamed.
    pub(super) fn has_any(&self, volume: &Volume) -> bool {
        let all = self.all.lock();
        all.iter().any(|former| former.serial == volume.serial)
    }

    /// Whether what was called `name` when it was mounted may be of `volume`.
    pub(super) fn called(&self, store: &Store, volume: &Volume, name: &str) -> Called {
        let (mut had, mut others) = (false, false);
        for former in &*self.all.lock() {
            if former.name.as_str() == name && is_there(store, former) {
                had |= former.serial == volume.serial;
                others |= former.serial != volume.serial;
            }
        }
        let has = volume.name().as_str() == name;
        match (has, had || others) {
            (true, false) => Called::Now,
            (true, true) => Called::Once,
            (false, _) if had => Called::Once,
            (false, _) => Called::Never,
        }
    }
}

/// Whether the volume is there, and not in the trash.
fn is_there(store: &Store, former: &Former) -> bool {
    let volume = store.volume_in(former.slot);
    volume.is_some_and(|volume| volume.serial == former.serial)
}
