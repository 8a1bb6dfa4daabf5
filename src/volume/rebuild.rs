//! Making a lost or damaged catalogue anew from what the volumes say of
//! themselves.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::index::Index;
use super::layout::{Layout, Place, sync_dir};
use super::lock::StoreLock;
use super::manifest::Manifest;
use super::open::make_places;
use super::settings::{self, Setting};
use super::store::Store;
use crate::meta::{Catalogue, DiskRow, State, VolumeRow};
use crate::model::{
    Kind, Labels, Limits, NameRule, Serial, Slot, Timestamp, Usage, VolumeId, VolumeName,
};

/// What [`Store::rebuild`] has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Volumes that are there again under their own names.
    pub volumes: usize,
    /// Volumes in the trash.
    pub trashed: usize,
    /// Volumes that had to get another name: the name that they had (absent
    /// when nobody knows it) and the one that they have now.
    pub renamed: Vec<(Option<VolumeName>, VolumeName)>,
    /// What was kept of the damaged catalogue.
    pub kept: Option<PathBuf>,
}

impl Store {
    /// Makes the catalogue of the store in `dir` anew from the `volume.json`
    /// files beside the volumes' data. The old catalogue, if there is one, is
    /// kept as `meta.db.damaged-TIME`. Can be begun again when it was cut.
    ///
    /// Names, kinds, limits, labels, pins and times of creation come back. What
    /// volumes hold is counted when the store is next used. A volume without a
    /// readable `volume.json` comes back as `recovered-ID`, and of several with
    /// one name all but the oldest get a number after it.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::BadStore`], I/O. The old catalogue is in its
    /// place then, or set aside.
    pub fn rebuild(dir: &Path) -> Result<Rebuilt> {
        let root = dir.canonicalize().map_err(|e| Error::io("open", dir, &e))?;
        let layout = Layout::new(&root);
        let volumes =
            layout.list(Place::Volumes)?.ok_or_else(|| {
                Error::BadStore {
            store: root.clone(),
            why: "it has no directory volumes/, so that there is nothing to make a catalogue from"
                .to_owned(),
        }
            })?;
        let _lock = StoreLock::exclusive(&root, &layout.lock())?;
        make_places(&layout)?;
        let trash = layout.list(Place::Trash)?.unwrap_or_default();
        let mut gathering = Gathering::default();
        let mut found: Vec<_> = volumes
            .ids
            .iter()
            .map(|&id| Found::look(&layout, Place::Volumes, id))
            .chain(
                trash
                    .ids
                    .difference(&volumes.ids)
                    .map(|&id| Found::look(&layout, Place::Trash, id)),
            )
            .collect();
        // The oldest first: it keeps its name, serial and slot.
        found.sort_by_key(|it| (it.order(), it.id));
        for it in &found {
            gathering.reserve(it);
        }
        for it in found {
            gathering.add(it)?;
        }
        let mut done = gathering.done;
        done.kept = replace(&layout, &gathering.rows)?;
        Ok(done)
    }
}

/// A volume's directory and what it says.
struct Found {
    id: VolumeId,
    place: Place,
    manifest: Option<Manifest>,
    has_image: bool,
}

impl Found {
    fn look(layout: &Layout, place: Place, id: VolumeId) -> Self {
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
        Self {
            id,
            place,
            manifest,
            has_image: layout.image(place, id).exists(),
        }
    }

    fn order(&self) -> (bool, Option<(Serial, Timestamp)>) {
        let known = self.manifest.as_ref().map(|it| (it.serial, it.created));
        (known.is_none(), known)
    }
}

#[derive(Default)]
struct Gathering {
    rows: Vec<VolumeRow>,
    names: HashSet<VolumeName>,
    slots: HashSet<Slot>,
    serials: HashSet<Serial>,
    // Serials and slots for volumes that have lost theirs come after all that
    // are known.
    places: Index,
    done: Rebuilt,
}

impl Gathering {
    /// Sees to it that what a volume says it has is given to no other.
    fn reserve(&mut self, found: &Found) {
        if let Some(manifest) = &found.manifest {
            self.places.reserve(manifest.serial, manifest.slot);
        }
    }

    fn add(&mut self, found: Found) -> Result<()> {
        let now = Timestamp::now();
        let live = found.place == Place::Volumes;
        let own = found.manifest.as_ref().map(|it| it.name.clone());
        let (serial, slot) = self.place_of(found.manifest.as_ref())?;
        let wished = match &own {
            Some(name) => name.clone(),
            None => format!("recovered-{}", found.id).parse()?,
        };
        // Names in the trash may stand several times.
        let name = if live {
            self.free_name(wished)?
        } else {
            wished
        };
        if own.as_ref() != Some(&name) {
            self.done.renamed.push((own, name.clone()));
        } else if live {
            self.done.volumes += 1;
        }
        if !live {
            self.done.trashed += 1;
        }
        let manifest = found.manifest;
        let disk = manifest.as_ref().and_then(|it| it.disk.as_ref());
        if manifest.is_none() && found.has_image {
            log::warn!("volume {name:?} has an image that nothing is known of; it is left alone");
        }
        self.rows.push(VolumeRow {
            serial,
            id: found.id,
            slot,
            name,
            kind: manifest.as_ref().map_or(Kind::Directory, |it| it.kind),
            state: if live { State::Live } else { State::Trash },
            limits: manifest.as_ref().map_or(Limits::default(), |it| it.limits),
            disk: disk.map(|disk| DiskRow {
                size: disk.size,
                format: disk.format,
                fstype: disk.fstype,
                // Whether a guest wrote it was in the catalogue alone.
                guest_written: true,
            }),
            labels: manifest
                .as_ref()
                .map_or(Labels::default(), |it| it.labels.clone()),
            pinned: manifest.as_ref().is_some_and(|it| it.pinned),
            read_only: manifest.as_ref().is_some_and(|it| it.read_only),
            trash_files: manifest.as_ref().and_then(|it| it.trash_files),
            orphan: false,
            created: manifest.as_ref().map_or(now, |it| it.created),
            updated: now,
            trashed: (!live).then_some(now),
            used: Usage::default(),
            usage_clean: false,
            manifest_current: false,
            owner: manifest.as_ref().and_then(|it| it.owner),
        });
        Ok(())
    }

    fn place_of(&mut self, manifest: Option<&Manifest>) -> Result<(Serial, Slot)> {
        if let Some(it) = manifest
            && it.serial.0 > 0
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

    fn free_name(&mut self, wished: VolumeName) -> Result<VolumeName> {
        let mut name = wished.clone();
        let mut number = 2_u64;
        while !self.names.insert(name.clone()) {
            let suffix = format!("-{number}");
            let most = VolumeName::MAX_BYTES - suffix.len();
            let wished = wished.as_str();
            let starts = wished.char_indices().map(|(at, _)| at);
            // Between two characters; the first is at 0.
            let end = starts.chain([wished.len()]).rfind(|&at| at <= most);
            let stem = &wished[..end.unwrap_or(0)];
            name = format!("{stem}{suffix}").parse()?;
            number += 1;
        }
        Ok(name)
    }
}

/// Puts a catalogue with these rows in the place of the old one, which is set
/// aside; returns where.
///
/// The new one is complete before it gets its name. The old database goes
/// before its log: without its log it would pass for whole.
fn replace(layout: &Layout, rows: &[VolumeRow]) -> Result<Option<PathBuf>> {
    let root = layout.root();
    let path = layout.catalogue();
    let next = root.join("meta.db.new");
    for leftover in [next.clone(), with_suffix(&next, "-wal")] {
        match fs::remove_file(&leftover) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &leftover, &e));
            }
            _ => {}
        }
    }
    let mut catalogue = Catalogue::open_or_make(&next, &settings::of_new_store())?;
    if rows
        .iter()
        .any(|row| NameRule::Portable.check(&row.name).is_err())
    {
        // The store had this setting when it gave these names.
        let (key, value) = Setting::Names(NameRule::Any).as_text();
        catalogue.set_setting_of_this_version(key, &value)?;
    }
    catalogue.insert(rows)?;
    catalogue.close()?;
    let time = Timestamp::now().as_nanos() / 1_000_000_000;
    let aside = root.join(format!("meta.db.damaged-{time}"));
    let mut kept = None;
    for suffix in ["", "-wal", "-shm"] {
        let (old, new) = (with_suffix(&path, suffix), with_suffix(&aside, suffix));
        match fs::rename(&old, &new) {
            Ok(()) if suffix.is_empty() => kept = Some(new),
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("rename", &old, &e)),
        }
    }
    sync_dir(root)?;
    fs::rename(&next, &path).map_err(|e| Error::io("rename", &next, &e))?;
    sync_dir(root)?;
    Ok(kept)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
