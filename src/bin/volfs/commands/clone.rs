//! `volfs clone`.

use std::ffi::OsString;

use clap::Args;
use volfs::model::{Bytes, Limits};
use volfs::transfer::{CloneOptions, clone};

use crate::context::Context;
use crate::failure::Outcome;
use crate::names::{self, LimitArgument};
use crate::open::{Access, open_volumes};
use crate::processes;
use crate::progress::Progress;

/// Arguments of `volfs clone`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::CLONE)]
pub struct CloneArgs {
    /// The volume
    #[arg(value_name = "SRC")]
    from: OsString,
    /// The name of the new one
    #[arg(value_name = "DST")]
    to: OsString,
    /// The most bytes of the new one, or 'none' [default: as SRC]
    #[arg(long, value_name = "SIZE|none", allow_hyphen_values = true, value_parser = names::size_or_none)]
    quota: Option<LimitArgument<Bytes>>,
    /// The most files and directories of the new one, or 'none' [default: as
    /// SRC]
    #[arg(long, value_name = "N|none", value_parser = names::inodes_or_none)]
    quota_inodes: Option<LimitArgument<u64>>,
    /// A label besides those of SRC; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = names::label)]
    labels: Vec<(String, String)>,
}

impl CloneArgs {
    /// Makes the new volume.
    pub fn run(self, context: &Context) -> Outcome {
        let (from, to) = (
            names::volume_name(&self.from)?,
            names::volume_name(&self.to)?,
        );
        let volumes = open_volumes(&context.store, Access::Change)?;
        processes::watch_daemon(&context.store);
        let info = volumes.get(&from)?;
        let mut options = CloneOptions {
            limits: None,
            labels: self.labels,
        };
        if self.quota.is_some() || self.quota_inodes.is_some() {
            options.limits = Some(Limits {
                bytes: self.quota.map_or(info.limits.bytes, |it| it.0),
                inodes: self.quota_inodes.map_or(info.limits.inodes, |it| it.0),
            });
        }
        let total = info.disk.map_or(info.used.bytes, |disk| disk.size);
        let bar = Progress::bytes(context.output, from.as_str(), Some(total.0));
        let cloned = clone(&*volumes, &from, &to, &options, &bar);
        bar.end();
        let cloned = cloned?;
        if context.output.is_json() {
            return context.output.value(&serde_json::json!({
                "volume": cloned.info,
                "shared": cloned.shared,
            }));
        }
        context.output.confirm(&cloned.info.name);
        Ok(())
    }
}
