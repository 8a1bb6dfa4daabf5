//! `volfs image grow`.

use std::path::PathBuf;

use clap::Args;
use volfs::diskimg::{self, BLOCK_SIZE};
use volfs::model::Bytes;

use super::{bytes, failed, image_size};
use crate::context::Context;
use crate::failure::Outcome;
use crate::names;

/// Arguments of `volfs image grow`.
#[derive(Debug, Args)]
pub struct GrowArgs {
    /// The image to grow
    #[arg(value_parser = names::path())]
    file: PathBuf,
    /// Its new size
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = names::size)]
    size: Bytes,
}

impl GrowArgs {
    /// Grows the image.
    pub fn run(self, context: &Context) -> Outcome {
        let path = &self.file;
        let grown = diskimg::grow(path, image_size(self.size)?)
            .map_err(|error| failed("image-grow", path, format!("{}: {error}", path.display())))?;
        if context.output.is_json() {
            return context.output.value(&grown);
        }
        let old = bytes(grown.old_blocks, BLOCK_SIZE);
        let new = bytes(grown.new_blocks, BLOCK_SIZE);
        context
            .output
            .confirm(format_args!("{}: {old} before, {new} now", path.display()));
        if grown.dropped_blocks > 0 {
            let dropped = bytes(grown.dropped_blocks, BLOCK_SIZE);
            context.output.confirm(format_args!(
                "{dropped} at the end are too few for a group, and unused"
            ));
        }
        Ok(())
    }
}
