//! `volfs rm`.

use std::ffi::OsString;

use clap::Args;
use volfs::volume::Removal;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::open::{Access, open_volumes};

/// Arguments of `volfs rm`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::RM)]
pub struct RmArgs {
    /// Names of volumes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<OsString>,
    /// Delete at once and for ever, not to the trash
    #[arg(long)]
    purge: bool,
}

impl RmArgs {
    /// Removes the volumes, one after the other.
    pub fn run(self, context: &Context) -> Outcome {
        let names = names::volume_names(&self.names)?;
        let how = if self.purge {
            Removal::Purge
        } else {
            Removal::Trash
        };
        Context::leave_directory();
        let volumes = open_volumes(&context.store, Access::Change)?;
        let mut removed = Vec::new();
        for name in &names {
            match volumes.remove(name, how) {
                Ok(()) => {
                    context.output.confirm(name);
                    removed.push(serde_json::json!({ "name": name, "removed": how }));
                }
                Err(error) => context.output.one_failed(error),
            }
        }
        if context.output.is_json() {
            context.output.value(&removed)?;
        }
        if removed.len() < names.len() {
            return Err(Failure::Reported);
        }
        Ok(())
    }
}
