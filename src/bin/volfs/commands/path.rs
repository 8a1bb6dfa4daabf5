//! `volfs path`.

use std::ffi::OsString;

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::names;
use crate::open::{Access, mountpoint_of, open_volumes};

/// Arguments of `volfs path`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::PATH)]
pub struct PathArgs {
    /// The volume's name
    name: OsString,
}

impl PathArgs {
    /// Prints the volume's directory.
    pub fn run(self, context: &Context) -> Outcome {
        let name = names::volume_name(&self.name)?;
        let info = open_volumes(&context.store, Access::Read)?.get(&name)?;
        let mounted_at = mountpoint_of(&context.store)?.map(|at| at.join(name.as_str()));
        let mounted = mounted_at.is_some();
        let path = mounted_at.unwrap_or(info.path);
        if context.output.is_json() {
            return context.output.value(&serde_json::json!({
                "name": name, "path": path, "mounted": mounted,
            }));
        }
        context.output.text(path.display());
        Ok(())
    }
}
