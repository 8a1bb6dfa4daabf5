//! `volfs image`: the command line's face of the disk image library. Its
//! commands work on files and know no store.

mod format;
mod grow;
mod inspect;

use clap::{Args, Subcommand};
use volfs::diskimg::{ImageSize, OptionError, SizeError};
use volfs::model::Bytes;

use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Arguments of `volfs image`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::IMAGE)]
pub struct ImageArgs {
    #[command(subcommand)]
    command: ImageCommand,
}

/// What can be done with an image.
#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Make an image; a file that exists is not touched
    Format(format::FormatArgs),
    /// Print what an image is and whether it is sound
    Inspect(inspect::InspectArgs),
    /// Grow an image that nothing uses
    Grow(grow::GrowArgs),
}

impl ImageArgs {
    /// Runs the command.
    pub fn run(self, context: &Context) -> Outcome {
        match self.command {
            ImageCommand::Format(arguments) => arguments.run(context),
            ImageCommand::Inspect(arguments) => arguments.run(context),
            ImageCommand::Grow(arguments) => arguments.run(context),
        }
    }
}

/// A size as it was given, as the library takes it.
fn image_size(size: Bytes) -> Outcome<ImageSize> {
    ImageSize::from_bytes(size.0)
        .map_err(|error: SizeError| Failure::usage(format!("--size: {error}")))
}

/// An option that no image can have: a mistake on the command line.
fn refused(error: OptionError) -> Failure {
    Failure::usage(error.to_string())
}

/// A failure of the library, which says which file it is about.
fn failed(code: &str, path: &std::path::Path, message: String) -> Failure {
    let detail = serde_json::json!({ "path": path.to_string_lossy() });
    Failure::with_detail(code, detail, message)
}

/// Blocks as bytes, for people.
const fn bytes(blocks: u64, block_bytes: u64) -> Bytes {
    Bytes(blocks.saturating_mul(block_bytes))
}
