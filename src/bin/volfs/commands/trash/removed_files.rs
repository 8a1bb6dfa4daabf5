//! The removed files that a volume keeps: `volfs trash ls --files VOLUME` and others.

use std::ffi::OsStr;
use std::path::Path;

use comfy_table::Cell;
use volfs::volume::{VolumeInfo, delete_removed_files, removed_files};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::open::{Access, open_volumes};
use crate::table::{self, Listing};

/// Lists them, last removed first.
pub fn list(context: &Context, of: &OsStr) -> Outcome {
    let info = open_volumes(&context.store, Access::Read)?.get(&names::volume_name(of)?)?;
    let files = removed_files(&info)?;
    if context.output.is_json() {
        let files = files.iter().map(|file| {
            serde_json::json!({
                "path": file.path.to_string_lossy(),
                "size": file.size,
                "allocated": file.allocated,
                "uid": file.uid,
                "removed": file.removed,
            })
        });
        return context.output.value(&files.collect::<Vec<_>>());
    }
    let mut table = Listing::new(&["*PATH", ">SIZE", "?UID", "?REMOVED"]);
    for file in &files {
        table.row(vec![
            Cell::new(volfs::model::Plain(&file.path.to_string_lossy())),
            Cell::new(file.size),
            Cell::new(file.uid),
            Cell::new(table::time(file.removed)),
        ]);
    }
    context.output.text(table);
    Ok(())
}

/// Brings back the last removed with that path.
pub fn restore(context: &Context, of: &str, path: &str, to: Option<&OsStr>) -> Outcome {
    let volumes = open_volumes(&context.store, Access::Change)?;
    let info = volumes.get(&names::volume_name(OsStr::new(of))?)?;
    let wanted = Path::new(path.trim_start_matches('/'));
    let files = removed_files(&info)?;
    let file = files.iter().find(|file| file.path == wanted);
    let file = file.ok_or_else(|| nothing(&info, path))?;
    let to = to.map_or(wanted, Path::new);
    volumes.files(&info.name)?.restore(file, to)?;
    delete_removed_files(&info, std::slice::from_ref(file))?;
    if context.output.is_json() {
        let to = to.to_string_lossy();
        let restored = serde_json::json!({ "volume": info.name, "path": to });
        return context.output.value(&restored);
    }
    let to = to.to_string_lossy();
    let to = to.trim_start_matches('/');
    context.output.confirm(format!("{}:{to}", info.name));
    Ok(())
}

/// Deletes them.
pub fn empty(context: &Context, of: &OsStr) -> Outcome {
    let volumes = open_volumes(&context.store, Access::Change)?;
    let info = volumes.get(&names::volume_name(of)?)?;
    let deleted = delete_removed_files(&info, &removed_files(&info)?)?;
    if context.output.is_json() {
        let deleted = serde_json::json!({ "deleted": deleted });
        return context.output.value(&deleted);
    }
    let files = if deleted == 1 { "file" } else { "files" };
    context.output.confirm(format!("{deleted} {files} deleted"));
    Ok(())
}

fn nothing(info: &VolumeInfo, path: &str) -> Failure {
    let name = &info.name;
    Failure::with_detail(
        "not-in-trash",
        serde_json::json!({ "wanted": path }),
        format!(
            "no removed file {path:?} of volume {name:?} is kept; \
             'volfs trash ls --files {}' lists those that are",
            name.as_shell_word()
        ),
    )
}
