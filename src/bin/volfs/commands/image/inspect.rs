//! `volfs image inspect`.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use volfs::diskimg::{self, ImageState, Summary};
use volfs::model::Bytes;
use volfs::sys::named_file;

use super::{bytes, failed};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;

/// Arguments of `volfs image inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The image to look at
    #[arg(value_parser = names::path())]
    file: PathBuf,
}

impl InspectArgs {
    /// Prints what the image is; fails when it is not sound.
    pub fn run(self, context: &Context) -> Outcome {
        let path = &self.file;
        let file = named_file::open_seekable(path).map_err(|error| match error.raw_os_error() {
            Some(_) => Failure::io("open the image", path, &error),
            None => failed(
                "no-image",
                path,
                format!("cannot open the image {}: {error}", path.display()),
            ),
        })?;
        let summary = diskimg::inspect(&file).map_err(|error| {
            failed(
                "image-unreadable",
                path,
                format!("{}: {error}", path.display()),
            )
        })?;
        if context.output.is_json() {
            context.output.value(&summary)?;
        } else {
            context.output.text(text(&summary));
        }
        if summary.is_sound() {
            return Ok(());
        }
        let message = format!("{} is not sound: {}", path.display(), state(&summary));
        Err(failed("image-unsound", path, message))
    }
}

fn state(summary: &Summary) -> &'static str {
    match summary.state {
        ImageState::Clean if summary.damage_count > 0 => "damaged; run e2fsck -fy",
        ImageState::Clean => "clean",
        ImageState::NeedsRecovery => "in use, or needs to be mounted once to replay its journal",
        ImageState::NotUnmounted => "in use, or not unmounted; run e2fsck -fy",
        ImageState::HasErrors => "errors were found in it; run e2fsck -fy",
    }
}

fn text(summary: &Summary) -> String {
    let mut text = String::new();
    let mut line = |head: &str, value: &dyn std::fmt::Display| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{head:<12}{value}");
    };
    let block = u64::from(summary.block_bytes);
    line("State:", &state(summary));
    let blocks = summary.blocks;
    line(
        "Size:",
        &format_args!(
            "{} ({blocks} blocks of {block} bytes)",
            Bytes(summary.bytes)
        ),
    );
    line(
        "File:",
        &format_args!(
            "{} ({} bytes)",
            Bytes(summary.file_bytes),
            summary.file_bytes
        ),
    );
    line("Free:", &bytes(summary.free_blocks, block));
    line(
        "Inodes:",
        &format_args!("{} of {} free", summary.free_inodes, summary.inodes),
    );
    // A label may hold anything, also what a terminal obeys.
    line("Label:", &summary.label.escape_default());
    line("UUID:", &summary.uuid);
    line("Features:", &summary.features.names().join(" "));
    line("Created:", &summary.created);
    match &summary.last_mount {
        Some(mount) => line(
            "Last mount:",
            &format_args!("{} at {}", mount.time, mount.directory.escape_default()),
        ),
        None => line("Last mount:", &"never"),
    }
    for damage in &summary.damage {
        line("Damage:", damage);
    }
    let more = summary
        .damage_count
        .saturating_sub(summary.damage.len() as u64);
    if more > 0 {
        line("Damage:", &format_args!("{more} more"));
    }
    text.truncate(text.trim_end().len());
    text
}
