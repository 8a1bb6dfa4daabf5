//! Every command as people type it, with all that it says: the files
//! `tests/transcripts/*.md`. Each is run in a shell of its own directory, and
//! what comes out must be what stands there.
//!
//! `SNAPSHOTS=overwrite` writes what came out instead. What differs from run to
//! run is replaced: `[DIR]`, `[ID]`, `[TIME]`, `[PID]`, ...; `[..]` stands for
//! the rest of a line and `...` for any lines.

mod coverage;
mod scene;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use scene::Scene;

/// All transcripts, sorted.
fn files() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.sort();
    files
}

/// Runs the commands of a transcript and returns it with what they said.
fn replay(scene: &Scene, transcript: &str) -> String {
    let mut replayed = String::new();
    let mut in_console = false;
    for line in transcript.lines() {
        if line.starts_with("```") {
            in_console = line == "```console";
        }
        match line.strip_prefix("$ ") {
            Some(command) if in_console => {
                replayed += &format!("{line}\n{}", scene.run(command));
            }
            // What was said the last time.
            None if in_console && !line.starts_with("```") => {}
            _ => replayed += &format!("{line}\n"),
        }
    }
    replayed
}

fn check(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/transcripts")
        .join(name)
        .with_extension("md");
    let scene = Scene::new();
    let replayed = replay(&scene, &fs::read_to_string(&path).unwrap());
    drop(scene);
    let expected = snapbox::Data::read_from(&path, Some(snapbox::data::DataFormat::Text));
    snapbox::Assert::new()
        .action_env("SNAPSHOTS")
        // A backslash is no path separator here.
        .normalize_paths(false)
        .eq(replayed, expected);
}

/// A test for each file.
macro_rules! transcripts {
    ($($name:ident),+ $(,)?) => {
        $(#[test] fn $name() { check(stringify!($name)); })+

        #[test]
        fn every_file_is_run() {
            let named = [$(stringify!($name)),+];
            for file in files() {
                let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
                assert!(named.contains(&name.as_str()), "{name}.md is run by no test");
            }
        }
    };
}

transcripts! {
    copies, disk, errors_images, errors_mount, errors_usage, errors_volumes, first_steps, image, list,
    mount, prune, settings, trash, watch, tools,
}
