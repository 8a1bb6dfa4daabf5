//! A catalogue that is not the one that the store was last used with.
//!
//! Somebody has restored an older one, or put one from elsewhere here. What is
//! in the directories is newer than what it says: which volumes there are and
//! what they are called is learnt from them, nothing is removed or deleted on
//! its word, what it says of usage is counted, and the images that it trusts
//! are not trusted.

use std::collections::HashSet;

use super::error::Result;
use super::found::{Findings, Found};
use super::gather::{Gathered, free_name, gather};
use super::layout::Layout;
use crate::meta::{Catalogue, State, VolumeRow};
use crate::model::{Serial, Slot, VolumeId, VolumeName};

/// Replaces the rows of such a catalogue by what the directories say.
pub(super) fn renew(
    layout: &Layout,
    catalogue: &mut Catalogue,
    old: Vec<VolumeRow>,
    found: &Found,
    findings: &mut Findings,
) -> Result<Vec<VolumeRow>> {
    findings.warn(format!(
        "the catalogue {:?} is not the one that this store was last used with, but an older one or another's; names, limits and labels are taken from the volumes themselves, what they hold is counted again, nothing is deleted on its word, and images have to be trusted anew ('volfs disk trust')",
        catalogue.path()
    ));
    let mut directories = found.directories();
    let mut seen = HashSet::new();
    directories.retain(|&(_, id)| seen.insert(id));
    // One that says nothing and is in no row is no volume: see `adopt`.
    let known: HashSet<VolumeId> = old.iter().map(|row| row.id).collect();
    directories.retain(|&(place, id)| {
        known.contains(&id) || super::adopt::manifest_of(layout, place, id).is_some()
    });
    let Gathered { mut rows, names } = gather(layout, directories, &old)?;
    for name in names {
        if let Some(had) = name.had {
            findings.warn(format!(
                "volume {had:?} is called {:?} now, because another volume has its name",
                name.has
            ));
        }
    }
    report(&old, &rows, findings);
    keep_missing(&old, &mut rows, findings)?;
    catalogue.replace_all(&rows)?;
    Ok(rows)
}

fn report(old: &[VolumeRow], rows: &[VolumeRow], findings: &mut Findings) {
    let state_of = |id| old.iter().find(|row| row.id == id).map(|row| row.state);
    let list = |wanted: &dyn Fn(&&VolumeRow) -> bool| -> Vec<&str> {
        rows.iter()
            .filter(wanted)
            .map(|row| row.name.as_str())
            .collect()
    };
    let unknown = list(&|row| state_of(row.id).is_none());
    if !unknown.is_empty() {
        findings.warn(format!(
            "it did not know {}; taken over as they are",
            unknown.join(", ")
        ));
    }
    let other = list(&|row| {
        state_of(row.id).is_some_and(|state| (state == State::Live) != (row.state == State::Live))
    });
    if !other.is_empty() {
        findings.warn(format!(
            "it had them in the trash or out of it, which has changed since: {}",
            other.join(", ")
        ));
    }
}

/// Volumes of which there is no directory stay known, so that one that is away
/// is missed; unless they were being deleted.
fn keep_missing(
    old: &[VolumeRow],
    rows: &mut Vec<VolumeRow>,
    findings: &mut Findings,
) -> Result<()> {
    let ids: HashSet<VolumeId> = rows.iter().map(|row| row.id).collect();
    let mut serials: HashSet<Serial> = rows.iter().map(|row| row.serial).collect();
    let mut slots: HashSet<Slot> = rows.iter().map(|row| row.slot).collect();
    let mut names: HashSet<VolumeName> = rows
        .iter()
        .filter(|row| row.state == State::Live)
        .map(|row| row.name.clone())
        .collect();
    for row in old {
        let gone = matches!(row.state, State::Purging | State::Rmdir);
        if gone || ids.contains(&row.id) {
            continue;
        }
        if !serials.insert(row.serial) || !slots.insert(row.slot) {
            findings.warn(format!(
                "volume {:?} ({}) has no directory, and another has its number; it is forgotten",
                row.name, row.id
            ));
            continue;
        }
        let mut row = row.clone();
        if row.state == State::Live {
            row.name = free_name(&row.name, |name| names.contains(name))?;
            names.insert(row.name.clone());
        }
        row.usage_clean = false;
        rows.push(row);
    }
    rows.sort_by_key(|row| row.serial);
    Ok(())
}
