//! What the start of a store finds: the directories that there are, and what
//! has to be told to whoever started it.

use std::ffi::OsString;

use super::error::{Error, Result};
use super::layout::{Layout, Listing, Place};
use crate::model::VolumeId;

/// The directories of a store.
pub(super) struct Found {
    pub volumes: Listing,
    pub trash: Listing,
    pub tmp: Listing,
}

impl Found {
    // One listing of each directory, whatever the number of volumes.
    pub(super) fn look(layout: &Layout) -> Result<Self> {
        let list = |place| Ok::<_, Error>(layout.list(place)?.unwrap_or_default());
        Ok(Self {
            volumes: list(Place::Volumes)?,
            trash: list(Place::Trash)?,
            tmp: list(Place::Tmp)?,
        })
    }

    pub(super) fn report_foreign(&self, layout: &Layout) {
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

    /// Where the directory of a volume is; `volumes/` if it has two.
    pub(super) fn place_of(&self, id: VolumeId) -> Option<Place> {
        match (self.volumes.ids.contains(&id), self.trash.ids.contains(&id)) {
            (true, _) => Some(Place::Volumes),
            (false, true) => Some(Place::Trash),
            (false, false) => None,
        }
    }

    /// The directories in `volumes/` and `trash/`, in order.
    pub(super) fn directories(&self) -> Vec<(Place, VolumeId)> {
        let sorted = |place, listing: &Listing| {
            let mut ids: Vec<_> = listing.ids.iter().map(|&id| (place, id)).collect();
            ids.sort_unstable_by_key(|&(_, id)| id);
            ids
        };
        let mut all = sorted(Place::Volumes, &self.volumes);
        all.extend(sorted(Place::Trash, &self.trash));
        all
    }
}

/// What whoever starts a store has to know of it: the log has it too, but a
/// daemon's log is read when something is missed already.
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: Vec<String>,
    unlogged: bool,
}

impl Findings {
    /// For whoever shows them itself.
    pub(super) fn unlogged() -> Self {
        Self {
            unlogged: true,
            ..Self::default()
        }
    }

    pub(super) fn warn(&mut self, what: String) {
        if !self.unlogged {
            log::warn!("{what}");
        }
        self.found.push(what);
    }

    pub(super) fn into_vec(self) -> Vec<String> {
        self.found
    }
}
