//! `volfs path`.

use std::ffi::OsString;

use clap::Args;
use volfs::fuse::image_below;
use volfs::model::Kind;
use volfs::volume::VolumeInfo;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::open::{Access, mountpoint_of, open_volumes};

/// Arguments of `volfs path`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::PATH)]
pub struct PathArgs {
    /// The volume's name
    name: OsString,
    /// The image of a disk volume, to be given to a virtual machine
    #[arg(long)]
    disk: bool,
    /// Also while the store is not mounted: the place in the store, where nobody
    /// counts what is written, nor notes that a guest has written an image
    #[arg(long)]
    unmounted: bool,
}

/// Whoever asks for a place wants to use it.
fn not_mounted(info: &VolumeInfo) -> Failure {
    let name = &info.name;
    Failure::new(
        "not-mounted",
        format!(
            "the store is not mounted, and what is written to volume {name:?} in the store itself is not counted; mount it first, or look with 'volfs path --unmounted', and run 'volfs verify --repair' after a change"
        ),
    )
}

impl PathArgs {
    /// Prints the volume's directory.
    pub fn run(self, context: &Context) -> Outcome {
        let name = names::volume_name(&self.name)?;
        let info = open_volumes(&context.store, Access::Read)?.get(&name)?;
        let mountpoint = mountpoint_of(&context.store)?;
        let mounted = mountpoint.is_some();
        if !mounted && !self.unmounted {
            return Err(not_mounted(&info));
        }
        let path = match (mountpoint, self.disk) {
            (Some(at), false) => at.join(name.as_str()),
            (None, false) if info.kind == Kind::Disk => {
                return Err(Failure::new(
                    "not-mounted",
                    format!(
                        "a disk volume has a directory only while the store is mounted; 'volfs path --unmounted --disk {}' prints its image",
                        name.as_shell_word()
                    ),
                ));
            }
            (None, false) => info.path,
            (at, true) => {
                let disk = info.disk.ok_or_else(|| {
                    Failure::new(
                        "no-disk",
                        format!("volume {name:?} is a directory volume and has no image"),
                    )
                })?;
                at.map_or(disk.path, |at| image_below(&at, &name))
            }
        };
        if context.output.is_json() {
            return context.output.value(&serde_json::json!({
                "name": name, "path": path, "mounted": mounted,
            }));
        }
        context.output.text(path.display());
        Ok(())
    }
}
