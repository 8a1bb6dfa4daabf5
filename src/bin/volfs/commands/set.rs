//! `volfs set`.

use std::ffi::OsString;

use clap::{ArgGroup, Args};
use volfs::model::Bytes;
use volfs::volume::Change;

use crate::context::Context;
use crate::failure::Outcome;
use crate::names::{self, LimitArgument};
use crate::open::{Access, open_volumes};

/// Arguments of `volfs set`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::SET, override_usage = "volfs set <NAME> <CHANGE>...")]
#[command(group(ArgGroup::new("changes").required(true).multiple(true).args([
    "quota", "quota_inodes", "size", "labels", "unset_labels", "pin", "unpin",
    "read_only", "no_read_only", "trash_files",
])))]
pub struct SetArgs {
    /// The volume's name
    name: OsString,
    /// The most bytes, or 'none'
    #[arg(long, value_name = "SIZE|none", allow_hyphen_values = true, value_parser = names::size_or_none)]
    quota: Option<LimitArgument<Bytes>>,
    /// The most files and directories, or 'none'
    #[arg(long, value_name = "N|none", value_parser = names::inodes_or_none)]
    quota_inodes: Option<LimitArgument<u64>>,
    /// A larger capacity of a disk volume that nobody uses
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = names::size)]
    size: Option<Bytes>,
    /// A label to set; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = names::label)]
    labels: Vec<(String, String)>,
    /// A label to remove; may be given several times
    #[arg(long = "unset-label", value_name = "KEY", value_parser = names::label_key)]
    unset_labels: Vec<String>,
    /// Protect the volume from removal; what is in it stays open to changes
    #[arg(long, conflicts_with = "unpin")]
    pin: bool,
    /// Let the volume be removed again
    #[arg(long)]
    unpin: bool,
    /// Let nobody, not even root, change what is in the volume; refused while
    /// somebody has a file in it open for writing
    #[arg(long, conflicts_with = "no_read_only")]
    read_only: bool,
    /// Let it be changed again
    #[arg(long)]
    no_read_only: bool,
    /// Keep files that are removed from the volume, 'rm -rf' included, up to so many
    /// bytes, the oldest giving way; or 'none'
    #[arg(long, value_name = "SIZE|none", allow_hyphen_values = true, value_parser = names::size_or_none)]
    trash_files: Option<LimitArgument<Bytes>>,
}

impl SetArgs {
    /// Changes the volume.
    pub fn run(self, context: &Context) -> Outcome {
        let name = names::volume_name(&self.name)?;
        let change = Change {
            quota_bytes: self.quota.map(|limit| limit.0),
            quota_inodes: self.quota_inodes.map(|limit| limit.0),
            set_labels: self.labels,
            unset_labels: self.unset_labels,
            size: self.size,
            pinned: either(self.pin, self.unpin),
            read_only: either(self.read_only, self.no_read_only),
            trash_files: self.trash_files.map(|limit| limit.0),
        };
        let info = open_volumes(&context.store, Access::Change)?.change(&name, &change)?;
        if context.output.is_json() {
            return context.output.value(&info);
        }
        context.output.confirm(&info.name);
        let (name, used) = (&info.name, info.used);
        if let Some(limit) = change.quota_bytes.flatten().filter(|&it| it < used.bytes) {
            context.output.note(format!(
                "{name} holds {}, more than its limit of {limit}: nothing grows in it until it holds less",
                used.bytes
            ));
        }
        if let Some(limit) = change.quota_inodes.flatten().filter(|&it| it < used.inodes) {
            context.output.note(format!(
                "{name} holds {}, more than its limit of {limit}: nothing new is made in it until it holds fewer",
                crate::table::inodes(used.inodes)
            ));
        }
        Ok(())
    }
}

/// What two options that exclude each other say.
fn either(yes: bool, no: bool) -> Option<bool> {
    match (yes, no) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}
