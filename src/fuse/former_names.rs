//! The names that volumes had before, while this mount is up: for what is
//! known by a path from then, as the layers of an overlay are.
//!
//! A volume that is not in use when it is removed takes its former names with
//! it.
//!
//! An overlay that was mounted before a volume lost its name is not of another
//! that got the name after that. When it was mounted is known by the id of its
//! mount: these rise. That one was mounted later is not to be known, as there is
//! a new mount, with a new id, of an old overlay in each new mount namespace.

use parking_lot::Mutex;

use super::live::{Live, NameRecord};
use crate::model::{Serial, Slot, VolumeName};
use crate::volume::holders::Called;
use crate::volume::{Store, Volume};

#[derive(Debug)]
struct Former {
    slot: Slot,
    serial: Serial,
    name: VolumeName,
    /// Ids of mounts that were made before the volume had the name are lower;
    /// 0 when that is not known.
    since: u64,
    /// Ids of mounts that were made before it lost the name are lower, and of
    /// those made later higher; 0 when that is not known.
    lost: u64,
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
        let lost = crate::sys::mount::mark().unwrap_or(0);
        self.insert(store, live, volume, name, lost);
    }

    /// As [`note`](Self::note), of a name that was lost some time before.
    pub(super) fn go_on(&self, store: &Store, live: &Live, volume: &Volume, name: &VolumeName) {
        self.insert(store, live, volume, name, 0);
    }

    fn insert(&self, store: &Store, live: &Live, volume: &Volume, name: &VolumeName, lost: u64) {
        let mut all = self.all.lock();
        all.retain(|it| is_there(store, it));
        let known = |it: &&mut Former| it.serial == volume.serial && it.name == *name;
        if let Some(former) = all.iter_mut().find(known) {
            former.lost = lost;
            return;
        }
        let since = last_lost(all.iter().filter(|it| it.name == *name));
        all.push(Former {
            slot: volume.slot,
            serial: volume.serial,
            name: name.clone(),
            since,
            lost,
            _noted: live.name_record(volume.serial, name),
        });
    }

    /// Whether `volume` has been renamed.
    pub(super) fn has_any(&self, volume: &Volume) -> bool {
        let all = self.all.lock();
        all.iter().any(|former| former.serial == volume.serial)
    }

    /// All names that volumes had before.
    pub(super) fn names(&self) -> Vec<VolumeName> {
        let all = self.all.lock();
        all.iter().map(|former| former.name.clone()).collect()
    }

    /// Whether what was called `name` when it was mounted may be of `volume`;
    /// `before` is the id of a mount that was made after that, if one is known.
    pub(super) fn called(
        &self,
        store: &Store,
        volume: &Volume,
        name: &str,
        before: Option<u64>,
    ) -> Called {
        let all = self.all.lock();
        let of_name = all
            .iter()
            .filter(|it| it.name.as_str() == name && is_there(store, it));
        let (own, others): (Vec<_>, Vec<_>) = of_name.partition(|it| it.serial == volume.serial);
        let has = volume.name().as_str() == name;
        if !has && own.is_empty() {
            return Called::Never;
        }
        // Whoever had it before has lost it before this volume got it.
        let since = match own.first() {
            Some(former) => former.since,
            None => last_lost(others.iter().copied()),
        };
        match before {
            Some(id) if id < since => Called::Never,
            _ if has && own.is_empty() && others.is_empty() => Called::Now,
            _ => Called::Once,
        }
    }
}

/// The mark of the last loss; 0 when that is not known.
fn last_lost<'a>(all: impl Iterator<Item = &'a Former>) -> u64 {
    all.map(|it| it.lost).max().unwrap_or(0)
}

/// Whether the volume is there, and not in the trash.
fn is_there(store: &Store, former: &Former) -> bool {
    let volume = store.volume_in(former.slot);
    volume.is_some_and(|volume| volume.serial == former.serial)
}
