//! Bringing directories and catalogue into agreement when a store is opened.
//!
//! One rule: every directory is moved to where its row says. What a crash cut
//! is finished by that, in the direction in which the row was committed.
//! Nothing that has no row is deleted, except what was being built in `tmp/`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::delete::Steps;
use super::error::{Error, Result};
use super::in_memory::Volume;
use super::index::Index;
use super::layout::{Layout, Listing, Place};
use super::manifest::Manifest;
use super::purge::Doomed;
use super::staging;
use super::trash::{Emptied, rmdir_contents};
use crate::failpoint;
use crate::meta::{Catalogue, DiskRow, State, VolumeRow};
use crate::model::{Kind, Labels, Limits, Serial, Slot, Timestamp, Usage, VolumeId, VolumeName};

/// How long the start of a store deletes what a crash has left. What is not
/// deleted by then is deleted beside everything else.
const PATIENCE: Duration = Duration::from_millis(100);

/// Deletes for a while at the start.
struct Sweep<'a> {
    layout: &'a Layout,
    until: Instant,
    left: Vec<Doomed>,
}

impl Sweep<'_> {
    /// Whether it is deleted.
    fn delete(&mut self, doomed: Doomed) -> bool {
        let deleted = AtomicU64::new(0);
        let steps = Steps {
            deleted: &deleted,
            stop: &|| Instant::now() > self.until,
        };
        match doomed.delete(self.layout, &steps) {
            Ok(true) => true,
            Ok(false) => {
                self.left.push(doomed);
                false
            }
            Err(error) => {
                // The volumes that are there must not suffer for it.
                log::error!(
                    "the removal of volume {} cannot be finished: {error}",
                    doomed.id
                );
                false
            }
        }
    }
}

/// Makes catalogue and directories agree and returns the index, and what is to
/// be deleted still.
pub(super) fn reconcile(
    layout: &Layout,
    catalogue: &mut Catalogue,
) -> Result<(Index, Vec<Doomed>)> {
    let rows = catalogue.load()?;
    let last = catalogue.last_serial()?;
    let found = Found::look(layout)?;
    found.report_foreign(layout);
    let mut sweep = Sweep {
        layout,
        until: Instant::now() + PATIENCE,
        left: Vec::new(),
    };
    for &id in &found.tmp.ids {
        // Who imports a volume goes on while the daemon is started again.
        let Some(doomed) = staging::abandoned(layout, id, Duration::ZERO) else {
            continue;
        };
        log::info!(
            "volume {id} was being made when the store was last in use; its parts are deleted"
        );
        if sweep.delete(doomed) {
            failpoint::hit("start.cleared");
        }
    }
    let mut index = Index::new(last);
    let mut cut = Vec::new();
    let mut stale = Vec::new();
    let known: HashMap<VolumeId, State> = rows.iter().map(|row| (row.id, row.state)).collect();
    for row in rows {
        put_in_place(layout, &found, &row)?;
        match row.state {
            State::Live | State::Trash => {}
            State::Purging | State::Rmdir => cut.push(row.clone()),
        }
        if !row.manifest_current {
            stale.push(row.clone());
        }
        index.load(Volume::new(row));
    }
    finish_removals(&mut sweep, catalogue, &mut index, &cut)?;
    index.set_finished(cut.iter().map(|row| row.name.clone()).collect());
    renew_manifests(layout, catalogue, &stale);
    adopt_orphans(layout, catalogue, &found, &known, &mut index)?;
    Ok((index, sweep.left))
}

/// The index of a store that must not be changed; what is amiss is only said.
pub(super) fn look_only(layout: &Layout, catalogue: &Catalogue) -> Result<Index> {
    let found = Found::look(layout)?;
    let mut index = Index::new(catalogue.last_serial()?);
    for row in catalogue.load()? {
        if row.state == State::Live && !found.volumes.ids.contains(&row.id) {
            say_missing(layout, &row);
        }
        index.load(Volume::new(row));
    }
    Ok(index)
}

struct Found {
    volumes: Listing,
    trash: Listing,
    tmp: Listing,
}

impl Found {
    // One listing of each directory, whatever the number of volumes.
    fn look(layout: &Layout) -> Result<Self> {
        let list = |place| Ok::<_, Error>(layout.list(place)?.unwrap_or_default());
        Ok(Self {
            volumes: list(Place::Volumes)?,
            trash: list(Place::Trash)?,
            tmp: list(Place::Tmp)?,
        })
    }

    fn report_foreign(&self, layout: &Layout) {
        let say = |place, names: &[OsString]| {
            for name in names.iter().filter(|name| *name != "lost+found") {
                let path = layout.place(place).join(name);
                log::warn!("{path:?} is not a volume's directory; it is left alone");
            }
        };
        say(Place::Volumes, &self.volumes.foreign);
        say(Place::Trash, &self.trash.foreign);
        say(Place::Tmp, &self.tmp.foreign);
    }
}

fn put_in_place(layout: &Layout, found: &Found, row: &VolumeRow) -> Result<()> {
    let (right, wrong, here, there) = match row.state {
        State::Live => (Place::Volumes, Place::Trash, &found.volumes, &found.trash),
        State::Trash | State::Purging | State::Rmdir => {
            (Place::Trash, Place::Volumes, &found.trash, &found.volumes)
        }
    };
    match (here.ids.contains(&row.id), there.ids.contains(&row.id)) {
        (true, false) => {}
        (true, true) => log::warn!(
            "volume {:?} has a second directory {:?}; it is left alone",
            row.name,
            layout.home(wrong, row.id)
        ),
        (false, true) => {
            let home = layout.home(right, row.id);
            log::info!(
                "volume {:?}: an interrupted move to {home:?} is finished",
                row.name
            );
            layout.relocate(row.id, wrong, right)?;
            failpoint::hit("start.moved");
        }
        (false, false) => match row.state {
            State::Live | State::Trash => say_missing(layout, row),
            // Deleted already.
            State::Purging | State::Rmdir => {}
        },
    }
    Ok(())
}

fn say_missing(layout: &Layout, row: &VolumeRow) {
    let place = match row.state {
        State::Live => Place::Volumes,
        State::Trash | State::Purging | State::Rmdir => Place::Trash,
    };
    log::error!(
        "the files of volume {:?} are missing: {:?} is not there; restore that directory, or give the volume up",
        row.name,
        layout.home(place, row.id)
    );
}

fn finish_removals(
    sweep: &mut Sweep<'_>,
    catalogue: &mut Catalogue,
    index: &mut Index,
    cut: &[VolumeRow],
) -> Result<()> {
    let mut gone = Vec::new();
    for row in cut {
        let emptied = match row.state {
            State::Rmdir => rmdir_contents(sweep.layout, row.id)?,
            State::Live | State::Trash | State::Purging => Emptied::Yes,
        };
        if emptied == Emptied::HoldsFiles {
            log::warn!(
                "volume {:?} got files while it was removed as empty; it is in the trash",
                row.name
            );
            catalogue.set_state(&[row.serial], State::Trash, None, Timestamp::now())?;
            continue;
        }
        let doomed = Doomed {
            id: row.id,
            name: Some(row.name.clone()),
            row: Some((row.serial, row.slot)),
            // Nobody knows how much of it is gone already.
            total: None,
            _lock: None,
        };
        if sweep.delete(doomed) {
            failpoint::hit("start.deleted");
            gone.push(row.serial);
        }
    }
    if cut.is_empty() {
        return Ok(());
    }
    sweep.layout.sync(Place::Volumes)?;
    sweep.layout.sync(Place::Trash)?;
    catalogue.forget(&gone)?;
    // Read again: rows have gone, and may have come to the trash.
    let mut again = Index::new(catalogue.last_serial()?);
    for row in catalogue.load()? {
        again.load(Volume::new(row));
    }
    *index = again;
    Ok(())
}

/// Writes the `volume.json` files anew that may differ from their rows.
fn renew_manifests(layout: &Layout, catalogue: &mut Catalogue, stale: &[VolumeRow]) {
    let mut current = Vec::new();
    for row in stale {
        match compare_manifest(layout, row) {
            Ok(_) => current.push(row.serial),
            // A volume whose files are missing; that has been said.
            Err(Error::Io { errno, .. }) if errno == libc::ENOENT => {}
            Err(error) => log::warn!("volume {:?}: {error}", row.name),
        }
    }
    if !current.is_empty()
        && let Err(error) = catalogue.manifests_are_current(&current)
    {
        // They are compared again at the next start, and that is all.
        log::warn!("{error}");
    }
}

/// Compares a volume's `volume.json` with its row, and writes it anew if it
/// differs or is not there. Says whether it had to.
pub(super) fn compare_manifest(layout: &Layout, row: &VolumeRow) -> Result<bool> {
    let place = match row.state {
        State::Live => Place::Volumes,
        State::Trash => Place::Trash,
        State::Purging | State::Rmdir => return Ok(false),
    };
    let home = layout.home(place, row.id);
    let wanted = Manifest::of(row);
    if Manifest::read(&home).is_ok_and(|found| found == wanted) {
        return Ok(false);
    }
    wanted.replace(&home)?;
    log::info!("{home:?}: volume.json has been written anew from the catalogue");
    Ok(true)
}

/// Directories without a row get one, in the trash: whoever they belong to can
/// look and restore them.
fn adopt_orphans(
    layout: &Layout,
    catalogue: &mut Catalogue,
    found: &Found,
    known: &HashMap<VolumeId, State>,
    index: &mut Index,
) -> Result<()> {
    let strays = |listing: &Listing| -> Vec<VolumeId> {
        let mut ids: Vec<_> = listing.ids.iter().copied().collect();
        ids.retain(|id| !known.contains_key(id));
        ids.sort_unstable();
        ids
    };
    let mut rows = Vec::new();
    let (in_volumes, in_trash) = (strays(&found.volumes), strays(&found.trash));
    for &id in in_trash
        .iter()
        .chain(in_volumes.iter().filter(|id| !in_trash.contains(id)))
    {
        let place = if in_trash.contains(&id) {
            Place::Trash
        } else {
            Place::Volumes
        };
        let Some(claim) = index.claim_place() else {
            log::error!("no slot is left for the directory of {id}; it is left where it is");
            continue;
        };
        let row = orphan_row(layout, place, id, claim)?;
        log::warn!(
            "{:?} has no entry in the catalogue; it is in the trash as {:?} now",
            layout.home(place, id),
            row.name
        );
        rows.push(row);
    }
    if rows.is_empty() {
        return Ok(());
    }
    // The rows first: a crash from here on is finished by the one rule.
    catalogue.insert(&rows)?;
    failpoint::hit("start.adopted");
    for row in rows {
        if !found.trash.ids.contains(&row.id) {
            layout.relocate(row.id, Place::Volumes, Place::Trash)?;
        }
        index.load(Volume::new(row));
    }
    Ok(())
}

fn orphan_row(
    layout: &Layout,
    place: Place,
    id: VolumeId,
    (serial, slot): (Serial, Slot),
) -> Result<VolumeRow> {
    let manifest = Manifest::read(&layout.home(place, id))
        .ok()
        .filter(|manifest| manifest.id == id);
    let now = Timestamp::now();
    let text = format!("orphan-{id}");
    let name: VolumeName = text.parse()?;
    Ok(VolumeRow {
        serial,
        id,
        slot,
        name,
        kind: manifest.as_ref().map_or(Kind::Directory, |m| m.kind),
        state: State::Trash,
        limits: manifest.as_ref().map_or(Limits::default(), |m| m.limits),
        disk: manifest
            .as_ref()
            .and_then(|m| m.disk.as_ref())
            .map(|disk| DiskRow {
                size: disk.size,
                format: disk.format,
                fstype: disk.fstype,
                // Nobody knows where it has been.
                guest_written: true,
            }),
        labels: manifest
            .as_ref()
            .map_or(Labels::default(), |m| m.labels.clone()),
        pinned: false,
        read_only: manifest.as_ref().is_some_and(|m| m.read_only),
        trash_files: manifest.as_ref().and_then(|m| m.trash_files),
        orphan: true,
        created: manifest.as_ref().map_or(now, |m| m.created),
        updated: now,
        trashed: Some(now),
        used: Usage::default(),
        usage_clean: false,
        manifest_current: false,
        owner: manifest.as_ref().and_then(|m| m.owner),
    })
}
