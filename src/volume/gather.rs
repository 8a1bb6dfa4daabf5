//! The rows of volumes by what lies beside their files, each in `volume.json`.
//!
//! For a catalogue that is lost, and for one that is not the last that the
//! store was used with: it fills in what a directory does not say of itself.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::error::{Error, Result};
use super::identity::contents_id;
use super::index::Index;
use super::layout::{Layout, Place};
use super::manifest::Manifest;
use crate::meta::{DiskRow, State, VolumeRow};
use crate::model::{Kind, Labels, Limits, Serial, Slot, Timestamp, Usage, VolumeId, VolumeName};

/// All volumes of which there is a directory.
pub(super) struct Gathered {
    pub rows: Vec<VolumeRow>,
    /// Those that could not have the name that they had.
    pub names: Vec<NewName>,
}

/// A volume that has got another name.
pub(super) struct NewName {
    pub row: Serial,
    /// What it was called; absent when nobody knows it.
    pub had: Option<VolumeName>,
    pub has: VolumeName,
}

/// Makes the rows of these directories. `rows` are those of a catalogue that
/// may be out of date.
pub(super) fn gather(
    layout: &Layout,
    directories: impl IntoIterator<Item = (Place, VolumeId)>,
    rows: &[VolumeRow],
) -> Result<Gathered> {
    let known: HashMap<VolumeId, &VolumeRow> = rows.iter().map(|row| (row.id, row)).collect();
    let mut found: Vec<_> = directories
        .into_iter()
        .map(|(place, id)| Found::look(layout, place, id, known.get(&id).copied()))
        .collect();
    // The oldest first: it keeps its name, serial and slot.
    found.sort_by_key(|it| (it.order(), it.id));
    let mut gathering = Gathering::default();
    for it in &found {
        if let Some(said) = &it.said {
            gathering.places.reserve(said.serial, said.slot);
        }
    }
    for it in found {
        gathering.add(it)?;
    }
    Ok(Gathered {
        rows: gathering.rows,
        names: gathering.names,
    })
}

/// The row that a volume's own `volume.json` makes.
pub(super) fn row_of(manifest: &Manifest, place: Place, contents: &std::path::Path) -> VolumeRow {
    let now = Timestamp::now();
    let live = place == Place::Volumes;
    VolumeRow {
        serial: manifest.serial,
        id: manifest.id,
        slot: manifest.slot,
        name: manifest.name.clone(),
        kind: manifest.kind,
        state: if live { State::Live } else { State::Trash },
        limits: manifest.limits,
        disk: manifest.disk.as_ref().map(|disk| DiskRow {
            size: disk.size,
            format: disk.format,
            fstype: disk.fstype,
            // Whether a guest wrote it was in the catalogue alone.
            guest_written: true,
        }),
        labels: manifest.labels.clone(),
        pinned: manifest.pinned,
        read_only: manifest.read_only,
        trash_files: manifest.trash_files,
        owner: manifest.owner,
        orphan: false,
        created: manifest.created,
        updated: now,
        // When it was removed nobody knows; it stays as long as if it were now.
        trashed: (!live).then_some(now),
        used: Usage::default(),
        usage_clean: false,
        manifest_current: false,
        contents: contents_id(contents),
    }
}

/// A volume's directory and what is said of it.
struct Found {
    id: VolumeId,
    place: Place,
    said: Option<VolumeRow>,
    home: PathBuf,
    has_image: bool,
}

impl Found {
    fn look(layout: &Layout, place: Place, id: VolumeId, old: Option<&VolumeRow>) -> Self {
        let home = layout.home(place, id);
        let manifest = match Manifest::read(&home) {
            Ok(manifest) if manifest.id == id => Some(manifest),
            Ok(manifest) => {
                log::warn!("{home:?}: volume.json is that of volume {}", manifest.id);
                None
            }
            Err(why) => {
                log::warn!("{home:?}: volume.json does not serve: {why}");
                None
            }
        };
        let said = match (manifest, old) {
            (Some(manifest), _) => Some(row_of(&manifest, place, &home)),
            (None, Some(old)) => Some(renewed(old, place, &home)),
            (None, None) => None,
        };
        let mut it = Self {
            id,
            place,
            said,
            has_image: layout.image(place, id).exists(),
            home,
        };
        if let (Some(said), Some(old)) = (&mut it.said, old) {
            said.orphan = old.orphan && place == Place::Trash;
            said.used = old.used;
            if old.orphan {
                // Its `volume.json` is what it was found with.
                said.name = old.name.clone();
            }
        }
        it
    }

    fn order(&self) -> (bool, Option<(Serial, Timestamp)>) {
        let known = self.said.as_ref().map(|it| (it.serial, it.created));
        (known.is_none(), known)
    }
}

/// What an old row says of a directory, as far as that may be believed.
fn renewed(old: &VolumeRow, place: Place, home: &std::path::Path) -> VolumeRow {
    let now = Timestamp::now();
    let live = place == Place::Volumes;
    let mut row = old.clone();
    row.state = if live { State::Live } else { State::Trash };
    row.trashed = (!live).then_some(now);
    row.updated = now;
    row.usage_clean = false;
    row.manifest_current = false;
    row.contents = contents_id(home);
    if let Some(disk) = &mut row.disk {
        disk.guest_written = true;
    }
    row
}

#[derive(Default)]
struct Gathering {
    rows: Vec<VolumeRow>,
    names: Vec<NewName>,
    taken: HashSet<VolumeName>,
    slots: HashSet<Slot>,
    serials: HashSet<Serial>,
    // Serials and slots for volumes that have lost theirs come after all that
    // are known.
    places: Index,
}

impl Gathering {
    fn add(&mut self, found: Found) -> Result<()> {
        let live = found.place == Place::Volumes;
        let (serial, slot) = self.place_of(found.said.as_ref())?;
        let own = found.said.as_ref().map(|it| it.name.clone());
        let wished = match &own {
            Some(name) => name.clone(),
            None => format!("recovered-{}", found.id).parse()?,
        };
        // Names in the trash may stand several times.
        let name = match live {
            true => free_name(&wished, |name| self.taken.contains(name))?,
            false => wished,
        };
        if live {
            self.taken.insert(name.clone());
        }
        if own.as_ref() != Some(&name) {
            self.names.push(NewName {
                row: serial,
                had: own,
                has: name.clone(),
            });
        }
        if found.said.is_none() && found.has_image {
            log::warn!("volume {name:?} has an image that nothing is known of; it is left alone");
        }
        let mut row = found
            .said
            .unwrap_or_else(|| unknown(found.id, found.place, &found.home, name.clone()));
        row.serial = serial;
        row.slot = slot;
        row.name = name;
        self.rows.push(row);
        Ok(())
    }

    fn place_of(&mut self, said: Option<&VolumeRow>) -> Result<(Serial, Slot)> {
        if let Some(it) = said
            && !self.serials.contains(&it.serial)
            && !self.slots.contains(&it.slot)
        {
            self.serials.insert(it.serial);
            self.slots.insert(it.slot);
            return Ok((it.serial, it.slot));
        }
        let place = self.places.claim_place().ok_or_else(|| Error::BadStore {
            store: PathBuf::new(),
            why: format!("it holds more than {} volumes", Slot::MAX),
        })?;
        self.serials.insert(place.0);
        self.slots.insert(place.1);
        Ok(place)
    }
}

/// The row of a directory that says nothing of itself. Its serial and slot are
/// yet to be given.
pub(super) fn unknown(
    id: VolumeId,
    place: Place,
    home: &std::path::Path,
    name: VolumeName,
) -> VolumeRow {
    let now = Timestamp::now();
    let live = place == Place::Volumes;
    VolumeRow {
        serial: Serial(0),
        id,
        slot: Slot::FIRST,
        name,
        kind: Kind::Directory,
        state: if live { State::Live } else { State::Trash },
        limits: Limits::default(),
        disk: None,
        labels: Labels::default(),
        pinned: false,
        read_only: false,
        trash_files: None,
        owner: None,
        orphan: false,
        created: now,
        updated: now,
        trashed: (!live).then_some(now),
        used: Usage::default(),
        usage_clean: false,
        manifest_current: false,
        contents: contents_id(home),
    }
}

/// `wished`, or that with the first number after it that makes it a name that
/// is not `taken`.
pub(super) fn free_name(
    wished: &VolumeName,
    taken: impl Fn(&VolumeName) -> bool,
) -> Result<VolumeName> {
    let mut name = wished.clone();
    let mut number = 2_u64;
    while taken(&name) {
        let suffix = format!("-{number}");
        // Not within a character.
        let mut most = wished
            .as_str()
            .len()
            .min(VolumeName::MAX_BYTES - suffix.len());
        while !wished.as_str().is_char_boundary(most) {
            most -= 1;
        }
        name = format!("{}{suffix}", &wished.as_str()[..most]).parse()?;
        number += 1;
    }
    Ok(name)
}
