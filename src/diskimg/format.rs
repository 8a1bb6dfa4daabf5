//! Making an image: at a path, where it appears whole or not at all, or in an
//! empty file that the caller has opened.

use std::fs::File;
use std::io;
use std::path::Path;

use super::error::{AccessError, FormatError};
use super::layout::Layout;
use super::options::Options;
use super::store::ImageStore;
use super::writer::write_image;

/// Makes an image at `path`, mode 0600. It is written to a temporary file
/// beside the target (`.volfs-image.*.tmp`), made durable, and renamed: a
/// process that is killed on the way leaves that file, and nothing at the
/// target.
///
/// # Errors
/// The options do not fit, something is at the target (it is not touched), or
/// the system's reason. The temporary file is removed.
pub fn format(path: &Path, options: &Options) -> Result<Layout, FormatError> {
    format_through(path, options, |file| file)
}

/// As [`format()`], with every write passing through the store that `through`
/// makes of the temporary file: where tests record and fail writes.
///
/// # Errors
/// As [`format()`].
pub fn format_through<S: ImageStore>(
    path: &Path,
    options: &Options,
    through: impl FnOnce(File) -> S,
) -> Result<Layout, FormatError> {
    let layout = Layout::plan(options)?;
    let failed = |action: &str, source| FormatError::Target {
        path: path.to_owned(),
        source: AccessError::new(action, source),
    };
    if path.file_name().is_none() {
        return Err(FormatError::NotAFileName {
            path: path.to_owned(),
        });
    }
    match path.symlink_metadata() {
        Ok(_) => {
            return Err(FormatError::TargetExists {
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("look at the target", error)),
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = tempfile::Builder::new()
        .prefix(".volfs-image.")
        .suffix(".tmp")
        .tempfile_in(directory)
        .map_err(|error| failed("make a temporary file beside the target", error))?;
    let file = temporary
        .as_file()
        .try_clone()
        .map_err(|error| failed("duplicate a descriptor", error))?;
    write_image(&mut through(file), options, &layout).map_err(|source| FormatError::Target {
        path: path.to_owned(),
        source,
    })?;
    match temporary.persist_noclobber(path) {
        Ok(_) => {}
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(FormatError::TargetExists {
                path: path.to_owned(),
            });
        }
        Err(refused) => {
            return Err(failed(
                "rename the temporary file to the target",
                refused.error,
            ));
        }
    }
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| failed("make the directory durable (fsync)", error))?;
    Ok(layout)
}

/// Makes an image in an open file: empty, regular, and thus all zeros once it
/// is lengthened. Returns when it is durable; the file's name is the caller's
/// concern.
///
/// # Errors
/// The options do not fit, the file is not empty, or the system's reason; the
/// file then holds part of an image.
pub fn format_file(file: &File, options: &Options) -> Result<Layout, FormatError> {
    let layout = Layout::plan(options)?;
    let metadata = file
        .metadata()
        .map_err(|source| AccessError::new("look at the open file", source))?;
    if !metadata.is_file() || metadata.len() != 0 {
        return Err(FormatError::NotEmpty);
    }
    let mut store = file
        .try_clone()
        .map_err(|source| AccessError::new("duplicate a descriptor", source))?;
    write_image(&mut store, options, &layout)?;
    Ok(layout)
}

/// Makes an image in a store that reads as zeros throughout.
///
/// # Errors
/// The options do not fit, or the store's reason.
pub fn format_store(store: &mut impl ImageStore, options: &Options) -> Result<Layout, FormatError> {
    let layout = Layout::plan(options)?;
    write_image(store, options, &layout)?;
    Ok(layout)
}
