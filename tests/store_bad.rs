//! Stores that cannot be used, or only in part: each a clear error, and
//! nothing changed.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use volfs::model::{NameRule, VolumeName, VolumeSpec};
use volfs::volume::{Error, Removal, Setting, Store, StoreOptions, Volumes};

const MAKE: StoreOptions = StoreOptions {
    create: true,
    read_only: false,
};
const USE: StoreOptions = StoreOptions {
    create: false,
    read_only: false,
};
const LOOK: StoreOptions = StoreOptions {
    create: false,
    read_only: true,
};

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

/// A store with two volumes, closed.
struct Scratch {
    _dir: tempfile::TempDir,
    store: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("store");
        let store = Store::open(&path, &MAKE).unwrap();
        for (new, label) in [("one", "1"), ("two", "2")] {
            let mut spec = VolumeSpec::directory(name(new));
            spec.labels.set("number", label);
            spec.limits.inodes = Some(100);
            let made = store.create(&spec).unwrap();
            fs::write(made.path.join("file"), new).unwrap();
        }
        store.create(&VolumeSpec::directory(name("old"))).unwrap();
        store.remove(&name("old"), Removal::Trash).unwrap();
        drop(store);
        Self {
            _dir: dir,
            store: path,
        }
    }

    fn catalogue(&self) -> PathBuf {
        self.store.join("meta.db")
    }

    fn snapshot(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut left = vec![self.store.clone()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path.clone());
                    found.push((path, Vec::new()));
                } else if !path.ends_with("lock") {
                    found.push((path.clone(), fs::read(path).unwrap()));
                }
            }
        }
        found.sort();
        found
    }

    /// Opening fails, in every way of opening, and changes nothing.
    fn refused(&self) -> Error {
        let before = self.snapshot();
        let error = Store::open(&self.store, &USE).unwrap_err();
        assert_eq!(before, self.snapshot(), "{error}");
        error
    }
}

fn damaged(error: &Error, catalogue: &Path) -> String {
    let Error::Catalogue { path, why } = error else {
        panic!("{error:?}");
    };
    assert_eq!(path, catalogue);
    let text = error.to_string();
    assert!(text.contains("volfs doctor --rebuild-catalogue"), "{text}");
    why.clone()
}

#[test]
fn a_catalogue_that_is_damaged() {
    type Damage = fn(&fs::File, u64);
    let cases: [(&str, Damage); 5] = [
        ("all zeros", |file, size| {
            file.write_all_at(&vec![0; size.try_into().unwrap()], 0)
                .unwrap();
        }),
        ("noise", |file, size| {
            let noise: Vec<u8> = (0..size).map(|at| (at * 131 + at / 7) as u8).collect();
            file.write_all_at(&noise, 0).unwrap();
        }),
        ("noise after the header", |file, size| {
            let noise: Vec<u8> = (4096..size).map(|at| (at * 131 + at / 7) as u8).collect();
            file.write_all_at(&noise, 4096).unwrap();
        }),
        ("cut in half", |file, size| file.set_len(size / 2).unwrap()),
        ("cut within a page", |file, _| file.set_len(1000).unwrap()),
    ];
    for (what, damage) in cases {
        let scratch = Scratch::new();
        let file = fs::OpenOptions::new()
            .write(true)
            .open(scratch.catalogue())
            .unwrap();
        damage(&file, file.metadata().unwrap().len());
        let before = scratch.snapshot();
        damaged(&scratch.refused(), &scratch.catalogue());
        let looked = Store::open(&scratch.store, &LOOK).unwrap_err();
        damaged(&looked, &scratch.catalogue());

        // And what the message says helps.
        let rebuilt = Store::rebuild(&scratch.store).unwrap();
        assert_eq!((rebuilt.volumes, rebuilt.trashed), (2, 1), "{what}");
        let kept = fs::read(rebuilt.kept.unwrap()).unwrap();
        assert!(before.iter().any(|(_, bytes)| *bytes == kept), "{what}");
        let store = Store::open(&scratch.store, &USE).unwrap();
        let one = store.get(&name("one")).unwrap();
        assert_eq!(one.labels.get("number"), Some("1"));
        assert_eq!(one.limits.inodes, Some(100));
        assert_eq!(fs::read_to_string(one.path.join("file")).unwrap(), "one");
        assert_eq!(store.trash().unwrap()[0].info.name, name("old"));
        assert_eq!(store.needs_recount().len(), 2);
    }
}

#[test]
fn a_catalogue_that_is_gone_or_empty() {
    for empty in [false, true] {
        let scratch = Scratch::new();
        fs::remove_file(scratch.catalogue()).unwrap();
        if empty {
            fs::write(scratch.catalogue(), "").unwrap();
        }
        let error = scratch.refused();
        assert!(matches!(error, Error::BadStore { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("volfs doctor --rebuild-catalogue"), "{text}");
        // Nor does the wish to make a store make it anew.
        assert_eq!(Store::open(&scratch.store, &MAKE).unwrap_err(), error);
        Store::rebuild(&scratch.store).unwrap();
        let store = Store::open(&scratch.store, &USE).unwrap();
        assert_eq!(store.list().unwrap().len(), 2);
    }
}

#[test]
fn a_catalogue_that_says_what_this_version_does_not_know() {
    for (sql, expected) in [
        ("UPDATE volume SET kind = 'tape' WHERE name = 'one'", "tape"),
        (
            "UPDATE volume SET state = 'limbo' WHERE name = 'one'",
            "limbo",
        ),
        ("UPDATE volume SET id = 'x' WHERE name = 'one'", "column id"),
    ] {
        let scratch = Scratch::new();
        let connection = Connection::open(scratch.catalogue()).unwrap();
        connection
            .execute_batch(&format!("PRAGMA ignore_check_constraints = ON; {sql}"))
            .unwrap();
        drop(connection);
        let why = damaged(&scratch.refused(), &scratch.catalogue());
        assert!(
            why.contains("table volume") && why.contains(expected),
            "{why}"
        );
    }
    let scratch = Scratch::new();
    let connection = Connection::open(scratch.catalogue()).unwrap();
    connection
        .execute_batch("PRAGMA user_version = 1000")
        .unwrap();
    drop(connection);
    let text = scratch.refused().to_string();
    assert!(
        text.contains("version 1000") && text.contains("newer volfs"),
        "{text}"
    );
}

#[test]
fn a_rebuilt_catalogue_gives_every_volume_a_name() {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.store, &USE).unwrap();
    let (one, two) = (
        store.get(&name("one")).unwrap(),
        store.get(&name("two")).unwrap(),
    );
    let slots = [one.id, two.id].map(|id| store.list().unwrap().iter().position(|it| it.id == id));
    assert!(slots.iter().all(Option::is_some));
    drop(store);
    let manifest = |path: &Path| path.parent().unwrap().join("volume.json");
    let text = fs::read_to_string(manifest(&two.path)).unwrap();
    fs::write(manifest(&two.path), text.replace("\"two\"", "\"one\"")).unwrap();
    let nameless = scratch
        .store
        .join("volumes")
        .join("0123456789abcdef0123456789abcdef");
    fs::create_dir_all(nameless.join("data")).unwrap();
    fs::remove_file(scratch.catalogue()).unwrap();

    let rebuilt = Store::rebuild(&scratch.store).unwrap();
    let recovered = name("recovered-0123456789abcdef0123456789abcdef");
    assert_eq!(
        rebuilt.renamed,
        [
            (Some(name("one")), name("one-2")),
            (None, recovered.clone())
        ]
    );
    assert_eq!((rebuilt.volumes, rebuilt.kept), (1, None));
    let store = Store::open(&scratch.store, &USE).unwrap();
    assert_eq!(
        store.get(&name("one")).unwrap().id,
        one.id,
        "the older keeps it"
    );
    assert_eq!(store.get(&name("one-2")).unwrap().id, two.id);
    assert!(store.get(&recovered).unwrap().path.is_dir());
    let next = store.create(&VolumeSpec::directory(name("next"))).unwrap();
    assert_eq!(store.list().unwrap()[0].id, next.id);
}

#[test]
fn a_long_name_is_cut_between_two_characters() {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.store, &USE).unwrap();
    Volumes::set(&store, &Setting::Names(NameRule::Any)).unwrap();
    let long = "ü".repeat(127);
    store.create(&VolumeSpec::directory(name(&long))).unwrap();
    let two = store.get(&name("two")).unwrap().path;
    drop(store);
    let manifest = two.parent().unwrap().join("volume.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("two", &long)).unwrap();
    fs::remove_file(scratch.catalogue()).unwrap();

    let rebuilt = Store::rebuild(&scratch.store).unwrap();
    let cut = name(&format!("{}-2", "ü".repeat(126)));
    assert_eq!(rebuilt.renamed, [(Some(name(&long)), cut)]);
    let store = Store::open(&scratch.store, &USE).unwrap();
    assert_eq!(store.settings().unwrap().names, NameRule::Any);
}

#[test]
fn two_stores_at_once() {
    let scratch = Scratch::new();
    let first = Store::open(&scratch.store, &USE).unwrap();
    for options in [&USE, &LOOK] {
        let error = Store::open(&scratch.store, options).unwrap_err();
        let Error::Locked { store, holder } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*store, scratch.store);
        assert!(
            holder.starts_with(&format!("pid {} (", std::process::id())),
            "{holder}"
        );
    }
    assert!(matches!(
        Store::rebuild(&scratch.store),
        Err(Error::Locked { .. })
    ));
    drop(first);
    let readers = [
        Store::open(&scratch.store, &LOOK).unwrap(),
        Store::open(&scratch.store, &LOOK).unwrap(),
    ];
    assert!(matches!(
        Store::open(&scratch.store, &USE),
        Err(Error::Locked { .. })
    ));
    drop(readers);
    Store::open(&scratch.store, &USE).unwrap();
}

#[test]
fn directories_that_are_no_store() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let error = Store::open(&missing, &USE).unwrap_err().to_string();
    assert!(
        error.contains("does not exist") && error.contains("--store"),
        "{error}"
    );
    assert!(!missing.exists());
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(matches!(
        Store::open(&empty, &USE),
        Err(Error::BadStore { .. })
    ));
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("letter"), "").unwrap();
    let error = Store::open(&home, &MAKE).unwrap_err().to_string();
    assert!(error.contains("letter"), "{error}");
    assert_eq!(fs::read_dir(&home).unwrap().count(), 1);
    let file = home.join("letter");
    for options in [&USE, &MAKE, &LOOK] {
        let error = Store::open(&file, options).unwrap_err();
        assert!(error.to_string().contains("not a directory"), "{error}");
    }
    Store::open(&empty, &MAKE).unwrap();
}

/// A copy of a store as a kill leaves it: with a log beside the database.
fn frozen(scratch: &Scratch) -> Scratch {
    let store = Store::open(&scratch.store, &USE).unwrap();
    store.rename(&name("one"), &name("uno")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("frozen");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([&scratch.store, &path])
        .status()
        .unwrap();
    assert!(copied.success());
    let frozen = Scratch {
        _dir: dir,
        store: path,
    };
    assert!(
        fs::metadata(frozen.store.join("meta.db-wal"))
            .unwrap()
            .len()
            > 0
    );
    frozen
}

#[test]
fn all_of_a_damaged_catalogue_is_kept() {
    let scratch = frozen(&Scratch::new());
    let log = fs::read(scratch.store.join("meta.db-wal")).unwrap();
    let header = vec![7; 4096];
    let file = fs::OpenOptions::new()
        .write(true)
        .open(scratch.catalogue())
        .unwrap();
    file.write_all_at(&header, 0).unwrap();
    let rebuilt = Store::rebuild(&scratch.store).unwrap();
    let kept = rebuilt
        .kept
        .unwrap()
        .into_os_string()
        .into_string()
        .unwrap();
    assert!(fs::read(&kept).unwrap().starts_with(&header));
    assert_eq!(fs::read(format!("{kept}-wal")).unwrap(), log);
    let store = Store::open(&scratch.store, &USE).unwrap();
    assert!(store.get(&name("uno")).is_ok() && store.get(&name("two")).is_ok());
}

#[test]
fn looking_changes_nothing() {
    // Something that a start would put right.
    let scratch = frozen(&Scratch::new());
    let stray = "volumes/0123456789abcdef0123456789abcdef";
    fs::create_dir(scratch.store.join(stray)).unwrap();
    let before = scratch.snapshot();
    let store = Store::open(&scratch.store, &LOOK).unwrap();
    assert!(store.get(&name("uno")).is_ok() && store.get(&name("one")).is_err());
    assert!(store.trash().unwrap().iter().all(|it| !it.orphan));
    drop(store);
    assert_eq!(before, scratch.snapshot());
    let store = Store::open(&scratch.store, &USE).unwrap();
    assert!(store.trash().unwrap().iter().any(|it| it.orphan));
}
