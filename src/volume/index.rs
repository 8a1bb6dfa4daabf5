//! The volumes in memory: what lookups and listings read.
//!
//! Knows neither SQLite nor directories. Never locked over a call that waits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use super::error::{Error, Result};
use super::in_memory::Volume;
use crate::meta::State;
use crate::model::{Serial, Slot, Timestamp, VolumeId, VolumeName};

/// All volumes of a store.
#[derive(Debug, Default)]
pub(super) struct Index {
    names: HashMap<VolumeName, Arc<Volume>>,
    slots: HashMap<Slot, Arc<Volume>>,
    live: BTreeMap<Serial, (VolumeName, Arc<Volume>)>,
    trash: BTreeMap<Serial, Arc<Volume>>,
    // Names that a change under way will give to a volume.
    claimed: HashSet<VolumeName>,
    // Slots of volumes that exist in any state, or are being made.
    taken: HashSet<Slot>,
    last_serial: i64,
    // When a name last came, changed or went.
    changed: Timestamp,
    // Names of volumes whose removal a start has finished.
    finished: Vec<VolumeName>,
}

impl Index {
    pub(super) fn new(last_serial: Serial) -> Self {
        Self {
            last_serial: last_serial.0,
            ..Self::default()
        }
    }

    /// Takes in a volume that the catalogue has.
    pub(super) fn load(&mut self, volume: Volume) {
        self.taken.insert(volume.slot);
        self.last_serial = self.last_serial.max(volume.serial.0);
        let volume = Arc::new(volume);
        match volume.row().state {
            State::Live => self.appear(&volume.name(), &volume),
            State::Trash => self.put_in_trash(&volume),
            // Being deleted: nobody sees it any more.
            State::Purging | State::Rmdir => {}
        }
    }

    pub(super) fn get(&self, name: &VolumeName) -> Option<&Arc<Volume>> {
        self.names.get(name)
    }

    pub(super) fn find(&self, name: &VolumeName) -> Result<Arc<Volume>> {
        let missing = || Error::NotFound { name: name.clone() };
        self.names.get(name).map(Arc::clone).ok_or_else(missing)
    }

    pub(super) fn in_slot(&self, slot: Slot) -> Option<&Arc<Volume>> {
        self.slots.get(&slot)
    }

    pub(super) fn after(
        &self,
        after: Option<Serial>,
        most: usize,
    ) -> Vec<(VolumeName, Arc<Volume>)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.live
            .range((start, Bound::Unbounded))
            .take(most)
            .map(|(_, found)| found.clone())
            .collect()
    }

    /// Live volumes, oldest first.
    pub(super) fn live(&self) -> impl DoubleEndedIterator<Item = &Arc<Volume>> {
        self.live.values().map(|(_, volume)| volume)
    }

    /// Volumes in the trash, oldest first.
    pub(super) fn trash(&self) -> impl DoubleEndedIterator<Item = &Arc<Volume>> {
        self.trash.values()
    }

    /// The volume in the trash with this name or id; of several with one name
    /// the last trashed.
    pub(super) fn find_in_trash(&self, wanted: &str) -> Result<Arc<Volume>> {
        let id: Option<VolumeId> = wanted.parse().ok();
        self.trash
            .values()
            .filter(|volume| Some(volume.id) == id || volume.row().name.as_str() == wanted)
            .max_by_key(|volume| (Some(volume.id) == id, volume.row().trashed))
            .map(Arc::clone)
            .ok_or_else(|| Error::NotInTrash {
                wanted: wanted.to_owned(),
            })
    }

    pub(super) fn claim_name(&mut self, name: &VolumeName) -> Result<()> {
        if self.names.contains_key(name) || !self.claimed.insert(name.clone()) {
            return Err(Error::Exists { name: name.clone() });
        }
        Ok(())
    }

    pub(super) fn give_up_name(&mut self, name: &VolumeName) {
        self.claimed.remove(name);
    }

    /// The next serial, and the slot that belongs to it: slots go round with
    /// the serials, skipping those in use, so that a slot is used again only
    /// after all others. `None` when every slot is taken.
    pub(super) fn claim_place(&mut self) -> Option<(Serial, Slot)> {
        if self.taken.len() >= Slot::MAX as usize {
            return None;
        }
        self.last_serial += 1;
        let serial = Serial(self.last_serial);
        let mut number = serial_slot(serial);
        loop {
            // Numbers are 1 to MAX, so there is always such a slot.
            if let Some(slot) = Slot::new(number)
                && self.taken.insert(slot)
            {
                return Some((serial, slot));
            }
            number = number % Slot::MAX + 1;
        }
    }

    /// Takes this slot, with a serial that no volume has; `false` when the slot
    /// is another's.
    pub(super) fn claim_slot(&mut self, serial: Serial, slot: Slot) -> bool {
        let free = !self.taken.contains(&slot);
        if free {
            self.reserve(serial, slot);
        }
        free
    }

    /// Sees to it that no later [`claim_place`](Self::claim_place) gives these.
    pub(super) fn reserve(&mut self, serial: Serial, slot: Slot) {
        self.last_serial = self.last_serial.max(serial.0);
        self.taken.insert(slot);
    }

    pub(super) fn give_up_slot(&mut self, slot: Slot) {
        self.taken.remove(&slot);
    }

    /// When a name last came, changed or went.
    pub(super) fn changed(&self) -> Timestamp {
        self.changed
    }

    /// When a name came, changed or went before this process.
    pub(super) fn set_changed(&mut self, changed: Timestamp) {
        self.changed = changed;
    }

    /// Names that led to volumes which have been removed.
    pub(super) fn removed_names(&self) -> Vec<VolumeName> {
        let trash = self.trash.values().map(|volume| volume.name());
        trash.chain(self.finished.iter().cloned()).collect()
    }

    pub(super) fn set_finished(&mut self, names: Vec<VolumeName>) {
        self.finished = names;
    }

    /// How many live volumes there are.
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// The name leads to the volume from now on.
    pub(super) fn appear(&mut self, name: &VolumeName, volume: &Arc<Volume>) {
        self.changed = volume.row().updated;
        self.trash.remove(&volume.serial);
        self.names.insert(name.clone(), Arc::clone(volume));
        self.slots.insert(volume.slot, Arc::clone(volume));
        self.live
            .insert(volume.serial, (name.clone(), Arc::clone(volume)));
    }

    /// The volume has another name from now on.
    pub(super) fn rename(&mut self, volume: &Arc<Volume>, to: &VolumeName) {
        self.changed = volume.row().updated;
        if let Some((old, _)) = self
            .live
            .insert(volume.serial, (to.clone(), Arc::clone(volume)))
            // In an exchange the other one may have the old name already.
            && self.names.get(&old).is_some_and(|it| it.serial == volume.serial)
        {
            self.names.remove(&old);
        }
        self.names.insert(to.clone(), Arc::clone(volume));
    }

    /// No name leads to the volume any more.
    pub(super) fn vanish(&mut self, volume: &Volume) {
        self.changed = volume.row().updated;
        if let Some((name, _)) = self.live.remove(&volume.serial) {
            self.names.remove(&name);
        }
        self.slots.remove(&volume.slot);
    }

    pub(super) fn put_in_trash(&mut self, volume: &Arc<Volume>) {
        self.trash.insert(volume.serial, Arc::clone(volume));
    }

    /// The volume cannot be restored any more.
    pub(super) fn take_from_trash(&mut self, volume: &Volume) {
        self.trash.remove(&volume.serial);
    }
}

/// Where the search for the slot of a volume begins.
fn serial_slot(serial: Serial) -> u32 {
    let round = (serial.0 - 1).rem_euclid(i64::from(Slot::MAX));
    // A remainder of division by a u32 is one.
    u32::try_from(round).unwrap_or(0) + 1
}

#[cfg(test)]
mod tests;
