//! `volfs doctor --rebuild-catalogue`.

use std::path::Path;

use volfs::volume::{Rebuilt, Store};

use crate::failure::Outcome;
use crate::output::Output;

/// Makes the store's catalogue anew, and tells what came of it.
pub fn run(store: &Path, output: Output) -> Outcome {
    let done = Store::rebuild(store)?;
    if output.is_json() {
        let renamed: Vec<_> = done
            .renamed
            .iter()
            .map(|(old, new)| serde_json::json!({ "old": old, "new": new }))
            .collect();
        return output.value(&serde_json::json!({
            "volumes": done.volumes,
            "trashed": done.trashed,
            "renamed": renamed,
            "kept": done.kept,
        }));
    }
    output.text(text(&done));
    Ok(())
}

fn text(done: &Rebuilt) -> String {
    let mut lines = vec![format!(
        "the catalogue is made anew: {} under their own names, {} renamed, {} in the trash",
        volumes(done.volumes),
        done.renamed.len(),
        done.trashed
    )];
    lines.extend(done.renamed.iter().map(|(old, new)| match old {
        Some(old) => format!("  {old} is now {new}, because another volume has that name"),
        None => format!("  {new} has lost its volume.json and with it its name and limits"),
    }));
    if let Some(kept) = &done.kept {
        lines.push(format!("the old catalogue is kept as {}", kept.display()));
    }
    lines.join("\n")
}

fn volumes(count: usize) -> String {
    format!("{count} volume{}", if count == 1 { "" } else { "s" })
}
