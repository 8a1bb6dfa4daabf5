//! Somebody moves and removes directories of the volume that is being read.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use volfs::transfer::{CloneOptions, ExportOptions, Watch, clone, export};

use crate::data_of;
use crate::support::{TestDir, Volfs};

/// More than are open at once, twice.
const DEPTH: usize = 140;

/// Does something once, when the first file is looked at.
struct Once<F>(AtomicU64, F);

impl<F: Fn() + Sync> Watch for Once<F> {
    fn advanced(&self, _bytes: u64) {}

    fn is_stopped(&self) -> bool {
        if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
            (self.1)();
        }
        false
    }
}

/// Directories in each other; in each, a file that comes after the next one.
fn make(top: &Path) {
    let mut path = top.to_owned();
    for level in 0..DEPTH {
        fs::write(path.join("z"), level.to_string()).unwrap();
        path.push("m");
        fs::create_dir(&path).unwrap();
    }
    fs::write(path.join("z"), "the first").unwrap();
}

fn at(top: &Path, level: usize) -> std::path::PathBuf {
    top.join("m/".repeat(level))
}

fn files_in(archive: &[u8]) -> usize {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(Result::unwrap);
    entries
        .filter(|entry| entry.path().unwrap().ends_with("z"))
        .count()
}

/// What is below, what is read and what is above it are each moved elsewhere:
/// all of it is in the copy, where it was.
#[test]
fn directories_that_are_moved_are_read_to_their_end() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    volfs.ok(&["create", "src"]);
    let top = data_of(&volfs, "src");
    make(&top);
    let moves = || {
        fs::rename(at(&top, 41), top.join("a-below")).unwrap();
        fs::rename(at(&top, 40), top.join("a-middle")).unwrap();
        fs::rename(at(&top, 20), top.join("a-above")).unwrap();
    };
    let volumes = volfs::open(volfs.store()).unwrap();
    let options = ExportOptions {
        compress: false,
        archive: "a.tar".into(),
        itself: Vec::new(),
    };
    let mut archive = Vec::new();
    let watch = Once(AtomicU64::new(0), moves);
    let name = "src".parse().unwrap();
    let exported = export(&*volumes, &name, &options, &mut archive, &watch).unwrap();
    assert_eq!(exported.vanished, [] as [&Path; 0]);
    assert_eq!(files_in(&archive), DEPTH + 1);
}

/// A directory that is emptied and removed while what was in it is read: the
/// rest is copied, and what is not is said.
#[test]
fn what_is_removed_is_said() {
    for cloned in [false, true] {
        let dir = TestDir::new();
        let volfs = Volfs::new(&dir.join("store"));
        volfs.ok(&["create", "src"]);
        let top = data_of(&volfs, "src");
        make(&top);
        let moves = || {
            fs::rename(at(&top, 41), top.join("a-below")).unwrap();
            fs::rename(at(&top, 40).join("z"), top.join("a-file")).unwrap();
            fs::remove_dir(at(&top, 40)).unwrap();
            fs::remove_file(at(&top, 10).join("z")).unwrap();
        };
        let volumes = volfs::open(volfs.store()).unwrap();
        let watch = Once(AtomicU64::new(0), moves);
        let name = "src".parse().unwrap();
        if cloned {
            let options = CloneOptions::default();
            clone(&*volumes, &name, &"dst".parse().unwrap(), &options, &watch).unwrap();
            drop(volumes);
            let copy = data_of(&volfs, "dst");
            assert_eq!(fs::read(at(&copy, 41).join("z")).unwrap(), b"41");
            assert_eq!(fs::read(at(&copy, 39).join("z")).unwrap(), b"39");
            let gone = [at(&copy, 40), at(&copy, 10)].map(|it| it.join("z").exists());
            assert_eq!(gone, [false, false]);
            continue;
        }
        let options = ExportOptions {
            compress: false,
            archive: "a.tar".into(),
            itself: Vec::new(),
        };
        let mut archive = Vec::new();
        let exported = export(&*volumes, &name, &options, &mut archive, &watch).unwrap();
        let gone = [40, 10].map(|level| at(Path::new(""), level).join("z"));
        assert_eq!(exported.vanished, gone);
        assert_eq!(files_in(&archive), DEPTH + 1 - 2);
    }
}
