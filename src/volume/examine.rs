//! Whether the catalogue of a store is sound, whoever has the store.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::error::{Error, Result};
use super::found::Findings;
use super::layout::Layout;
use super::open::{copy_catalogue, follow, scratch};
use super::reconcile::look_only;
use super::store::Store;
use crate::meta::{Catalogue, State};

/// How often a catalogue is copied that a daemon writes to meanwhile, and how
/// long it is left alone in between.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// What [`Store::examine`] has found in a sound catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// How many volumes there are.
    pub volumes: usize,
    /// How many are in the trash.
    pub trashed: usize,
    /// What is amiss nevertheless, a sentence each.
    pub findings: Vec<String>,
}

impl Store {
    /// Reads the whole catalogue of the store in `dir` and checks it, as a
    /// mount does. Takes no lock and changes nothing: it reads a copy, made
    /// between two changes.
    ///
    /// # Errors
    /// [`Error::Catalogue`], [`Error::BadStore`], I/O: a mount would fail so.
    /// [`Error::Locked`]: it was written to all the time.
    pub fn examine(dir: &Path) -> Result<Examined> {
        let layout = Layout::new(dir);
        let mut last = None;
        for _ in 0..TRIES {
            let before = stamps(&layout);
            let examined = examine(&layout);
            if before == stamps(&layout) {
                return examined;
            }
            last = Some(examined);
            std::thread::sleep(PAUSE);
        }
        match last {
            Some(Ok(examined)) => Ok(examined),
            _ => Err(Error::Locked {
                store: dir.to_owned(),
                holder: "a daemon that writes to its catalogue all the time".to_owned(),
            }),
        }
    }
}

fn examine(layout: &Layout) -> Result<Examined> {
    if !Catalogue::exists_as_file(&layout.catalogue()) {
        return Err(Error::BadStore {
            store: layout.root().to_owned(),
            why: "its catalogue meta.db is missing, empty or no file".to_owned(),
        });
    }
    let scratch = scratch()?;
    let mut catalogue = copy_catalogue(layout, scratch.path())?;
    let standing = follow(layout, &mut catalogue)?;
    let rows = catalogue.load()?;
    let count = |wanted| rows.iter().filter(|row| row.state == wanted).count();
    let (volumes, trashed) = (count(State::Live), count(State::Trash));
    let found = look_only(layout, &mut catalogue, standing, Findings::unlogged())?;
    Ok(Examined {
        volumes,
        trashed,
        findings: found.findings,
    })
}

/// What changes with every change of the catalogue.
fn stamps(layout: &Layout) -> [Option<(u64, SystemTime)>; 3] {
    let of = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.len(), found.modified().ok()?))
    };
    let log = layout.root().join("meta.db-wal");
    [of(&layout.catalogue()), of(&log), of(&layout.lineage())]
}
