//! Whether what lies in a volume's place is what the catalogue left there.
//!
//! A row remembers the inode of the volume's root directory or image. One that
//! is still there costs a look at the inode and no more; where another is
//! found, or none is remembered, `volume.json` says whose directory it is. A
//! directory that turns out to be another volume's is moved to where it
//! belongs, so that nobody gets the files of another volume.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};

use super::error::{Error, Result};
use super::found::{Findings, Found};
use super::layout::{DATA, IMAGE, Layout, Place};
use super::manifest::Manifest;
use crate::meta::{Catalogue, ContentsId, Standing, VolumeRow};
use crate::model::VolumeId;

/// What is in a volume's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contents {
    Missing,
    /// Something, on a file system whose inode numbers do not last.
    Unknown,
    Known(ContentsId),
}

/// By what the contents in a volume's own directory will be known again.
pub(super) fn contents_id(home: &Path) -> Option<ContentsId> {
    match Looks::default().home(home) {
        Contents::Known(id) => Some(id),
        Contents::Missing | Contents::Unknown => None,
    }
}

/// By what a directory of the store is known, as text.
pub(super) fn place_id(directory: &Path) -> String {
    match Looks::default().at(directory) {
        Contents::Known(ContentsId { inode, born }) => {
            format!("{inode}.{}", born.unwrap_or_default())
        }
        Contents::Missing | Contents::Unknown => "-".to_owned(),
    }
}

/// Looks at many contents: one system call for each.
#[derive(Default)]
struct Looks {
    // By device, whether its inode numbers last.
    lasting: HashMap<u64, bool>,
}

impl Looks {
    fn home(&mut self, home: &Path) -> Contents {
        match self.at(&home.join(DATA)) {
            Contents::Missing => self.at(&home.join(IMAGE)),
            found => found,
        }
    }

    fn at(&mut self, path: &Path) -> Contents {
        let found = match path.symlink_metadata() {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Contents::Missing,
            Err(_) => return Contents::Unknown,
        };
        // FUSE numbers inodes as it comes to see them.
        let lasts = || !statfs(path).is_ok_and(|fs| fs.filesystem_type() == FUSE_SUPER_MAGIC);
        if !*self.lasting.entry(found.dev()).or_insert_with(lasts) {
            return Contents::Unknown;
        }
        let born = found.created().ok();
        let born = born.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Contents::Known(ContentsId {
            inode: found.ino(),
            born: born.and_then(|since| i64::try_from(since.as_nanos()).ok()),
        })
    }
}

/// Sees to it that every directory is in the place of its own volume, and that
/// nothing is believed of contents that are not those that were left.
pub(super) fn check(
    layout: &Layout,
    catalogue: &mut Catalogue,
    rows: &mut [VolumeRow],
    found: &mut Found,
    standing: Standing,
    findings: &mut Findings,
) -> Result<()> {
    let known: HashMap<VolumeId, Option<ContentsId>> =
        rows.iter().map(|row| (row.id, row.contents)).collect();
    let mut misplaced = Vec::new();
    let mut looks = Looks::default();
    let mut seen = HashMap::new();
    for (place, id) in found.directories() {
        let home = layout.home(place, id);
        let remembered = known.get(&id).copied().flatten();
        let now = looks.home(&home);
        seen.entry(id).or_insert(now);
        if remembered.is_some_and(|then| now == Contents::Known(then)) {
            continue;
        }
        if Manifest::read(&home).is_ok_and(|manifest| manifest.id != id) {
            misplaced.push((place, id));
        }
    }
    if !misplaced.is_empty() {
        for (place, id) in misplaced {
            put_back(layout, place, id, findings)?;
        }
        layout.sync(Place::Volumes)?;
        layout.sync(Place::Trash)?;
        *found = Found::look(layout)?;
        seen.clear();
    }
    if standing == Standing::Foreign {
        // Its rows are replaced, in one step with taking it for current.
        return Ok(());
    }
    let contents = |row: &VolumeRow| {
        let home = layout.home(found.place_of(row.id)?, row.id);
        let now = seen.get(&row.id).copied();
        match now.unwrap_or_else(|| looks.home(&home)) {
            Contents::Known(now) => Some(now),
            Contents::Missing | Contents::Unknown => None,
        }
    };
    remember(catalogue, rows, contents, layout, standing, findings)
}

/// Moves the directory in the place of volume `id` to that of the volume that
/// its `volume.json` names, and what was there to where that belongs. Each step
/// is one rename; cut anywhere, the next start goes on.
fn put_back(layout: &Layout, place: Place, id: VolumeId, findings: &mut Findings) -> Result<()> {
    let here = layout.home(place, id);
    // As many steps as a cycle is long; each brings one directory home.
    loop {
        let owner = match Manifest::read(&here) {
            Ok(manifest) if manifest.id != id => manifest.id,
            // An earlier step has put right this one, too, or taken it away.
            Ok(_) | Err(_) => return Ok(()),
        };
        let there = layout.home(place, owner);
        let away = match place {
            Place::Trash => Place::Volumes,
            Place::Volumes | Place::Tmp => Place::Trash,
        };
        if there.symlink_metadata().is_err() && !is_own(layout, away, owner) {
            layout.move_home((place, id), (place, owner))?;
            findings.warn(format!(
                "the directory {here:?} is that of volume {owner}; it has been moved to {there:?}"
            ));
            return Ok(());
        }
        if !is_own(layout, place, owner) && !is_own(layout, away, owner) {
            exchange(&here, &there)?;
            findings.warn(format!(
                "the directories {here:?} and {there:?} had been exchanged; they have been put back"
            ));
            continue;
        }
        let copy = VolumeId::random();
        layout.move_home((place, id), (Place::Trash, copy))?;
        findings.warn(format!(
            "the directory {here:?} was a copy of that of volume {owner}; it is in the trash as \"orphan-{copy}\" now, and what belongs there is missing"
        ));
        return Ok(());
    }
}

/// Whether a volume's own directory is in its place.
fn is_own(layout: &Layout, place: Place, id: VolumeId) -> bool {
    let home = layout.home(place, id);
    match Manifest::read(&home) {
        Ok(manifest) => manifest.id == id,
        // Nothing says that it is not.
        Err(_) => home.is_dir(),
    }
}

fn exchange(a: &Path, b: &Path) -> Result<()> {
    renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE)
        .map_err(|errno| Error::io("exchange", a, &errno.into()))
}

/// Takes note of the contents that there are now. What was said of others is
/// not believed of these: their usage is counted, and an image that did not
/// come with the whole store is not trusted.
fn remember(
    catalogue: &mut Catalogue,
    rows: &mut [VolumeRow],
    mut contents: impl FnMut(&VolumeRow) -> Option<ContentsId>,
    layout: &Layout,
    standing: Standing,
    findings: &mut Findings,
) -> Result<()> {
    let mut changed = Vec::new();
    let mut replaced = Vec::new();
    for row in rows {
        let Some(now) = contents(row) else {
            continue;
        };
        let then = row.contents.replace(now);
        if then == Some(now) {
            continue;
        }
        if then.is_some() {
            row.usage_clean = false;
            replaced.push(row.name.to_string());
            if standing != Standing::Copied
                && let Some(disk) = &mut row.disk
            {
                disk.guest_written = true;
            }
        }
        changed.push(row.clone());
    }
    if standing == Standing::Copied {
        findings.warn(format!(
            "the store {:?} is a copy, or was restored from one; what its volumes hold is counted again",
            layout.root()
        ));
    } else if !replaced.is_empty() {
        findings.warn(format!(
            "the files of {} are not those that volfs has left there, but copied or restored; what they hold is counted again, and images have to be trusted anew ('volfs disk trust')",
            replaced.join(", ")
        ));
    }
    if changed.is_empty() {
        return Ok(());
    }
    Ok(catalogue.save_contents(&changed)?)
}
