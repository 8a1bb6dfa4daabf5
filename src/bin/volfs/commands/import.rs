//! `volfs import`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use volfs::model::{Bytes, Kind};
use volfs::sys::named_file;
use volfs::transfer::{ImportOptions, import};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names::{self, LimitArgument};
use crate::open::{Access, open_volumes};
use crate::progress::Progress;

/// Arguments of `volfs import`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::IMPORT)]
pub struct ImportArgs {
    /// The name of the new volume
    name: OsString,
    /// A tar archive, plain or compressed with zstd; '-' for standard input
    #[arg(value_name = "FILE", value_parser = names::path())]
    file: PathBuf,
    /// The most bytes, or 'none' [default: as in the archive]
    #[arg(long, value_name = "SIZE|none", allow_hyphen_values = true, value_parser = names::size_or_none)]
    quota: Option<LimitArgument<Bytes>>,
    /// The most files and directories, or 'none' [default: as in the archive]
    #[arg(long, value_name = "N|none", value_parser = names::inodes_or_none)]
    quota_inodes: Option<LimitArgument<u64>>,
    /// A label besides those in the archive; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = names::label)]
    labels: Vec<(String, String)>,
    /// Let device nodes in; only from archives that you trust
    #[arg(long)]
    devices: bool,
}

/// A FIFO or a device serves as well as a file.
fn open(path: &Path) -> Outcome<File> {
    let file = File::open(path).map_err(|error| {
        let error = named_file::why_not_opened(path, error);
        match error.raw_os_error() {
            Some(_) => Failure::io("open", path, &error),
            None => Failure::new(
                "no-archive",
                format!("cannot open the archive {}: {error}", path.display()),
            ),
        }
    })?;
    if file.metadata().is_ok_and(|found| found.is_dir()) {
        return Err(Failure::new(
            "no-archive",
            format!(
                "{} is a directory; name an archive, as 'volfs export' and tar make them",
                path.display()
            ),
        ));
    }
    Ok(file)
}

impl ImportArgs {
    /// Makes the volume.
    pub fn run(self, context: &Context) -> Outcome {
        let name = names::volume_name(&self.name)?;
        let from_stdin = self.file == Path::new("-");
        if from_stdin && io::stdin().is_terminal() {
            return Err(Failure::usage(
                "an archive does not come from the terminal; redirect it, or name a file",
            ));
        }
        let options = ImportOptions {
            quota_bytes: self.quota.map(|limit| limit.0),
            quota_inodes: self.quota_inodes.map(|limit| limit.0),
            labels: self.labels,
            devices: self.devices,
            archive: self.file.clone(),
        };
        let mut input: Box<dyn Read> = if from_stdin {
            Box::new(io::stdin().lock())
        } else {
            Box::new(open(&self.file)?)
        };
        let mut input = BufReader::with_capacity(1 << 20, &mut input);
        let volumes = open_volumes(&context.store, Access::Create)?;
        let bar = Progress::bytes(context.output, name.as_str(), None);
        let imported = import(&*volumes, &name, &options, &mut input, &bar);
        bar.end();
        let imported = imported?;
        if imported.owners_missed > 0 {
            log::warn!(
                "{} files belong to you and not to whom the archive says: only root can give files away",
                imported.owners_missed
            );
        }
        if imported.xattrs_missed > 0 {
            log::warn!(
                "{} extended attributes could not be set here",
                imported.xattrs_missed
            );
        }
        if imported.info.kind == Kind::Disk {
            log::warn!(
                "nobody knows who has written the image, so that this machine's kernel is not given it; 'volfs disk trust {}' checks it first",
                name.as_shell_word()
            );
        }
        if context.output.is_json() {
            return context.output.value(&serde_json::json!({
                "volume": imported.info,
                "entries": imported.entries,
                "owners_missed": imported.owners_missed,
                "xattrs_missed": imported.xattrs_missed,
            }));
        }
        context.output.confirm(&imported.info.name);
        Ok(())
    }
}
