//! `volfs prune`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use volfs::model::{Age, Bytes, Timestamp, VolumeName};
use volfs::volume::{Error, Filter, Filters, Holder, Removal, VolumeInfo, Volumes};

use crate::confirm::confirm;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::open::{Access, open_volumes};
use crate::select::FilterArgs;

/// Arguments of `volfs prune`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::PRUNE)]
pub struct PruneArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only volumes that were made at least so long ago, like 12h, 30d or 2w
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<Age>,
    /// Delete at once and for ever, not to the trash
    #[arg(long)]
    purge: bool,
    /// Do not ask before --purge; needed where there is no terminal
    #[arg(short, long)]
    yes: bool,
    /// Change nothing, only tell what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
}

fn age(text: &str) -> Result<Age, String> {
    text.parse()
        .map_err(|error: volfs::model::InvalidAge| error.to_string())
}

/// What became of a volume that the filters let through.
#[derive(Debug, Serialize)]
struct Pruned {
    name: VolumeName,
    used: Bytes,
    #[serde(flatten)]
    fate: Fate,
}

#[derive(Debug, Serialize)]
#[serde(tag = "fate", rename_all = "kebab-case")]
enum Fate {
    Removed,
    WouldBeRemoved,
    /// Pinned, or in use.
    Kept {
        why: String,
    },
}

impl PruneArgs {
    /// Removes the volumes, oldest first.
    pub fn run(self, context: &Context) -> Outcome {
        if self.filter.filters.is_empty() && self.older_than.is_none() {
            return Err(Failure::usage(
                "which volumes? give --filter or --older-than; all of them are --filter 'name=*'",
            ));
        }
        let how = if self.purge {
            Removal::Purge
        } else {
            Removal::Trash
        };
        let mut filters = self.filter.filters;
        filters.extend(
            self.older_than
                .map(|age| Filter::older_than(age, Timestamp::now())),
        );
        Context::leave_directory();
        let access = if self.dry_run {
            Access::Read
        } else {
            Access::Change
        };
        let volumes = open_volumes(&context.store, access)?;
        let selected = Filters::new(filters).select(&*volumes)?;
        if self.purge && !self.dry_run && !selected.is_empty() {
            let used = Bytes(selected.iter().map(|info| info.used.bytes.0).sum());
            let volumes = match selected.len() {
                1 => "1 volume".to_owned(),
                number => format!("{number} volumes"),
            };
            let what = format!("delete {volumes} with {used}, but for those in use or pinned");
            confirm(context.output, self.yes, &what)?;
        }
        let in_use = match self.dry_run {
            true => volumes.all_holders()?,
            false => BTreeMap::new(),
        };
        let mut told = Vec::new();
        let mut failed = false;
        for info in selected.into_iter().rev() {
            let fate = match self.dry_run {
                true => Ok(Some(would_be(&in_use, &info))),
                false => remove(&*volumes, &info.name, how),
            };
            match fate {
                Ok(Some(fate)) => told.push(tell(context, &info, fate)),
                Ok(None) => {}
                Err(error) => {
                    failed = true;
                    context.output.one_failed(error);
                }
            }
        }
        if context.output.is_json() {
            context.output.value(&told)?;
        } else {
            summarise(context, &told, self.dry_run);
        }
        if failed {
            return Err(Failure::Reported);
        }
        Ok(())
    }
}

/// `None` when it was removed by somebody else meanwhile.
fn remove(volumes: &dyn Volumes, name: &VolumeName, how: Removal) -> Result<Option<Fate>, Error> {
    match volumes.remove(name, how) {
        Ok(()) => Ok(Some(Fate::Removed)),
        Err(error @ (Error::Pinned { .. } | Error::InUse { .. })) => Ok(Some(Fate::Kept {
            why: error.to_string(),
        })),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn would_be(in_use: &BTreeMap<VolumeName, Vec<Holder>>, info: &VolumeInfo) -> Fate {
    let name = info.name.clone();
    let refused = match in_use.get(&name).cloned() {
        _ if info.pinned => Some(Error::Pinned { name }),
        Some(holders) => Some(Error::InUse { name, holders }),
        None => None,
    };
    refused.map_or(Fate::WouldBeRemoved, |error| Fate::Kept {
        why: error.to_string(),
    })
}

fn tell(context: &Context, info: &VolumeInfo, fate: Fate) -> Pruned {
    match &fate {
        _ if context.output.is_json() => {}
        Fate::Removed => context.output.confirm(&info.name),
        Fate::WouldBeRemoved => context.output.text(&info.name),
        Fate::Kept { why } => context.output.confirm(format_args!("kept: {why}")),
    }
    Pruned {
        name: info.name.clone(),
        used: info.used.bytes,
        fate,
    }
}

fn summarise(context: &Context, told: &[Pruned], dry_run: bool) {
    let gone: Vec<&Pruned> = told
        .iter()
        .filter(|pruned| !matches!(pruned.fate, Fate::Kept { .. }))
        .collect();
    let volumes = match gone.len() {
        0 => {
            return context.output.confirm(if dry_run {
                "no volume would be removed"
            } else {
                "no volume removed"
            });
        }
        1 => "1 volume".to_owned(),
        number => format!("{number} volumes"),
    };
    let used = Bytes(gone.iter().map(|pruned| pruned.used.0).sum());
    let verb = if dry_run {
        "would be removed"
    } else {
        "removed"
    };
    context
        .output
        .confirm(format_args!("{volumes} with {used} {verb}"));
}
