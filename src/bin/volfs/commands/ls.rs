//! `volfs ls`.

use clap::Args;
use comfy_table::Cell;
use volfs::volume::{DiskState, VolumeInfo};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::fields::SortKey;
use crate::format::{self, Format};
use crate::open::{Access, open_volumes};
use crate::select::FilterArgs;
use crate::table::{self, Listing};

/// Arguments of `volfs ls`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::LS)]
pub struct LsArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Order by one of: name, id, kind, used, limit, percent, inodes,
    /// inode-limit, created, updated, pinned, labels, path, read-only, owner,
    /// label.KEY; with '-'
    /// before it the largest first [default: -created]
    #[arg(short, long, value_name = "FIELD", allow_hyphen_values = true, value_parser = SortKey::parse)]
    sort: Option<SortKey>,
    /// Print as table, json, csv, or by a template like '{{name}} {{used}}',
    /// which takes what --sort takes; sizes are bytes in all but the table
    #[arg(long, value_name = "table|json|csv|TEMPLATE", value_parser = Format::parse)]
    format: Option<Format>,
}

impl LsArgs {
    /// Lists the volumes.
    pub fn run(self, context: &Context) -> Outcome {
        let output = context.output;
        let format = match (self.format, output.is_json()) {
            (Some(Format::Table | Format::Csv | Format::Template(_)), true) => {
                return Err(Failure::usage(
                    "--json and --format ask for different things; leave one out",
                ));
            }
            (_, true) => Format::Json,
            (Some(format), false) => format,
            (None, false) => Format::Table,
        };
        let volumes = open_volumes(&context.store, Access::Read)?;
        let mut list = self.filter.filters().select(&*volumes)?;
        if let Some(key) = &self.sort {
            key.sort(&mut list);
        }
        match format {
            Format::Json => output.value(&list)?,
            Format::Csv => output.raw(format::csv(&list)),
            Format::Template(template) => {
                for info in &list {
                    output.text(template.line(info));
                }
            }
            Format::Table if output.is_quiet() => {
                for info in &list {
                    output.text(&info.name);
                }
            }
            Format::Table => output.text(listing(&list)),
        }
        Ok(())
    }
}

fn listing(list: &[VolumeInfo]) -> Listing {
    let mut listing = Listing::new(&[
        "*NAME", "?KIND", ">USED", ">?LIMIT", ">USE%", ">?INODES", "?CREATED", "*?LABELS",
    ]);
    for info in list {
        listing.row(row(info));
    }
    listing
}

fn row(info: &VolumeInfo) -> Vec<Cell> {
    let none = || Cell::new("-");
    let mark = if info.used_is_exact { "" } else { "~" };
    let counting = match info.counting {
        Some(found) if !info.used_is_exact => format!(" (counting: {found})"),
        _ => String::new(),
    };
    let limit = info.capacity();
    vec![
        Cell::new(&info.name),
        Cell::new(info.kind),
        Cell::new(format!("{mark}{}", info.used.bytes)),
        limit.map_or_else(none, Cell::new),
        limit.map_or_else(none, |limit| table::per_cent(info.used.bytes.0, limit.0)),
        Cell::new(match info.limits.inodes {
            Some(limit) => format!("{mark}{}/{limit}{counting}", info.used.inodes),
            None => format!("{mark}{}{counting}", info.used.inodes),
        }),
        Cell::new(table::time(info.created)),
        Cell::new(labels(info)),
    ]
}

/// The pin, that nobody changes it, what is wrong with a disk, and labels, in one column.
fn labels(info: &VolumeInfo) -> String {
    let pin = info.pinned.then(|| "(pinned)".to_owned());
    let labels = info
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    let disk = info.disk.as_ref();
    let state = disk.and_then(|disk| match disk.state {
        DiskState::Clean | DiskState::InUse => None,
        state => Some(format!("({state})")),
    });
    let untrusted = disk.and_then(|disk| disk.guest_written.then(|| "(untrusted)".to_owned()));
    let read_only = info.read_only.then(|| "(read-only)".to_owned());
    pin.into_iter()
        .chain(read_only)
        .chain(state)
        .chain(untrusted)
        .chain(labels)
        .collect::<Vec<_>>()
        .join(" ")
}
