//! Opening a store: is the directory one, who has it, what does it say.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::error::{Error, Result};
use super::found::Findings;
use super::identity::place_id;
use super::layout::{Layout, Place, sync_dir};
use super::lock::StoreLock;
use super::reconcile::{look_only, reconcile};
use super::reserve::Reserve;
use super::settings;
use super::store::{Store, StoreOptions};
use super::unit;
use crate::meta::{self, Catalogue, Standing};
use crate::sys::named_file;

/// What may be in a directory that becomes a store: what a daemon leaves before
/// the store is made, and what the root of a fresh file system holds.
const HARMLESS: [&str; 8] = [
    "lock",
    "reserve",
    "tmp",
    "trash",
    "volumes",
    "daemon.log",
    "control.sock",
    "lost+found",
];

impl Store {
    /// Opens the store in `dir`, takes its lock, and brings directories and
    /// catalogue into agreement.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::BadStore`], [`Error::Catalogue`], I/O.
    pub fn open(dir: &Path, options: &StoreOptions) -> Result<Self> {
        let dir = find(dir, options)?;
        let layout = Layout::new(&dir);
        if options.read_only {
            return open_read_only(layout);
        }
        check_is_store(&layout, options.create)?;
        let lock = StoreLock::exclusive(layout.root(), &layout.lock())?;
        open_with(layout, lock, Units::Tried)
    }

    /// As [`open`](Self::open), with the lock that an earlier process has left:
    /// `lock` is what [`lock_descriptor`](Self::lock_descriptor) was there.
    ///
    /// # Errors
    /// As [`open`](Self::open), but never [`Error::Locked`].
    pub fn open_inherited(dir: &Path, lock: OwnedFd) -> Result<Self> {
        let dir = find(dir, &StoreOptions::default())?;
        open_with(Layout::new(&dir), StoreLock::inherited(lock), Units::Noted)
    }
}

/// Where the unit of charges comes from.
enum Units {
    /// The place is looked at.
    Tried,
    /// An earlier process has accounts in it, which go on.
    Noted,
}

fn open_with(layout: Layout, lock: StoreLock, units: Units) -> Result<Store> {
    let reserve = Reserve::new(layout.reserve());
    let mut catalogue = open_catalogue(&layout, &reserve)?;
    make_places(&layout)?;
    let standing = follow(&layout, &mut catalogue)?;
    let settings = settings::load(&catalogue)?;
    let unit = match units {
        Units::Tried => unit::settle(&layout, &mut catalogue)?,
        Units::Noted => catalogue.allocation_unit()?,
    };
    let mut found = reconcile(&layout, &mut catalogue, standing, unit)?;
    found.index.set_changed(catalogue.names_changed()?);
    let catalogue = Some((catalogue, reserve));
    Ok(Store::assemble(
        layout,
        catalogue,
        found,
        Some(lock),
        settings,
        unit,
    ))
}

pub(super) fn follow(layout: &Layout, catalogue: &mut Catalogue) -> Result<Standing> {
    let place = place_id(&layout.place(Place::Volumes));
    Ok(catalogue.follow(&layout.lineage(), &place)?)
}

/// The catalogue, with room for what is to come: on a full file system from what
/// was kept back.
fn open_catalogue(layout: &Layout, reserve: &Reserve) -> Result<Catalogue> {
    let open = || {
        check_has_catalogue(layout)?;
        let settings = settings::of_new_store();
        Ok(Catalogue::open_or_make(&layout.catalogue(), &settings)?)
    };
    let catalogue = match open() {
        // SQLite tells of a log that cannot be made as of one that may not be, or of
        // one that cannot be read.
        Err(Error::Io { errno, .. })
            if [libc::ENOSPC, libc::EACCES, libc::EIO].contains(&errno) && reserve.release() =>
        {
            open()?
        }
        opened => opened?,
    };
    let is_full = |error: &meta::Error| matches!(error, meta::Error::System { errno, .. } if *errno == libc::ENOSPC);
    let room = match catalogue.keep_room() {
        Err(error) if is_full(&error) && reserve.release() => catalogue.keep_room(),
        room => room,
    };
    if let Err(error) = room {
        log::warn!("removals may fail while the store's disk is full: no room is kept: {error}");
    }
    Ok(catalogue)
}

/// The store's directory, canonical, made if that is wished.
fn find(dir: &Path, options: &StoreOptions) -> Result<std::path::PathBuf> {
    if options.create && !options.read_only {
        // Others' data will be in it.
        match DirBuilder::new().recursive(true).mode(0o700).create(dir) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(bad(dir, "it is not a directory"));
            }
            Err(e) => return Err(Error::io("create", dir, &e)),
        }
    }
    let found = dir.canonicalize().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => bad(
            dir,
            "it does not exist; name an existing store with --store, or make one with 'volfs create' or 'volfs mount'",
        ),
        _ => Error::io("open", dir, &e),
    })?;
    if found.is_dir() {
        Ok(found)
    } else {
        Err(bad(dir, "it is not a directory"))
    }
}

/// Refuses a directory that holds other things, before anything is written to
/// it.
fn check_is_store(layout: &Layout, create: bool) -> Result<()> {
    let dir = layout.root();
    if layout.catalogue().exists() {
        return Ok(());
    }
    let volumes = layout.list(Place::Volumes)?;
    if volumes.as_ref().is_some_and(|found| !found.ids.is_empty()) {
        return Ok(());
    }
    let mut foreign = None;
    for entry in fs::read_dir(dir).map_err(|e| Error::io("list", dir, &e))? {
        let name = entry.map_err(|e| Error::io("list", dir, &e))?.file_name();
        let ours = HARMLESS.iter().any(|harmless| name == **harmless)
            || name.as_encoded_bytes().starts_with(b"meta.db");
        if !ours {
            foreign = Some(name);
        }
    }
    match foreign {
        Some(name) => Err(bad(
            dir,
            &format!("it is no store and holds {name:?}; choose an empty directory or a new one"),
        )),
        None if create || volumes.is_some() => Ok(()),
        None => Err(bad(
            dir,
            "it is empty; name an existing store with --store, or make one with 'volfs create' or 'volfs mount'",
        )),
    }
}

/// Refuses a store that has lost its catalogue: with a new one all its volumes
/// would be strays.
fn check_has_catalogue(layout: &Layout) -> Result<()> {
    let path = layout.catalogue();
    if Catalogue::exists(&path)? {
        return Ok(());
    }
    let volumes = layout.list(Place::Volumes)?.unwrap_or_default();
    match volumes.ids.len() {
        0 => Ok(()),
        count => Err(bad(
            layout.root(),
            &format!(
                "its catalogue {path:?} is missing or empty, and volumes/ holds {count} volumes; run 'volfs doctor --rebuild-catalogue' to make it anew from them"
            ),
        )),
    }
}

pub(super) fn make_places(layout: &Layout) -> Result<()> {
    let mut made = false;
    for place in Place::ALL {
        let path = layout.place(place);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => made = true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("create", &path, &error)),
        }
    }
    if made {
        sync_dir(layout.root())?;
    }
    spread_volumes(layout);
    Ok(())
}

/// Has ext4 put each volume into a block group of its own. In one group they would
/// meet each other's locks, and without a journal a new file in one volume is
/// looked for among the inodes that were just freed in any (`recently_deleted`,
/// fs/ext4/ialloc.c), which takes milliseconds after 20,000.
fn spread_volumes(layout: &Layout) {
    // Volumes are made here, and moved as they are.
    let path = layout.place(Place::Tmp);
    let spread = fs::File::open(&path).map(crate::sys::ext4::spread_subdirectories);
    if let Ok(Err(errno)) = spread {
        log::debug!("volumes are not spread over {path:?}: {}", errno.desc());
    }
}

fn open_read_only(layout: Layout) -> Result<Store> {
    let lock = StoreLock::shared(layout.root(), &layout.lock())?;
    let scratch = scratch()?;
    // The lock keeps writers away while it is copied.
    let mut catalogue = copy_catalogue(&layout, scratch.path())?;
    let standing = follow(&layout, &mut catalogue)?;
    let mut found = look_only(&layout, &mut catalogue, standing, Findings::default())?;
    found.index.set_changed(catalogue.names_changed()?);
    let settings = settings::load(&catalogue)?;
    let unit = catalogue.allocation_unit()?;
    Ok(Store::assemble(layout, None, found, lock, settings, unit))
}

pub(super) fn scratch() -> Result<tempfile::TempDir> {
    tempfile::tempdir().map_err(|e| Error::io("create", std::env::temp_dir(), &e))
}

/// SQLite writes beside a database even to read it, so whoever only looks gets
/// a copy, in `scratch`.
pub(super) fn copy_catalogue(layout: &Layout, scratch: &Path) -> Result<Catalogue> {
    let path = layout.catalogue();
    let copy = scratch.join("meta.db");
    match copy_file(&path, &copy) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(bad(
                layout.root(),
                "it holds no catalogue (meta.db); name an existing store with --store",
            ));
        }
        Err(error) => return Err(Error::unusable(layout.root(), &path, &error)),
    }
    let log = layout.root().join("meta.db-wal");
    match copy_file(&log, &scratch.join("meta.db-wal")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::unusable(layout.root(), &log, &error));
        }
        _ => {}
    }
    Ok(Catalogue::open_copy(&copy, &path)?)
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = named_file::open(from)?;
    io::copy(&mut from, &mut fs::File::create(to)?).map(drop)
}

fn bad(store: &Path, why: &str) -> Error {
    Error::BadStore {
        store: store.to_owned(),
        why: why.to_owned(),
    }
}
