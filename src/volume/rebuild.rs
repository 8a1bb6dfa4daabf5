//! Making a lost or damaged catalogue anew from what the volumes say of
//! themselves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::gather::{Gathered, gather};
use super::identity::place_id;
use super::layout::{Layout, Place, sync_dir};
use super::lock::StoreLock;
use super::open::make_places;
use super::settings::{self, Setting};
use super::store::Store;
use crate::meta::{Catalogue, State, VolumeRow};
use crate::model::{NameRule, Timestamp, VolumeName};

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
        let in_volumes = volumes.ids.iter().map(|&id| (Place::Volumes, id));
        let in_trash = trash.ids.difference(&volumes.ids);
        let directories = in_volumes.chain(in_trash.map(|&id| (Place::Trash, id)));
        let Gathered { rows, names } = gather(&layout, directories, &[])?;
        let is_own = |row: &&VolumeRow| !names.iter().any(|it| it.row == row.serial);
        let (live, trashed): (Vec<_>, Vec<_>) =
            rows.iter().partition(|row| row.state == State::Live);
        Ok(Rebuilt {
            volumes: live.into_iter().filter(is_own).count(),
            trashed: trashed.len(),
            renamed: names.into_iter().map(|it| (it.had, it.has)).collect(),
            kept: replace(&layout, &rows)?,
        })
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
    catalogue.follow(&layout.lineage(), &place_id(&layout.place(Place::Volumes)))?;
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
