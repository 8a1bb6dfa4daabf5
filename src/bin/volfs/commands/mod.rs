//! The commands, one module each.

pub mod clone;
pub mod completions;
pub mod config;
pub mod create;
pub mod df;
pub mod disk;
pub mod doctor;
pub mod events;
pub mod export;
pub mod image;
pub mod import;
pub mod inspect;
pub mod ls;
pub mod metrics;
pub mod mount;
pub mod mv;
pub mod path;
pub mod pin;
pub mod prune;
pub mod rm;
pub mod set;
pub mod stats;
pub mod top;
pub mod trash;
pub mod umount;
pub mod upgrade;
pub mod verify;

use std::ffi::OsString;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::Outcome;
use crate::logging::Who;
use crate::serve::role::Role;

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mount the store: every volume becomes a directory
    Mount(mount::MountArgs),
    /// Unmount, and wait for the daemon to end
    #[command(visible_alias = "unmount")]
    Umount(umount::UmountArgs),
    /// Have the program that is installed now serve the mount
    Upgrade(upgrade::UpgradeArgs),
    /// Make volumes
    Create(create::CreateArgs),
    /// List volumes, newest first
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
    /// Show all there is to know of volumes, and who uses them
    Inspect(inspect::InspectArgs),
    /// Remove volumes: to the trash, or for ever
    #[command(visible_alias = "remove")]
    Rm(rm::RmArgs),
    /// Remove all volumes that filters let through and nobody uses
    Prune(prune::PruneArgs),
    /// Rename a volume
    #[command(visible_alias = "rename")]
    Mv(mv::MvArgs),
    /// Print the directory of a volume
    Path(path::PathArgs),
    /// Change a volume's limits, labels and pin
    Set(set::SetArgs),
    /// Protect volumes from removal
    Pin(pin::PinArgs),
    /// Let volumes be removed again
    Unpin(pin::PinArgs),
    /// Make a second volume with the same contents
    Clone(clone::CloneArgs),
    /// Write a volume to a tar archive
    Export(export::ExportArgs),
    /// Make a volume of a tar archive
    Import(import::ImportArgs),
    /// Show and change what is set for the store as a whole
    Config(config::ConfigArgs),
    /// Show what the kernel has asked of the daemon, by operation
    Stats(stats::StatsArgs),
    /// Print the daemon's figures for Prometheus, or serve them
    Metrics(metrics::MetricsArgs),
    /// Show the space that volumes take and have left
    Df(df::DfArgs),
    /// Show what goes on in each volume, over and over
    Top(top::TopArgs),
    /// List, restore or delete removed volumes
    Trash(trash::TrashArgs),
    /// Show which volumes have come near their limits, oldest first
    Events(events::EventsArgs),
    /// Check disk volumes, and trust what a guest has written
    Disk(disk::DiskArgs),
    /// Compare what volumes are charged with what they hold
    Verify(verify::VerifyArgs),
    /// Make, inspect and grow ext4 disk images
    Image(image::ImageArgs),
    /// Check what this machine and this store can do
    Doctor(doctor::DoctorArgs),
    /// Print completions for a shell
    Completions(completions::CompletionsArgs),
    /// Write the man pages
    Man(completions::ManArgs),
}

impl Command {
    /// How this process logs.
    pub fn logs_as(&self, role: &Role) -> Who {
        match self {
            Self::Mount(arguments) => arguments.logs_as(role),
            _ => Who::Command,
        }
    }

    /// Runs it. `argv` and `role` are for `mount`, which starts itself again
    /// in the background.
    pub fn run(self, context: &Context, argv: &[OsString], role: Role) -> Outcome {
        match self {
            Self::Mount(arguments) => arguments.run(context, argv, role),
            Self::Umount(arguments) => arguments.run(context),
            Self::Upgrade(arguments) => arguments.run(context),
            Self::Create(arguments) => arguments.run(context),
            Self::Ls(arguments) => arguments.run(context),
            Self::Inspect(arguments) => arguments.run(context),
            Self::Rm(arguments) => arguments.run(context),
            Self::Prune(arguments) => arguments.run(context),
            Self::Mv(arguments) => arguments.run(context),
            Self::Path(arguments) => arguments.run(context),
            Self::Set(arguments) => arguments.run(context),
            Self::Pin(arguments) => arguments.run(context, true),
            Self::Unpin(arguments) => arguments.run(context, false),
            Self::Clone(arguments) => arguments.run(context),
            Self::Export(arguments) => arguments.run(context),
            Self::Import(arguments) => arguments.run(context),
            Self::Config(arguments) => arguments.run(context),
            Self::Stats(arguments) => arguments.run(context),
            Self::Metrics(arguments) => arguments.run(context),
            Self::Df(arguments) => arguments.run(context),
            Self::Top(arguments) => arguments.run(context),
            Self::Trash(arguments) => arguments.run(context),
            Self::Events(arguments) => arguments.run(context),
            Self::Disk(arguments) => arguments.run(context),
            Self::Verify(arguments) => arguments.run(context),
            Self::Image(arguments) => arguments.run(context),
            Self::Doctor(arguments) => arguments.run(context),
            Self::Completions(arguments) => arguments.run(context.output),
            Self::Man(arguments) => arguments.run(context.output),
        }
    }
}
