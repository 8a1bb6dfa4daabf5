//! `volfs disk`.

use std::ffi::OsString;

use clap::{Args, Subcommand};
use volfs::volume::CheckHow;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::open::{Access, open_volumes};

/// Arguments of `volfs disk`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::DISK)]
pub struct DiskArgs {
    #[command(subcommand)]
    command: DiskCommand,
}

/// What can be done with a disk volume.
#[derive(Debug, Subcommand)]
enum DiskCommand {
    /// Check the file system in a volume that nobody uses
    Check {
        /// The volume's name
        name: OsString,
        /// Mend what is wrong
        #[arg(long)]
        repair: bool,
    },
    /// Let this machine's kernel mount an image that a guest has written, if
    /// it is found clean
    Trust {
        /// The volume's name
        name: OsString,
    },
}

impl DiskArgs {
    /// Runs the command; fails when the image is not clean in the end.
    pub fn run(self, context: &Context) -> Outcome {
        let (name, how) = match &self.command {
            DiskCommand::Check {
                name,
                repair: false,
            } => (name, CheckHow::Look),
            DiskCommand::Check { name, repair: true } => (name, CheckHow::Mend),
            DiskCommand::Trust { name } => (name, CheckHow::Trust),
        };
        let name = names::volume_name(name)?;
        let found = open_volumes(&context.store, Access::Change)?.check(&name, how)?;
        if context.output.is_json() {
            context.output.value(&found)?;
        } else if !found.clean {
            context.output.text(&found.said);
        }
        if !found.clean {
            let word = name.as_shell_word();
            let advice = match how {
                CheckHow::Look => format!("'volfs disk check --repair {word}' mends what can be"),
                CheckHow::Mend => "what is left is beyond repair; copy what can be read".to_owned(),
                CheckHow::Trust => {
                    format!("it is not trusted; 'volfs disk check --repair {word}' first")
                }
            };
            return Err(Failure::with_detail(
                "image-damaged",
                serde_json::json!({ "name": name }),
                format!("the file system in volume {name:?} has errors: {advice}"),
            ));
        }
        context.output.confirm(match how {
            CheckHow::Trust => format!("{name}: clean, and trusted from now on"),
            _ if found.mended => format!("{name}: mended, and clean now"),
            _ => format!("{name}: clean"),
        });
        Ok(())
    }
}
