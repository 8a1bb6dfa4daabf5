//! What a catalogue says is believed only of the volumes that it knows: older
//! ones, copies, and directories in the wrong place cost nobody a volume.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use volfs::model::{Bytes, Retention, VolumeId, VolumeName, VolumeSpec};
use volfs::volume::{Change, Removal, Store, StoreOptions, VolumeInfo, Volumes};

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn store(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join("store")
    }

    fn open(&self) -> Store {
        open(&self.store())
    }

    fn save_catalogue(&self) {
        fs::copy(self.store().join("meta.db"), self.dir.path().join("backup")).unwrap();
    }

    fn restore_catalogue(&self) {
        fs::copy(self.dir.path().join("backup"), self.store().join("meta.db")).unwrap();
        assert!(!self.store().join("meta.db-wal").exists());
    }
}

fn open(dir: &Path) -> Store {
    let options = StoreOptions {
        create: true,
        read_only: false,
    };
    Store::open(dir, &options).unwrap()
}

/// A volume that holds a file with its own name.
fn make(store: &Store, called: &str) -> VolumeInfo {
    let made = store.create(&VolumeSpec::directory(name(called))).unwrap();
    fs::write(made.path.join("file"), called).unwrap();
    made
}

fn names(store: &Store) -> Vec<String> {
    let mut names: Vec<_> = store
        .list()
        .unwrap()
        .iter()
        .map(|it| it.name.to_string())
        .collect();
    names.sort();
    names
}

fn trashed(store: &Store) -> Vec<String> {
    let trash = store.trash().unwrap();
    trash.iter().map(|it| it.info.name.to_string()).collect()
}

fn content(store: &Store, of: &str) -> String {
    fs::read_to_string(store.get(&name(of)).unwrap().path.join("file")).unwrap()
}

fn home(info: &VolumeInfo) -> PathBuf {
    info.path.parent().unwrap().to_owned()
}

/// As long ago as can be.
fn expire_all(store: &Store) -> usize {
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second: Retention = "1s".parse().unwrap();
    store.expire_trash(second).unwrap()
}

#[track_caller]
fn says(store: &Store, what: &str) {
    let found = store.findings();
    assert!(
        found.iter().any(|it| it.contains(what)),
        "{what}: {found:?}"
    );
}

#[test]
fn an_older_catalogue_costs_no_volume() {
    let scratch = Scratch::new();
    let store = scratch.open();
    for it in ["stays", "renamed", "removed", "restored", "purged"] {
        make(&store, it);
    }
    store.remove(&name("restored"), Removal::Trash).unwrap();
    drop(store);
    scratch.save_catalogue();
    let store = scratch.open();
    assert_eq!(store.findings(), [] as [String; 0]);
    store.rename(&name("renamed"), &name("new-name")).unwrap();
    store.remove(&name("removed"), Removal::Trash).unwrap();
    store.restore("restored", None).unwrap();
    store.remove(&name("purged"), Removal::Purge).unwrap();
    let mut spec = VolumeSpec::directory(name("precious"));
    spec.limits.bytes = Some(Bytes(1 << 20));
    spec.labels.set("team", "x");
    let precious = store.create(&spec).unwrap();
    fs::write(precious.path.join("file"), "precious").unwrap();
    // A new volume with the name of one that the old catalogue has.
    make(&store, "removed");
    let pin = Change {
        pinned: Some(true),
        ..Change::default()
    };
    store.change(&name("stays"), &pin).unwrap();
    while !store.purges().unwrap().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    drop(store);

    scratch.restore_catalogue();
    let store = scratch.open();
    says(&store, "not the one that this store was last used with");
    says(&store, "precious");
    assert_eq!(
        names(&store),
        [
            "new-name", "precious", "purged", "removed", "restored", "stays"
        ]
    );
    assert_eq!(trashed(&store), ["removed"]);
    let found = store.get(&name("precious")).unwrap();
    assert_eq!((found.id, found.limits), (precious.id, spec.limits));
    assert_eq!(found.labels.get("team"), Some("x"));
    assert!(store.get(&name("stays")).unwrap().pinned);
    for it in ["precious", "removed", "restored", "stays"] {
        assert_eq!(content(&store, it), it);
    }
    // Of the one that is gone there is a name, and it says so.
    let gone = store.volume(&name("purged")).unwrap();
    assert!(store.check_files(&gone).is_err());
    // Usage that it claims is not believed.
    assert_eq!(store.needs_recount().len(), 6);
    drop(store);
    let store = scratch.open();
    // It is the current one now; only what is gone is missed.
    assert_eq!(store.findings().len(), 1, "{:?}", store.findings());
    says(&store, "\"purged\" are missing");
    assert_eq!(names(&store).len(), 6);
    // New volumes come after all.
    let last = make(&store, "last");
    assert_eq!(store.list().unwrap()[0].id, last.id);
}

#[test]
fn nothing_expires_on_the_word_of_an_older_catalogue() {
    let scratch = Scratch::new();
    let store = scratch.open();
    make(&store, "there");
    store.remove(&name("there"), Removal::Trash).unwrap();
    drop(store);
    scratch.save_catalogue();
    let store = scratch.open();
    store.restore("there", None).unwrap();
    make(&store, "other");
    drop(store);
    scratch.restore_catalogue();
    let store = scratch.open();
    assert_eq!(expire_all(&store), 0);
    assert_eq!(names(&store), ["other", "there"]);

    // One that is in the trash stays as long as if it were removed now.
    store.remove(&name("there"), Removal::Trash).unwrap();
    drop(store);
    scratch.save_catalogue();
    drop({
        let store = scratch.open();
        make(&store, "more");
        store
    });
    std::thread::sleep(std::time::Duration::from_millis(2100));
    scratch.restore_catalogue();
    let store = scratch.open();
    let two: Retention = "2s".parse().unwrap();
    assert_eq!(store.expire_trash(two).unwrap(), 0);
    assert_eq!(trashed(&store), ["there"]);
}

#[test]
fn an_orphan_stays_until_somebody_decides() {
    let scratch = Scratch::new();
    drop(scratch.open());
    let id = VolumeId::random();
    let orphan = scratch.store().join("volumes").join(id.to_string());
    fs::create_dir_all(orphan.join("data")).unwrap();
    fs::write(orphan.join("data/file"), "theirs").unwrap();
    let store = scratch.open();
    says(&store, "no volume.json of its own");
    assert_eq!(expire_all(&store), 0);
    assert_eq!(trashed(&store), [format!("orphan-{id}")]);
    let back = store
        .restore(&id.to_string(), Some(&name("theirs")))
        .unwrap();
    assert_eq!(
        fs::read_to_string(back.path.join("file")).unwrap(),
        "theirs"
    );
    // Who has removed it himself wants it gone.
    store.remove(&name("theirs"), Removal::Trash).unwrap();
    assert_eq!(expire_all(&store), 1);
}

#[test]
fn a_volume_that_the_catalogue_does_not_know_is_one() {
    // From another store, by hand.
    let (from, to) = (Scratch::new(), Scratch::new());
    let theirs = {
        let store = from.open();
        make(&store, "first");
        make(&store, "same");
        let it = make(&store, "theirs");
        store.remove(&name("first"), Removal::Trash).unwrap();
        (
            it,
            store.get(&name("same")).unwrap(),
            store.trash().unwrap()[0].info.clone(),
        )
    };
    drop({
        let store = to.open();
        make(&store, "same");
        store
    });
    for (info, place) in [
        (&theirs.0, "volumes"),
        (&theirs.1, "volumes"),
        (&theirs.2, "trash"),
    ] {
        let target = to.store().join(place).join(info.id.to_string());
        fs::rename(home(info), target).unwrap();
    }
    let store = to.open();
    assert_eq!(names(&store), ["same", "same-2", "theirs"]);
    assert_eq!(store.get(&name("same-2")).unwrap().id, theirs.1.id);
    assert_eq!(store.get(&name("theirs")).unwrap().id, theirs.0.id);
    says(
        &store,
        "\"same-2\" now, because another volume has its name",
    );
    assert_eq!(trashed(&store), ["first"]);
    assert_eq!(store.needs_recount().len(), 2);
    store.restore("first", None).unwrap();
    assert_eq!(content(&store, "first"), "first");
    drop(store);
    assert_eq!(to.open().findings(), [] as [String; 0]);
    // And a catalogue that is made anew says the same.
    let rebuilt = Store::rebuild(&to.store()).unwrap();
    assert_eq!(
        (rebuilt.volumes, rebuilt.trashed, rebuilt.renamed.len()),
        (4, 0, 0)
    );
    assert_eq!(to.open().findings(), [] as [String; 0]);
}

#[test]
fn what_was_being_made_takes_no_name() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let made = make(&store, "v");
    drop(store);
    let finished = fs::metadata(home(&made)).unwrap().permissions().mode();
    assert_eq!(finished & 0o7777, 0o700);
    // As it is between the move and the commit of the row; `store_crash` kills
    // a process there.
    let sqlite = rusqlite::Connection::open(scratch.store().join("meta.db")).unwrap();
    sqlite.execute("DELETE FROM volume", []).unwrap();
    drop(sqlite);
    fs::set_permissions(home(&made), fs::Permissions::from_mode(0o1700)).unwrap();
    let store = scratch.open();
    assert!(names(&store).is_empty());
    assert_eq!(trashed(&store), [format!("orphan-{}", made.id)]);
    says(&store, "was being made");
    let back = store
        .restore(&made.id.to_string(), Some(&name("v")))
        .unwrap();
    assert_eq!(fs::read_to_string(back.path.join("file")).unwrap(), "v");
}

#[test]
fn directories_that_were_exchanged_go_back() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let (a, b, c) = (make(&store, "a"), make(&store, "b"), make(&store, "c"));
    let size = Bytes(16 << 20);
    let disk = store.create(&VolumeSpec::disk(name("d"), size)).unwrap();
    drop(store);
    let aside = scratch.dir.path().join("aside");
    // a circle of four, a disk volume among them
    fs::rename(home(&a), &aside).unwrap();
    fs::rename(home(&b), home(&a)).unwrap();
    fs::rename(home(&c), home(&b)).unwrap();
    fs::rename(home(&disk), home(&c)).unwrap();
    fs::rename(&aside, home(&disk)).unwrap();
    let store = scratch.open();
    says(&store, "had been exchanged");
    for it in ["a", "b", "c"] {
        assert_eq!(content(&store, it), it);
    }
    store
        .check_files(&store.volume(&name("d")).unwrap())
        .unwrap();
    // They are the same files: what is known of them is still true.
    assert!(store.needs_recount().is_empty());
    assert!(!store.get(&name("d")).unwrap().disk.unwrap().guest_written);
    drop(store);

    // A directory under the id of another, which is away.
    fs::rename(home(&a), &aside).unwrap();
    fs::rename(home(&b), home(&a)).unwrap();
    let store = scratch.open();
    assert_eq!(content(&store, "b"), "b");
    assert!(
        store
            .check_files(&store.volume(&name("a")).unwrap())
            .is_err()
    );
    drop(store);

    // A copy under the id of another is not shown as that.
    let copied = Command::new("cp")
        .arg("-a")
        .args([home(&b), home(&a)])
        .status();
    assert!(copied.unwrap().success());
    let store = scratch.open();
    says(&store, "was a copy of that of volume");
    assert_eq!(content(&store, "b"), "b");
    assert!(
        store
            .check_files(&store.volume(&name("a")).unwrap())
            .is_err()
    );
    assert_eq!(store.trash().unwrap().len(), 1);
    assert!(store.trash().unwrap()[0].orphan);
    drop(store);
    fs::rename(&aside, home(&a)).unwrap();
    let store = scratch.open();
    assert_eq!(content(&store, "a"), "a");
    assert_eq!(store.findings(), [] as [String; 0]);
}

#[test]
fn files_that_were_restored_are_counted() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let (a, _) = (make(&store, "a"), make(&store, "b"));
    let size = Bytes(16 << 20);
    let disk = store.create(&VolumeSpec::disk(name("d"), size)).unwrap();
    drop(store);
    let data = home(&a).join("data");
    let image = home(&disk).join("disk.raw");
    for (file, copy) in [(&data, "data.copy"), (&image, "disk.copy")] {
        let copy = scratch.dir.path().join(copy);
        let copied = Command::new("cp").arg("-a").arg(file).arg(&copy).status();
        assert!(copied.unwrap().success());
        let removed = Command::new("rm").arg("-r").arg(file).status();
        assert!(removed.unwrap().success());
        let moved = Command::new("cp").arg("-a").arg(&copy).arg(file).status();
        assert!(moved.unwrap().success());
    }
    let store = scratch.open();
    says(&store, "the files of a, d are not those");
    let uncounted: Vec<_> = store.needs_recount().iter().map(|it| it.name()).collect();
    assert_eq!(uncounted, [name("a")]);
    assert!(store.get(&name("d")).unwrap().disk.unwrap().guest_written);
}

#[test]
fn a_copy_of_a_store_is_known_as_one() {
    let scratch = Scratch::new();
    let store = scratch.open();
    make(&store, "a");
    let size = Bytes(16 << 20);
    store.create(&VolumeSpec::disk(name("d"), size)).unwrap();
    drop(store);
    let copy = scratch.dir.path().join("copy");
    let copied = Command::new("cp")
        .arg("-a")
        .args([&scratch.store(), &copy])
        .status();
    assert!(copied.unwrap().success());
    let store = open(&copy);
    says(&store, "is a copy");
    assert_eq!(store.needs_recount().len(), 1);
    // The catalogue came with the image: what it says of it is as true.
    assert!(!store.get(&name("d")).unwrap().disk.unwrap().guest_written);
    assert_eq!(content(&store, "a"), "a");
    drop(store);
    assert_eq!(open(&copy).findings(), [] as [String; 0]);
    assert_eq!(scratch.open().findings(), [] as [String; 0]);
    // A store that is moved is the same one.
    let moved = scratch.dir.path().join("moved");
    fs::rename(scratch.store(), &moved).unwrap();
    assert_eq!(open(&moved).findings(), [] as [String; 0]);
}

#[test]
fn an_older_catalogue_is_no_reason_to_trust_an_image() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let size = Bytes(16 << 20);
    store.create(&VolumeSpec::disk(name("d"), size)).unwrap();
    drop(store);
    scratch.save_catalogue();
    let store = scratch.open();
    let disk = store.volume(&name("d")).unwrap();
    store.set_guest_written(&disk, true).unwrap();
    drop(disk);
    drop(store);
    scratch.restore_catalogue();
    let store = scratch.open();
    assert!(store.get(&name("d")).unwrap().disk.unwrap().guest_written);
}
