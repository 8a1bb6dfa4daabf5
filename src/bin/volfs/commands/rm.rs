//! `volfs rm`.

use std::collections::HashSet;
use std::ffi::OsString;

use clap::Args;
use serde::Serialize;
use volfs::model::VolumeName;
use volfs::volume::{Error, Removal, Volumes};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::open::{Access, open_volumes};
use crate::progress::Interrupt;
use crate::purging;

/// Arguments of `volfs rm`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::RM)]
pub struct RmArgs {
    /// Names of volumes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<OsString>,
    /// Delete for ever, not to the trash
    #[arg(long)]
    purge: bool,
    /// With --purge, return when all is deleted, and show how far it is;
    /// without a daemon it is always so
    #[arg(long, requires = "purge")]
    wait: bool,
    /// First detach bind mounts of the volume that nobody uses; whoever else
    /// uses the volume still keeps it
    #[arg(short, long)]
    force: bool,
}

/// A volume that was removed.
#[derive(Debug, Serialize)]
struct Removed<'a> {
    name: &'a VolumeName,
    removed: Removal,
    /// Where it was bind-mounted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    detached: Vec<String>,
}

impl RmArgs {
    /// Removes the volumes, one after the other.
    pub fn run(self, context: &Context) -> Outcome {
        let names = names::volume_names(&self.names)?;
        Context::leave_directory();
        let volumes = open_volumes(&context.store, Access::Change)?;
        let mut removed = Vec::new();
        let mut purged = HashSet::new();
        let waits = self.purge && (self.wait || volumes.mountpoint()?.is_none());
        // From before anything is deleted: what is deleted goes on in the background.
        let interrupt = waits.then(Interrupt::caught);
        for name in &names {
            if interrupt.as_ref().is_some_and(Interrupt::is_stopped) {
                let message = format!("interrupted; volume \"{name}\" is not removed");
                context
                    .output
                    .one_failed(Failure::new("interrupted", message));
                continue;
            }
            match self.remove(&*volumes, name) {
                Ok((one, id)) => {
                    for place in &one.detached {
                        context
                            .output
                            .confirm(format_args!("{name}: detached the bind mount on {place}"));
                    }
                    context.output.confirm(name);
                    removed.push(one);
                    purged.insert(id);
                }
                Err(failure) => context.output.one_failed(failure),
            }
        }
        if let Some(interrupt) = interrupt {
            purging::wait_for(context, &*volumes, &purged, interrupt)?;
        }
        if context.output.is_json() {
            context.output.value(&removed)?;
        }
        if removed.len() < names.len() {
            return Err(Failure::Reported);
        }
        Ok(())
    }

    fn remove<'a>(
        &self,
        volumes: &dyn Volumes,
        name: &'a VolumeName,
    ) -> Outcome<(Removed<'a>, volfs::model::VolumeId)> {
        let how = if self.purge {
            Removal::Purge
        } else {
            Removal::Trash
        };
        let info = volumes.get(name)?;
        let mut detached = Vec::new();
        if self.force {
            if info.pinned {
                let name = name.clone();
                return Err(Error::Pinned { name }.into());
            }
            detached = volumes.detach(name).map_err(limits_of_force)?;
        }
        volumes.remove(name, how)?;
        let removed = Removed {
            name,
            removed: how,
            detached,
        };
        Ok((removed, info.id))
    }
}

/// What could be expected of `--force`, and is not done.
fn limits_of_force(error: Error) -> Failure {
    let in_use = matches!(error, Error::InUse { .. });
    match Failure::from(error) {
        Failure::Told(mut report) if in_use => {
            report.message += "; --force detaches bind mounts that nobody uses, where the daemon runs, and nothing was detached: end these first";
            Failure::Told(report)
        }
        failure => failure,
    }
}
