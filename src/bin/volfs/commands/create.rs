//! `volfs create`.

use std::ffi::OsString;

use clap::Args;
use volfs::diskimg::ImageSize;
use volfs::model::{Bytes, Kind, Labels, Limits, NameRule, VolumeSpec};
use volfs::volume::{Error, Settings};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names::{self, OwnerArgument};
use crate::open::{Access, open_volumes};

/// Arguments of `volfs create`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::CREATE)]
pub struct CreateArgs {
    /// Names of the new volumes: letters, digits, '.', '_' and '-', or what
    /// 'volfs config names' lets the store take
    #[arg(required = true, value_name = "NAME")]
    names: Vec<OsString>,
    /// The most bytes a directory volume may hold
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = names::size)]
    quota: Option<Bytes>,
    /// The most files and directories a directory volume may hold
    #[arg(long, value_name = "N", value_parser = names::inodes)]
    quota_inodes: Option<u64>,
    /// Make disk volumes: images with a file system of their own
    #[arg(long)]
    disk: bool,
    /// Capacity of a disk volume
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = names::size)]
    size: Option<Bytes>,
    /// A label; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = names::label)]
    labels: Vec<(String, String)>,
    /// Owner of the volume's root directory, by name or number [default: you]
    #[arg(long, value_name = "USER[:GROUP]", value_parser = names::owner)]
    owner: Option<OwnerArgument>,
    /// Permission bits of the volume's root directory, octal [default: 755]
    #[arg(long, value_name = "OCTAL", value_parser = names::mode)]
    mode: Option<u32>,
}

impl CreateArgs {
    /// Makes the volumes, one after the other.
    pub fn run(self, context: &Context) -> Outcome {
        let mut labels = Labels::default();
        for (key, value) in &self.labels {
            labels.set(key, value);
        }
        let specs: Vec<VolumeSpec> = names::volume_names(&self.names)?
            .into_iter()
            .map(|name| VolumeSpec {
                name,
                kind: if self.disk {
                    Kind::Disk
                } else {
                    Kind::Directory
                },
                limits: Limits {
                    bytes: self.quota,
                    inodes: self.quota_inodes,
                },
                size: self.size,
                labels: labels.clone(),
                owner: names::owner_and_mode(self.owner, self.mode),
            })
            .collect();
        for spec in &specs {
            spec.check().map_err(Error::from)?;
            if let Some(size) = spec.size {
                ImageSize::from_bytes(size.0)
                    .map_err(|error| Failure::usage(format!("--size: {error}")))?;
            }
        }
        let check = |rule: NameRule| specs.iter().try_for_each(|spec| rule.check(&spec.name));
        // Before a store is made, and before the first volume.
        if let Some(rule) = Settings::names_of_new_store(&context.store) {
            check(rule)?;
        }
        let volumes = open_volumes(&context.store, Access::Create)?;
        check(volumes.settings()?.names)?;
        let mut made = Vec::new();
        for spec in &specs {
            match volumes.create(spec) {
                Ok(info) => {
                    context.output.confirm(&info.name);
                    made.push(info);
                }
                Err(error) => context.output.one_failed(error),
            }
        }
        if context.output.is_json() {
            context.output.value(&made)?;
        }
        if made.len() < specs.len() {
            return Err(Failure::Reported);
        }
        Ok(())
    }
}
