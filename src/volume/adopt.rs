//! Directories that the catalogue does not know.
//!
//! One with its own `volume.json` is a volume, and becomes one again under its
//! name: the catalogue has forgotten it, or somebody has put it here. Two kinds
//! are not shown as volumes, and go to the trash as `orphan-ID`, where they stay
//! until somebody restores or deletes them: one that says nothing of itself,
//! and one that was being made when the store was last in use. That nobody was
//! told of: its name is free, and it is marked (see `build.rs`) until its row
//! is committed.

use std::collections::{HashMap, HashSet};

use super::build::is_unfinished;
use super::error::Result;
use super::found::{Findings, Found};
use super::gather::{free_name, row_of, unknown};
use super::in_memory::Volume;
use super::index::Index;
use super::layout::{Layout, Place};
use super::manifest::Manifest;
use crate::failpoint;
use crate::meta::{Catalogue, State, VolumeRow};
use crate::model::{AllocationUnit, Serial, VolumeId, VolumeName};

/// What a directory says of itself, if it is about itself.
pub(super) fn manifest_of(layout: &Layout, place: Place, id: VolumeId) -> Option<Manifest> {
    let manifest = Manifest::read(&layout.home(place, id)).ok()?;
    (manifest.id == id).then_some(manifest)
}

/// Gives rows to all directories that have none.
pub(super) fn adopt(
    layout: &Layout,
    catalogue: &mut Catalogue,
    found: &Found,
    known: &HashMap<VolumeId, Serial>,
    index: &mut Index,
    findings: &mut Findings,
    unit: AllocationUnit,
) -> Result<()> {
    let mut strays: Vec<_> = found
        .directories()
        .into_iter()
        .filter(|(_, id)| !known.contains_key(id))
        .collect();
    strays.retain(|&(place, id)| found.place_of(id) == Some(place));
    if strays.is_empty() {
        return Ok(());
    }
    let mut rows: Vec<VolumeRow> = Vec::new();
    let mut names = HashSet::new();
    let mut serials: HashSet<Serial> = known.values().copied().collect();
    for (place, id) in strays {
        let row = match manifest_of(layout, place, id) {
            Some(manifest) if !is_unfinished(&layout.home(place, id)) => {
                let taken = |name: &VolumeName| index.get(name).is_some() || names.contains(name);
                volume_row(layout, place, &manifest, taken, findings)?
            }
            manifest => orphan_row(layout, place, id, manifest.as_ref(), findings)?,
        };
        let Some(row) = with_place(row, index, &serials) else {
            log::error!("no slot is left for the directory of {id}; it is left where it is");
            continue;
        };
        serials.insert(row.serial);
        if row.state == State::Live {
            names.insert(row.name.clone());
        }
        rows.push(row);
    }
    // The rows first: a crash from here on is finished by the one rule.
    catalogue.insert(&rows)?;
    failpoint::hit("start.adopted");
    for row in rows {
        if row.state != State::Live && !found.trash.ids.contains(&row.id) {
            layout.relocate(row.id, Place::Volumes, Place::Trash)?;
        }
        index.load(Volume::new(row, unit));
    }
    Ok(())
}

fn volume_row(
    layout: &Layout,
    place: Place,
    manifest: &Manifest,
    taken: impl Fn(&VolumeName) -> bool,
    findings: &mut Findings,
) -> Result<VolumeRow> {
    let home = layout.home(place, manifest.id);
    let mut row = row_of(manifest, place, &home);
    if row.state != State::Live {
        findings.warn(format!(
            "the catalogue does not know {home:?}; it is in the trash as {:?}",
            row.name
        ));
        return Ok(row);
    }
    row.name = free_name(&manifest.name, taken)?;
    findings.warn(match row.name == manifest.name {
        true => format!(
            "the catalogue does not know {home:?}; it is volume {:?} again",
            row.name
        ),
        false => format!(
            "the catalogue does not know {home:?}; it was volume {:?} and is {:?} now, because another volume has its name",
            manifest.name, row.name
        ),
    });
    Ok(row)
}

/// The serial and slot that a volume says it has, if no other has them; else
/// the next.
fn with_place(
    mut row: VolumeRow,
    index: &mut Index,
    serials: &HashSet<Serial>,
) -> Option<VolumeRow> {
    let has_one = row.serial.0 > 0 && !serials.contains(&row.serial);
    if !has_one || !index.claim_slot(row.serial, row.slot) {
        (row.serial, row.slot) = index.claim_place()?;
    }
    Some(row)
}

/// Whoever it belongs to can look and restore it.
fn orphan_row(
    layout: &Layout,
    place: Place,
    id: VolumeId,
    manifest: Option<&Manifest>,
    findings: &mut Findings,
) -> Result<VolumeRow> {
    let home = layout.home(place, id);
    let name: VolumeName = format!("orphan-{id}").parse()?;
    findings.warn(format!(
        "{home:?} {}; it is in the trash as {name:?} now, and stays there until it is restored or deleted",
        match manifest {
            Some(_) => "is a volume that was being made when the store was last in use",
            None => "has no entry in the catalogue and no volume.json of its own",
        }
    ));
    let mut row = match manifest {
        Some(manifest) => row_of(manifest, Place::Trash, &home),
        None => unknown(id, Place::Trash, &home, name.clone()),
    };
    row.name = name;
    row.orphan = true;
    Ok(row)
}
