//! `volfs image format`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use volfs::diskimg::{
    self, BLOCK_SIZE, InodeDensity, JournalSize, Layout, OptionError, Options, RootDirectory,
    Timestamp, Uuid,
};
use volfs::model::Bytes;

use super::{bytes, failed, image_size, refused};
use crate::context::Context;
use crate::failure::Outcome;
use crate::names::{self, LimitArgument, OwnerArgument};

/// Arguments of `volfs image format`.
#[derive(Debug, Args)]
pub struct FormatArgs {
    /// The image to make
    #[arg(value_parser = names::path())]
    file: PathBuf,
    /// Its size
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = names::size)]
    size: Bytes,
    /// Label of the file system, at most 16 bytes
    #[arg(long, default_value = "", hide_default_value = true)]
    label: String,
    /// UUID of the file system [default: a random one]
    #[arg(long)]
    uuid: Option<Uuid>,
    /// Time of creation in seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS", value_parser = time)]
    created: Option<Timestamp>,
    /// One inode for so many bytes [default: by the size, as mkfs.ext4]
    #[arg(long, value_name = "SIZE", value_parser = names::size, conflicts_with = "inodes_per_group")]
    bytes_per_inode: Option<Bytes>,
    /// So many inodes in each block group
    #[arg(long, value_name = "N")]
    inodes_per_group: Option<u32>,
    /// Percentage of blocks that only root may fill
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    reserved: f64,
    /// Size of the journal, or 'none' [default: by the size, as mkfs.ext4]
    #[arg(long, value_name = "SIZE|none", value_parser = names::size_or_none)]
    journal: Option<LimitArgument<Bytes>>,
    /// Owner of the root directory, by name or number [default: you]
    #[arg(long, value_name = "USER[:GROUP]", value_parser = names::owner)]
    owner: Option<OwnerArgument>,
    /// Permission bits of the root directory, octal [default: 755]
    #[arg(long, value_name = "OCTAL", value_parser = names::mode)]
    mode: Option<u32>,
    /// Make no lost+found
    #[arg(long)]
    no_lost_and_found: bool,
    /// Track usage per user, group and project, for limits that the kernel
    /// enforces
    #[arg(long)]
    quota: bool,
    /// Keep orphans in a file rather than a list (Linux 5.15 and later)
    #[arg(long)]
    orphan_file: bool,
}

impl FormatArgs {
    /// Makes the image.
    pub fn run(self, context: &Context) -> Outcome {
        let options = self.options()?;
        let layout = diskimg::format(&self.file, &options)
            .map_err(|error| failed("image-format", &self.file, error.to_string()))?;
        let made = Made::of(&layout);
        if context.output.is_json() {
            return context.output.value(&made);
        }
        context.output.confirm(format_args!(
            "{}: {} in {} groups, {} and {} inodes free, journal of {}",
            self.file.display(),
            Bytes(made.bytes),
            made.groups,
            Bytes(made.free_bytes),
            made.free_inodes,
            Bytes(made.journal_bytes),
        ));
        if made.dropped_bytes > 0 {
            context.output.confirm(format_args!(
                "{} at the end are too few for a group, and unused",
                Bytes(made.dropped_bytes)
            ));
        }
        Ok(())
    }

    fn options(&self) -> Outcome<Options> {
        let density = match (self.bytes_per_inode, self.inodes_per_group) {
            (Some(Bytes(bytes)), _) => InodeDensity::BytesPerInode(
                u32::try_from(bytes).map_err(|_| refused(OptionError::BytesPerInode { bytes }))?,
            ),
            (None, Some(inodes)) => InodeDensity::PerGroup(inodes),
            (None, None) => InodeDensity::Auto,
        };
        let journal = match self.journal {
            None => JournalSize::Auto,
            Some(LimitArgument(None)) => JournalSize::None,
            Some(LimitArgument(Some(Bytes(bytes)))) => JournalSize::Blocks(bytes / BLOCK_SIZE),
        };
        // A cast from a float to an integer saturates; the library checks the
        // result.
        let reserved = (self.reserved * 100.0).round() as u32;
        let mut options = Options::new(image_size(self.size)?)
            .label(&self.label)
            .and_then(|options| options.inodes(density))
            .and_then(|options| options.reserved_basis_points(reserved))
            .map_err(refused)?
            .lost_and_found(!self.no_lost_and_found)
            .journal(journal)
            .quota(self.quota)
            .orphan_file(self.orphan_file);
        if let Some(owner) = names::owner_and_mode(self.owner, self.mode.or(Some(0o755))) {
            let root = RootDirectory {
                uid: owner.uid,
                gid: owner.gid,
                // names::mode lets no other bits through.
                mode: (owner.mode & 0o7777) as u16,
            };
            options = options.root(root).map_err(refused)?;
        }
        if let Some(uuid) = self.uuid {
            options = options.uuid(uuid);
        }
        if let Some(created) = self.created {
            options = options.created(created);
        }
        Ok(options)
    }
}

/// What was made, for programs.
#[derive(Serialize)]
struct Made {
    bytes: u64,
    dropped_bytes: u64,
    groups: u32,
    inodes: u32,
    free_bytes: u64,
    free_inodes: u32,
    journal_bytes: u64,
    reserved_growth_bytes: u64,
    features: Vec<&'static str>,
}

impl Made {
    fn of(layout: &Layout) -> Self {
        let geometry = layout.geometry();
        Self {
            bytes: bytes(geometry.blocks_count(), BLOCK_SIZE).0,
            dropped_bytes: bytes(layout.dropped_blocks(), BLOCK_SIZE).0,
            groups: geometry.groups_count(),
            inodes: geometry.inodes_count(),
            free_bytes: bytes(layout.free_blocks(), BLOCK_SIZE).0,
            free_inodes: layout.free_inodes(),
            journal_bytes: bytes(layout.journal_blocks(), BLOCK_SIZE).0,
            reserved_growth_bytes: bytes(geometry.reserved_growth_blocks(), BLOCK_SIZE).0,
            features: layout.features().names(),
        }
    }
}

fn time(text: &str) -> Result<Timestamp, String> {
    let seconds = text.parse().ok().and_then(Timestamp::from_seconds);
    seconds.ok_or_else(|| {
        let most = Timestamp::MAX_SECONDS;
        format!("{text:?} is no time that ext4 can store; write 0 to {most} seconds")
    })
}
