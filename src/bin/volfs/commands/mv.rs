//! `volfs mv`.

use std::ffi::OsString;

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use crate::open::{Access, open_volumes};

/// Arguments of `volfs mv`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::MV)]
pub struct MvArgs {
    /// The volume's name
    old: OsString,
    /// The name that it shall have
    new: OsString,
}

impl MvArgs {
    /// Renames the volume.
    pub fn run(self, context: &Context) -> Outcome {
        let old = names::volume_name(&self.old)?;
        let new = names::volume_name(&self.new)?;
        let info = open_volumes(&context.store, Access::Change)?.rename(&old, &new)?;
        if context.output.is_json() {
            return context.output.value(&info);
        }
        context.output.confirm(&info.name);
        Ok(())
    }
}
