//! `volfs ls`.

use clap::Args;
use comfy_table::Cell;
use volfs::model::Kind;
use volfs::volume::{DiskState, VolumeInfo};

use crate::context::Context;
use crate::failure::Outcome;
use crate::open::{Access, open_volumes};
use crate::table;

/// Arguments of `volfs ls`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::LS)]
pub struct LsArgs {}

impl LsArgs {
    /// Lists the volumes.
    pub fn run(self, context: &Context) -> Outcome {
        let list = open_volumes(&context.store, Access::Read)?.list()?;
        if context.output.is_json() {
            return context.output.value(&list);
        }
        let mut table = table::table(&[
            "NAME", "KIND", ">USED", ">LIMIT", ">USE%", ">INODES", "CREATED", "*LABELS",
        ]);
        for info in &list {
            table.add_row(table::one_line(row(info)));
        }
        context.output.text(table.trim_fmt());
        Ok(())
    }
}

fn row(info: &VolumeInfo) -> Vec<Cell> {
    let none = || Cell::new("-");
    let mark = if info.used_is_exact { "" } else { "~" };
    let counting = match info.counting {
        Some(found) if !info.used_is_exact => format!(" (counting: {found})"),
        _ => String::new(),
    };
    let limit = match info.kind {
        Kind::Directory => info.limits.bytes,
        Kind::Disk => info.disk.as_ref().map(|disk| disk.size),
    };
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

/// The pin, what is wrong with a disk, and labels, in one column.
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
    pin.into_iter()
        .chain(state)
        .chain(untrusted)
        .chain(labels)
        .collect::<Vec<_>>()
        .join(" ")
}
