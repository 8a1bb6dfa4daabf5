//! `volfs export`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use volfs::fuse::node::NodeId;
use volfs::model::{Kind, VolumeName};
use volfs::transfer::{ExportOptions, Exported, export};
use volfs::volume::{VolumeInfo, Volumes};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::open::{Access, mountpoint_of, open_volumes};
use crate::processes;
use crate::progress::Progress;

/// Arguments of `volfs export`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::EXPORT)]
pub struct ExportArgs {
    /// The volume
    name: OsString,
    /// The archive to write, '-' for standard output; compressed when its name
    /// ends in .zst
    #[arg(short, long, value_name = "FILE", value_parser = names::path())]
    output: PathBuf,
    /// Compress with zstd, whatever the name
    #[arg(long)]
    zstd: bool,
}

impl ExportArgs {
    /// Writes the archive.
    pub fn run(self, context: &Context) -> Outcome {
        let name = names::volume_name(&self.name)?;
        let by_name = self.output.extension().is_some_and(|it| it == "zst");
        let options = ExportOptions {
            compress: self.zstd || by_name,
            archive: self.output.clone(),
            itself: Vec::new(),
        };
        let to_stdout = self.output == Path::new("-");
        if to_stdout && io::stdout().is_terminal() {
            return Err(Failure::usage(
                "an archive is not for the terminal; redirect it, or name a file with -o",
            ));
        }
        if to_stdout && context.output.is_json() {
            return Err(Failure::usage(
                "standard output is for the archive; name a file with -o to have --json there",
            ));
        }
        let volumes = open_volumes(&context.store, Access::Read)?;
        processes::watch_daemon(&context.store);
        let exported = if to_stdout {
            let stdout = io::stdout();
            let itself = [file_of(&stdout)];
            let mut out = BufWriter::new(stdout.lock());
            let exported = run(context, &*volumes, &name, (options, &itself), &mut out)?;
            flushed(out.flush(), &self.output)?;
            exported
        } else {
            to_file(context, &*volumes, &name, options)?
        };
        for path in &exported.left_out {
            log::warn!("the socket {path:?} is not in the archive: none can be");
        }
        for path in &exported.itself {
            log::warn!("{path:?} is the archive; it is not in it");
        }
        for path in &exported.changed {
            log::warn!("{path:?} became shorter while it was read; its end is zeros");
        }
        for path in &exported.vanished {
            log::warn!(
                "{path:?} was moved or removed before it was read; it is not in the archive under this name"
            );
        }
        if context.output.is_json() {
            return context.output.value(&serde_json::json!({
                "name": name,
                "archive": self.output.to_string_lossy(),
                "entries": exported.entries,
                "bytes": exported.bytes,
                "left_out": texts(&exported.left_out),
                "itself": texts(&exported.itself),
                "changed": texts(&exported.changed),
                "vanished": texts(&exported.vanished),
            }));
        }
        if !to_stdout {
            context.output.confirm(self.output.display());
        }
        Ok(())
    }
}

fn texts(paths: &[PathBuf]) -> Vec<std::borrow::Cow<'_, str>> {
    paths.iter().map(|path| path.to_string_lossy()).collect()
}

fn run(
    context: &Context,
    volumes: &dyn Volumes,
    name: &VolumeName,
    (mut options, itself): (ExportOptions, &[Option<Metadata>]),
    out: &mut dyn Write,
) -> Outcome<Exported> {
    let info = volumes.get(name)?;
    options.itself = inodes_in(context, &info, itself)?;
    let total = info.disk.map_or(info.used.bytes, |disk| disk.size);
    let bar = Progress::bytes(context.output, name.as_str(), Some(total.0));
    let exported = export(volumes, name, &options, out, &bar);
    bar.end();
    Ok(exported?)
}

/// The regular file that `file` is.
fn file_of(file: impl AsFd) -> Option<Metadata> {
    let file = File::from(file.as_fd().try_clone_to_owned().ok()?);
    file.metadata().ok().filter(Metadata::is_file)
}

/// What inodes of the store's file system `files` are, if they are in the volume:
/// in the mount they have other numbers.
fn inodes_in(
    context: &Context,
    info: &VolumeInfo,
    files: &[Option<Metadata>],
) -> Outcome<Vec<u64>> {
    if info.kind == Kind::Disk || files.iter().all(Option::is_none) {
        return Ok(Vec::new());
    }
    let mounted = mountpoint_of(&context.store)?.map(|at| at.join(info.name.as_str()));
    let tops = [Some(info.path.clone()), mounted];
    let tops = tops.iter().flatten().filter_map(|top| top.metadata().ok());
    let inode = |top: &Metadata, file: &Metadata| {
        let (top_node, node) = (NodeId::from_raw(top.ino()), NodeId::from_raw(file.ino()));
        let same = (top.dev(), top_node.slot()) == (file.dev(), node.slot());
        same.then_some(node.ino().0)
    };
    let found = tops.flat_map(|top| files.iter().flatten().filter_map(move |it| inode(&top, it)));
    Ok(found.collect())
}

/// The archive appears when it is complete; what was there before stays until
/// then.
fn to_file(
    context: &Context,
    volumes: &dyn Volumes,
    name: &VolumeName,
    options: ExportOptions,
) -> Outcome<Exported> {
    let path = &options.archive.clone();
    let before = fs::metadata(path).ok();
    // A device or a fifo is written to as it is.
    if before.as_ref().is_some_and(|found| !found.is_file()) {
        let file = File::options().write(true).open(path);
        let file = file.map_err(|error| Failure::io("open", path, &error))?;
        let mut out = BufWriter::new(file);
        let exported = run(context, volumes, name, (options, &[]), &mut out)?;
        flushed(out.flush(), path)?;
        return Ok(exported);
    }
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let part = tempfile::Builder::new()
        .prefix(".volfs-export-")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir)
        .map_err(|error| Failure::io("create a file in", dir, &error))?;
    let part_name = part.path().file_name().map(OsStr::to_owned);
    let itself = [file_of(&part), before];
    let mut out = BufWriter::with_capacity(1 << 20, part);
    let mut exported = run(context, volumes, name, (options, &itself), &mut out)?;
    // Nobody has seen that.
    exported
        .itself
        .retain(|path| path.file_name() != part_name.as_deref());
    let part = out
        .into_inner()
        .map_err(|error| Failure::io("write to", path, error.error()))?;
    flushed(part.as_file().sync_all(), path)?;
    part.persist(path)
        .map_err(|error| Failure::io("create", path, &error.error))?;
    Ok(exported)
}

fn flushed(result: io::Result<()>, path: &Path) -> Outcome {
    result.map_err(|error| Failure::io("write to", path, &error))
}
