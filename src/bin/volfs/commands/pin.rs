//! `volfs pin` and `volfs unpin`.

use std::ffi::OsString;

use clap::Args;
use volfs::volume::{Change, Volumes};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::open::{Access, open_volumes};

/// Arguments of `volfs pin` and `volfs unpin`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::PIN)]
pub struct PinArgs {
    /// Names of volumes
    #[arg(required = true, value_name = "NAME")]
    names: Vec<OsString>,
}

impl PinArgs {
    /// Pins the volumes, or unpins them.
    pub fn run(self, context: &Context, pinned: bool) -> Outcome {
        let names = names::volume_names(&self.names)?;
        let change = Change {
            pinned: Some(pinned),
            ..Change::default()
        };
        let volumes = open_volumes(&context.store, Access::Change)?;
        let mut changed = Vec::new();
        for name in &names {
            match Volumes::change(&*volumes, name, &change) {
                Ok(info) => {
                    context.output.confirm(&info.name);
                    changed.push(info);
                }
                Err(error) => context.output.one_failed(error),
            }
        }
        if context.output.is_json() {
            context.output.value(&changed)?;
        }
        if changed.len() < names.len() {
            return Err(Failure::Reported);
        }
        Ok(())
    }
}
