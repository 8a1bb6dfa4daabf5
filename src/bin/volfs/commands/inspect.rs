//! `volfs inspect`.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use volfs::model::Plain;
use volfs::volume::{Holder, VolumeInfo, Volumes};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::open::{Access, mountpoint_of, open_volumes};
use crate::table;

/// Arguments of `volfs inspect`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::INSPECT)]
pub struct InspectArgs {
    /// Names of volumes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<OsString>,
}

/// A volume with what only a running system knows of it.
#[derive(Debug, Serialize)]
struct Inspected {
    #[serde(flatten)]
    info: VolumeInfo,
    /// Its directory under the mountpoint, when the store is mounted.
    mounted_at: Option<PathBuf>,
    holders: Vec<Holder>,
}

impl InspectArgs {
    /// Shows the volumes.
    pub fn run(self, context: &Context) -> Outcome {
        let names = names::volume_names(&self.names)?;
        let volumes = open_volumes(&context.store, Access::Read)?;
        let mountpoint = mountpoint_of(&context.store)?;
        let mut shown = Vec::new();
        for name in &names {
            let inspected = volumes.get(name).and_then(|info| {
                Ok(Inspected {
                    mounted_at: mountpoint.as_ref().map(|at| at.join(name.as_str())),
                    holders: Volumes::holders(&*volumes, name)?,
                    info,
                })
            });
            match inspected {
                Ok(inspected) => shown.push(inspected),
                Err(error) => context.output.one_failed(error),
            }
        }
        if context.output.is_json() {
            context.output.value(&shown)?;
        } else if !shown.is_empty() {
            let texts: Vec<String> = shown.iter().map(text).collect();
            context.output.text(texts.join("\n\n"));
        }
        if shown.len() < names.len() {
            return Err(Failure::Reported);
        }
        Ok(())
    }
}

fn text(inspected: &Inspected) -> String {
    let info = &inspected.info;
    let mut text = String::new();
    let mut line = |head: &str, value: &dyn std::fmt::Display| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{head:<12}{value}");
    };
    line("Name:", &info.name);
    line("Id:", &info.id);
    line("Kind:", &info.kind);
    if let Some(mounted_at) = &inspected.mounted_at {
        line("Mounted at:", &mounted_at.display());
    }
    if info.disk.is_none() {
        line("In store:", &info.path.display());
    }
    if let Some(disk) = &info.disk {
        line("Image:", &disk.path.display());
        line("Size:", &format!("{} ({} bytes)", disk.size, disk.size.0));
        line("State:", &disk.state);
        if disk.guest_written {
            line("Trusted:", &"no, a guest may have written the image");
        }
        line("Format:", &format!("{}, {}", disk.format, disk.fstype));
    }
    let exact = if info.used_is_exact {
        ""
    } else {
        ", being recounted"
    };
    line(
        "Used:",
        &format!(
            "{} ({} bytes), {}{exact}",
            info.used.bytes,
            info.used.bytes.0,
            table::inodes(info.used.inodes)
        ),
    );
    let bytes = info.limits.bytes.map(|b| format!("{b} ({} bytes)", b.0));
    line("Quota:", &bytes.as_deref().unwrap_or("none"));
    let inodes = match (info.limits.inodes, info.inodes_in_force()) {
        (Some(inodes), _) => format!("at most {inodes}"),
        (None, Some(implied)) => format!("at most {implied}, by the quota"),
        (None, None) => "no limit".to_owned(),
    };
    line("Inodes:", &inodes);
    if let Some(owner) = info.owner {
        line("Owner:", &format!("user {owner}"));
    }
    line("Pinned:", &if info.pinned { "yes" } else { "no" });
    if info.read_only {
        line("Read-only:", &"yes");
    }
    if let Some(limit) = info.trash_files {
        line("Removed:", &format!("files are kept, up to {limit}"));
    }
    for (index, (key, value)) in info.labels.iter().enumerate() {
        let head = if index == 0 { "Labels:" } else { "" };
        line(head, &format!("{}={}", Plain(key), Plain(value)));
    }
    line("Created:", &info.created);
    line("Updated:", &info.updated);
    for (index, holder) in inspected.holders.iter().enumerate() {
        line(if index == 0 { "In use by:" } else { "" }, holder);
    }
    text.truncate(text.trim_end().len());
    text
}
