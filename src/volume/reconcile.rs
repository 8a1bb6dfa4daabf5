//! Bringing directories and catalogue into agreement when a store is opened.
//!
//! One rule: every directory is moved to where its row says. What a crash cut
//! is finished by that, in the direction in which the row was committed.
//! Nothing that has no row is deleted, except what was being built in `tmp/`:
//! it becomes a volume again, or stays in the trash (`adopt.rs`). The rule holds
//! for the catalogue that the store was last used with, and for directories that
//! are their volumes' own: that is seen to first (`distrust.rs`, `identity.rs`).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::adopt::adopt;
use super::delete::Steps;
use super::distrust;
use super::error::{Error, Result};
use super::found::{Findings, Found};
use super::identity;
use super::in_memory::Volume;
use super::index::Index;
use super::layout::{Layout, Place};
use super::manifest::Manifest;
use super::purge::Doomed;
use super::staging;
use super::trash::{Emptied, rmdir_contents};
use crate::failpoint;
use crate::meta::{Catalogue, Standing, State, VolumeRow};
use crate::model::{AllocationUnit, Serial, Timestamp, VolumeId};

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
            salvage: &|_, _| false,
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

/// What the start of a store comes to.
pub(super) struct Reconciled {
    pub index: Index,
    /// What is to be deleted still.
    pub doomed: Vec<Doomed>,
    /// What whoever starts it has to know, a sentence each.
    pub findings: Vec<String>,
}

/// Makes catalogue and directories agree.
pub(super) fn reconcile(
    layout: &Layout,
    catalogue: &mut Catalogue,
    standing: Standing,
    unit: AllocationUnit,
) -> Result<Reconciled> {
    let mut rows = catalogue.load()?;
    let mut findings = Findings::default();
    let mut found = Found::look(layout)?;
    found.report_foreign(layout);
    identity::check(
        layout,
        catalogue,
        &mut rows,
        &mut found,
        standing,
        &mut findings,
    )?;
    if standing == Standing::Foreign {
        rows = distrust::renew(layout, catalogue, rows, &found, &mut findings)?;
    }
    let last = catalogue.last_serial()?;
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
    let known: HashMap<VolumeId, Serial> = rows.iter().map(|row| (row.id, row.serial)).collect();
    for row in rows {
        put_in_place(layout, &found, &row, &mut findings)?;
        match row.state {
            State::Live | State::Trash => {}
            State::Purging | State::Rmdir => cut.push(row.clone()),
        }
        if !row.manifest_current {
            stale.push(row.clone());
        }
        index.load(Volume::new(row, unit));
    }
    finish_removals(&mut sweep, catalogue, &mut index, &cut, unit)?;
    index.set_finished(cut.iter().map(|row| row.name.clone()).collect());
    renew_manifests(layout, catalogue, &stale);
    adopt(
        layout,
        catalogue,
        &found,
        &known,
        &mut index,
        &mut findings,
        unit,
    )?;
    Ok(Reconciled {
        index,
        doomed: sweep.left,
        findings: findings.into_vec(),
    })
}

/// The index of a store that must not be changed; what is amiss is only said.
pub(super) fn look_only(
    layout: &Layout,
    catalogue: &mut Catalogue,
    standing: Standing,
    mut findings: Findings,
) -> Result<Reconciled> {
    let unit = catalogue.allocation_unit()?;
    let found = Found::look(layout)?;
    let mut index = Index::new(catalogue.last_serial()?);
    let rows = catalogue.load()?;
    if standing == Standing::Foreign {
        findings.warn(format!(
            "the catalogue {:?} is not the one that this store was last used with, but an older one or another's; the next start that may change the store learns from the volumes themselves what they are",
            catalogue.path()
        ));
    }
    let known: HashSet<VolumeId> = rows.iter().map(|row| row.id).collect();
    for (place, id) in found.directories() {
        if !known.contains(&id) {
            findings.warn(format!(
                "the catalogue does not know {:?}; the next start that may change the store takes it in",
                layout.home(place, id)
            ));
        }
    }
    for row in rows {
        if row.state == State::Live && !found.volumes.ids.contains(&row.id) {
            findings.warn(missing(layout, &row));
        }
        index.load(Volume::new(row, unit));
    }
    Ok(Reconciled {
        index,
        doomed: Vec::new(),
        findings: findings.into_vec(),
    })
}

fn put_in_place(
    layout: &Layout,
    found: &Found,
    row: &VolumeRow,
    findings: &mut Findings,
) -> Result<()> {
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
            State::Live | State::Trash => findings.warn(missing(layout, row)),
            // Deleted already.
            State::Purging | State::Rmdir => {}
        },
    }
    Ok(())
}

fn missing(layout: &Layout, row: &VolumeRow) -> String {
    let place = match row.state {
        State::Live => Place::Volumes,
        State::Trash | State::Purging | State::Rmdir => Place::Trash,
    };
    format!(
        "the files of volume {:?} are missing: {:?} is not there; restore that directory, or give the volume up",
        row.name,
        layout.home(place, row.id)
    )
}

fn finish_removals(
    sweep: &mut Sweep<'_>,
    catalogue: &mut Catalogue,
    index: &mut Index,
    cut: &[VolumeRow],
    unit: AllocationUnit,
) -> Result<()> {
    let mut gone = Vec::new();
    for row in cut {
        let emptied = match row.state {
            State::Rmdir => rmdir_contents(sweep.layout, Place::Trash, row.id)?,
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
        again.load(Volume::new(row, unit));
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
        // What an orphan says of itself is all that is known of it.
        State::Trash if row.orphan => return Ok(false),
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
