//! `volfs df`.

use std::ffi::OsString;

use clap::Args;
use comfy_table::Cell;
use nix::sys::statvfs::statvfs;
use serde::Serialize;
use volfs::model::{Bytes, Kind, VolumeName};
use volfs::volume::VolumeInfo;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::open::{Access, open_volumes};
use crate::table::{self, Listing};

/// Arguments of `volfs df`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::DF)]
pub struct DfArgs {
    /// Names of volumes; all when there is none
    #[arg(value_name = "NAME")]
    names: Vec<OsString>,
}

/// The store's file system and what takes space in it.
#[derive(Debug, Serialize)]
struct Df {
    store: Space,
    volumes: Vec<VolumeSpace>,
    trash: TrashSpace,
}

/// The file system that the store lies on.
#[derive(Debug, Serialize)]
struct Space {
    size: Bytes,
    used: Bytes,
    available: Bytes,
}

#[derive(Debug, Serialize)]
struct VolumeSpace {
    name: VolumeName,
    kind: Kind,
    /// Its limit or capacity.
    size: Option<Bytes>,
    used: Bytes,
    /// The smaller of what its limit and the store's file system leave.
    available: Bytes,
    inodes: Option<u64>,
    inodes_used: u64,
}

#[derive(Debug, Serialize)]
struct TrashSpace {
    volumes: usize,
    used: Bytes,
}

impl DfArgs {
    /// Shows the space.
    pub fn run(self, context: &Context) -> Outcome {
        let names = names::volume_names(&self.names)?;
        let volumes = open_volumes(&context.store, Access::Read)?;
        let stat = statvfs(&context.store)
            .map_err(|errno| Failure::io("ask for the space of", &context.store, &errno.into()))?;
        let unit = stat.fragment_size();
        let size = stat.blocks().saturating_mul(unit);
        let store = Space {
            size: Bytes(size),
            used: Bytes(size.saturating_sub(stat.blocks_free().saturating_mul(unit))),
            available: Bytes(stat.blocks_available().saturating_mul(unit)),
        };
        let mut shown = Vec::new();
        let mut failed = false;
        if names.is_empty() {
            shown = volumes.list()?;
        }
        for name in &names {
            match volumes.get(name) {
                Ok(info) => shown.push(info),
                Err(error) => {
                    failed = true;
                    context.output.one_failed(error);
                }
            }
        }
        let trash = volumes.trash()?;
        let df = Df {
            volumes: shown
                .iter()
                .map(|info| VolumeSpace::new(info, store.available))
                .collect(),
            trash: TrashSpace {
                volumes: trash.len(),
                used: Bytes(trash.iter().map(|trashed| trashed.info.used.bytes.0).sum()),
            },
            store,
        };
        if context.output.is_json() {
            context.output.value(&df)?;
        } else {
            context.output.text(df.listing(names.is_empty()));
        }
        if failed {
            return Err(Failure::Reported);
        }
        Ok(())
    }
}

impl VolumeSpace {
    fn new(info: &VolumeInfo, host: Bytes) -> Self {
        let size = info.capacity();
        let left = size.map(|size| Bytes(size.0.saturating_sub(info.used.bytes.0)));
        Self {
            name: info.name.clone(),
            kind: info.kind,
            size,
            used: info.used.bytes,
            available: left.map_or(host, |left| left.min(host)),
            inodes: info.inodes_in_force(),
            inodes_used: info.used.inodes,
        }
    }
}

impl Df {
    fn listing(&self, whole: bool) -> Listing {
        let mut listing = Listing::new(&[
            "*NAME", "?KIND", ">?SIZE", ">USED", ">AVAIL", ">USE%", ">?INODES", ">?IUSED",
        ]);
        let none = || Cell::new("-");
        for volume in &self.volumes {
            listing.row(vec![
                Cell::new(&volume.name),
                Cell::new(volume.kind),
                volume.size.map_or_else(none, Cell::new),
                Cell::new(volume.used),
                Cell::new(volume.available),
                volume
                    .size
                    .map_or_else(none, |size| table::per_cent(volume.used.0, size.0)),
                volume.inodes.map_or_else(none, Cell::new),
                Cell::new(volume.inodes_used),
            ]);
        }
        if whole {
            let number = self.trash.volumes;
            listing.row(vec![
                Cell::new(format!("(trash: {number})")),
                none(),
                none(),
                Cell::new(self.trash.used),
                none(),
                none(),
                none(),
                none(),
            ]);
            listing.row(vec![
                Cell::new("(store)"),
                none(),
                Cell::new(self.store.size),
                Cell::new(self.store.used),
                Cell::new(self.store.available),
                // As df(1): of what those without root can have.
                table::per_cent(
                    self.store.used.0,
                    self.store.used.0.saturating_add(self.store.available.0),
                ),
                none(),
                none(),
            ]);
        }
        listing
    }
}
