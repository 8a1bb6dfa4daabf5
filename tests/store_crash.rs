//! Kills a process that changes a store at every point where a change can be
//! cut, and looks at what the next start makes of it.
//!
//! Needs the feature `failpoints`; the process is this test binary again.
#![cfg(feature = "failpoints")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use volfs::model::{VolumeId, VolumeName, VolumeSpec};
use volfs::volume::{Removal, Store, StoreOptions, Volumes};

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

fn open(dir: &Path) -> Store {
    let options = StoreOptions {
        create: true,
        read_only: false,
    };
    Store::open(dir, &options).unwrap()
}

/// Waits until all is deleted that is to be.
fn wait_for_purges(store: &Store) {
    let start = std::time::Instant::now();
    while !store.purges().unwrap().is_empty() {
        assert!(start.elapsed().as_secs() < 20, "{:?}", store.purges());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// What the child does, by the words of its command.
fn perform(store: &Store, words: &[&str]) {
    match *words {
        ["create", new] => drop(store.create(&VolumeSpec::directory(name(new))).unwrap()),
        ["rename", old, new] => drop(store.rename(&name(old), &name(new)).unwrap()),
        ["exchange", a, b] => store.exchange(&name(a), &name(b)).unwrap(),
        ["rmdir", old] => store.remove(&name(old), Removal::Empty).unwrap(),
        ["rm", old] => store.remove(&name(old), Removal::Trash).unwrap(),
        ["purge", old] => {
            store.remove(&name(old), Removal::Purge).unwrap();
            wait_for_purges(store);
        }
        ["restore", old, new] => drop(store.restore(old, Some(&name(new))).unwrap()),
        ["empty-trash"] => {
            store.empty_trash(None).unwrap();
            wait_for_purges(store);
        }
        _ => panic!("{words:?}"),
    }
}

/// The process that is killed. Run by the tests below, never by itself.
#[test]
#[ignore = "is started by the other tests"]
fn child() {
    let store = open(&PathBuf::from(std::env::var_os("CRASH_STORE").unwrap()));
    let commands = std::env::var("CRASH_COMMANDS").unwrap();
    let mut acknowledge = std::io::stderr();
    for command in commands.split(';') {
        perform(&store, &command.split(' ').collect::<Vec<_>>());
        writeln!(acknowledge, "done {command}").unwrap();
    }
}

fn start(store: &Path, commands: &str, failpoint: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .env("CRASH_STORE", store)
        .env("CRASH_COMMANDS", commands)
        .env("VOLFS_FAILPOINT", failpoint)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

struct Scene {
    _dir: tempfile::TempDir,
    store: PathBuf,
    foreign: VolumeId,
}

impl Scene {
    /// A store with volumes in all states of life, and two directories in
    /// `volumes/` that belong to somebody else.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = open(&path);
        for new in ["keep", "full", "empty", "gone"] {
            let made = store.create(&VolumeSpec::directory(name(new))).unwrap();
            if new != "empty" {
                fs::create_dir(made.path.join("dir")).unwrap();
                fs::write(made.path.join("dir/file"), new).unwrap();
            }
        }
        store.remove(&name("gone"), Removal::Trash).unwrap();
        drop(store);
        let foreign = VolumeId::random();
        for theirs in [foreign.to_string(), "not-an-id".to_owned()] {
            fs::create_dir_all(path.join("volumes").join(&theirs).join("data")).unwrap();
            fs::write(path.join("volumes").join(&theirs).join("precious"), "").unwrap();
        }
        Self {
            _dir: dir,
            store: path,
            foreign,
        }
    }

    fn kill_at(&self, command: &str, failpoint: &str) {
        let output = start(&self.store, command, failpoint)
            .wait_with_output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(9), "{failpoint}: {said}");
    }

    /// Opens the store, and checks what must be true after every crash.
    fn reopen(&self) -> Store {
        let store = open(&self.store);
        agreement(&store);
        let theirs = self.store.join("volumes/not-an-id/precious");
        assert!(theirs.exists(), "somebody else's directory is gone");
        let orphan = format!("orphan-{}", self.foreign);
        let trash = store.trash().unwrap();
        if let Some(it) = trash.iter().find(|it| it.info.name.as_str() == orphan) {
            assert!(it.orphan);
            let home = it.info.path.parent().unwrap();
            assert!(home.join("precious").exists(), "an orphan lost its files");
        } else {
            panic!("the directory without a row is not in the trash: {trash:?}");
        }
        let kept = store.get(&name("keep")).unwrap();
        assert_eq!(
            fs::read_to_string(kept.path.join("dir/file")).unwrap(),
            "keep"
        );
        store
    }
}

/// Catalogue and directories say the same.
fn agreement(store: &Store) {
    wait_for_purges(store);
    let entries = |place: &str| -> BTreeSet<String> {
        fs::read_dir(store.dir().join(place))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|entry| entry != "not-an-id" && entry != ".lineage")
            .collect()
    };
    let live = store.list().unwrap();
    let ids =
        |ids: Vec<VolumeId>| -> BTreeSet<String> { ids.iter().map(ToString::to_string).collect() };
    assert_eq!(
        entries("volumes"),
        ids(live.iter().map(|it| it.id).collect())
    );
    let trash = store.trash().unwrap();
    assert_eq!(
        entries("trash"),
        ids(trash.iter().map(|it| it.info.id).collect())
    );
    assert_eq!(entries("tmp"), BTreeSet::new());
    for it in &live {
        assert!(it.path.is_dir(), "{it:?}");
        let manifest = it.path.parent().unwrap().join("volume.json");
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        assert_eq!(manifest["name"], it.name.as_str());
        assert_eq!(manifest["id"], it.id.to_string());
        assert_eq!(store.volume(&it.name).unwrap().id, it.id);
    }
    assert!(store.check_manifests().unwrap().is_empty());
}

fn live(store: &Store) -> BTreeSet<String> {
    let list = store.list().unwrap();
    list.iter().map(|it| it.name.to_string()).collect()
}

fn trashed(store: &Store) -> BTreeSet<String> {
    let trash = store.trash().unwrap();
    trash
        .iter()
        .map(|it| it.info.name.to_string())
        .filter(|name| !name.starts_with("orphan-"))
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

fn content(store: &Store, of: &str) -> String {
    let path = store.get(&name(of)).unwrap().path;
    fs::read_to_string(path.join("dir/file")).unwrap()
}

#[test]
fn create() {
    for (failpoint, made) in [
        ("create.built", false),
        ("create.renamed", false),
        ("create.committed", true),
    ] {
        let scene = Scene::new();
        scene.kill_at("create new", failpoint);
        let store = scene.reopen();
        assert_eq!(live(&store).contains("new"), made, "{failpoint}");
        assert_eq!(live(&store).len(), 3 + usize::from(made), "{failpoint}");
        assert_eq!(trashed(&store), set(&["gone"]));
        // What was not made does not block its name.
        if !made {
            store.create(&VolumeSpec::directory(name("new"))).unwrap();
        }
        let orphans = store.trash().unwrap().iter().filter(|it| it.orphan).count();
        let expected = if failpoint == "create.renamed" { 2 } else { 1 };
        assert_eq!(orphans, expected, "{failpoint}");
    }
}

#[test]
fn rename() {
    for failpoint in ["rename.committed", "rename.manifest"] {
        let scene = Scene::new();
        scene.kill_at("rename full new", failpoint);
        let store = scene.reopen();
        assert_eq!(live(&store), set(&["keep", "new", "empty"]), "{failpoint}");
        assert_eq!(content(&store, "new"), "full");
        store.create(&VolumeSpec::directory(name("full"))).unwrap();

        let scene = Scene::new();
        scene.kill_at("exchange full empty", failpoint);
        let store = scene.reopen();
        assert_eq!(live(&store), set(&["keep", "full", "empty"]), "{failpoint}");
        assert_eq!(content(&store, "empty"), "full");
    }
}

#[test]
fn remove_to_the_trash() {
    for failpoint in ["remove.committed", "remove.moved"] {
        let scene = Scene::new();
        scene.kill_at("rm full", failpoint);
        let store = scene.reopen();
        assert_eq!(live(&store), set(&["keep", "empty"]), "{failpoint}");
        assert_eq!(trashed(&store), set(&["full", "gone"]), "{failpoint}");
        store.restore("full", None).unwrap();
        assert_eq!(content(&store, "full"), "full");
    }
}

#[test]
fn remove_for_good() {
    for (command, left) in [
        ("purge full", ["keep", "empty"]),
        ("rmdir empty", ["keep", "full"]),
    ] {
        for failpoint in ["remove.committed", "remove.moved", "remove.purged"] {
            let scene = Scene::new();
            scene.kill_at(command, failpoint);
            let store = scene.reopen();
            assert_eq!(live(&store), set(&left), "{command} {failpoint}");
            assert_eq!(trashed(&store), set(&["gone"]), "{command} {failpoint}");
        }
    }
}

#[test]
fn a_file_raced_into_an_empty_volume_is_not_lost() {
    for (failpoint, place) in [("remove.committed", "volumes"), ("remove.moved", "trash")] {
        let scene = Scene::new();
        let store = open(&scene.store);
        let id = store.get(&name("empty")).unwrap().id.to_string();
        drop(store);
        scene.kill_at("rmdir empty", failpoint);
        fs::write(scene.store.join(place).join(id).join("data/raced"), "").unwrap();
        let store = scene.reopen();
        assert_eq!(trashed(&store), set(&["empty", "gone"]), "{failpoint}");
        let back = store.restore("empty", None).unwrap();
        assert!(back.path.join("raced").exists());
    }
}

#[test]
fn restore() {
    for failpoint in ["restore.committed", "restore.moved"] {
        let scene = Scene::new();
        scene.kill_at("restore gone back", failpoint);
        let store = scene.reopen();
        assert_eq!(live(&store), set(&["keep", "full", "empty", "back"]));
        assert_eq!(content(&store, "back"), "gone");
        assert_eq!(trashed(&store), set(&[]), "{failpoint}");
    }
}

#[test]
fn empty_the_trash() {
    for failpoint in ["trash.purge", "remove.purged"] {
        let scene = Scene::new();
        // Not the orphan's: that one is found by the child itself.
        let store = open(&scene.store);
        let orphan = format!("orphan-{}", scene.foreign);
        store.restore(&orphan, Some(&name("theirs"))).unwrap();
        drop(store);
        scene.kill_at("empty-trash", failpoint);
        let store = open(&scene.store);
        agreement(&store);
        assert_eq!(trashed(&store), set(&[]), "{failpoint}");
        assert_eq!(live(&store), set(&["keep", "full", "empty", "theirs"]));
    }
}

#[test]
fn what_the_start_does_can_itself_be_cut() {
    // What is cut first, and where the start that would finish it is cut.
    for (command, first, then) in [
        ("create new", "create.built", "start.cleared"),
        ("create new", "create.renamed", "start.adopted"),
        ("rm full", "remove.committed", "start.moved"),
        ("purge full", "remove.committed", "start.moved"),
        ("purge full", "remove.moved", "start.deleted"),
        ("rmdir empty", "remove.committed", "start.moved"),
        ("rmdir empty", "remove.moved", "start.deleted"),
        ("restore gone back", "restore.committed", "start.moved"),
    ] {
        let scene = Scene::new();
        // The first start takes in the directory that has no row.
        drop(scene.reopen());
        scene.kill_at(command, first);
        scene.kill_at("create never", then);
        let store = scene.reopen();
        let words: Vec<_> = command.split(' ').collect();
        let mut expected = Model {
            live: set(&["keep", "full", "empty"]),
            trash: set(&["gone"]),
        };
        if words[0] != "create" {
            expected.step(&words);
        }
        assert_eq!(Model::of(&store), expected, "{command} {first} {then}");
    }
}

/// Names that lead to volumes, and names in the trash, as the acknowledged
/// commands have made them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    live: BTreeSet<String>,
    trash: BTreeSet<String>,
}

impl Model {
    fn step(&mut self, words: &[&str]) {
        match *words {
            ["create", new] => drop(self.live.insert(new.into())),
            ["rename", old, new] => {
                self.live.remove(old);
                self.live.insert(new.into());
            }
            ["rmdir" | "purge", old] => drop(self.live.remove(old)),
            ["rm", old] => {
                self.live.remove(old);
                self.trash.insert(old.into());
            }
            ["restore", old, new] => {
                self.trash.remove(old);
                self.live.insert(new.into());
            }
            ["empty-trash"] => self.trash.clear(),
            _ => panic!("{words:?}"),
        }
    }

    fn of(store: &Store) -> Self {
        Self {
            live: live(store),
            trash: trashed(store),
        }
    }
}

fn script(round: usize) -> Vec<String> {
    let mut commands = Vec::new();
    for number in 0..20 {
        let it = format!("v{round}-{number}");
        commands.push(format!("create {it}"));
        match number % 6 {
            0 => commands.push(format!("rename {it} {it}-renamed")),
            1 => commands.push(format!("rmdir {it}")),
            2 => commands.push(format!("rm {it}")),
            3 => {
                commands.push(format!("rm {it}"));
                commands.push(format!("restore {it} {it}-restored"));
            }
            4 => commands.push(format!("purge {it}")),
            _ => commands.push("empty-trash".to_owned()),
        }
    }
    commands
}

#[test]
fn killed_anywhere_nothing_finished_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut model = Model::default();
    for round in 0..24 {
        let commands = script(round);
        let mut child = start(&path, &commands.join(";"), "none");
        // Killed while it goes on, after so many acknowledgements.
        let enough = (round * 7) % commands.len();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut done = 0;
        while done < enough {
            match lines.next() {
                Some(line) if line.as_ref().unwrap().starts_with("done ") => done += 1,
                Some(_) => {}
                None => panic!("the child ended after {done} commands"),
            }
        }
        child.kill().unwrap();
        // What was acknowledged between the last line read and the kill.
        done += lines
            .map_while(Result::ok)
            .filter(|line| line.starts_with("done "))
            .count();
        child.wait().unwrap();
        for command in &commands[..done] {
            model.step(&command.split(' ').collect::<Vec<_>>());
        }
        let store = open(&path);
        agreement(&store);
        let found = Model::of(&store);
        let mut next = model.clone();
        if let Some(command) = commands.get(done) {
            next.step(&command.split(' ').collect::<Vec<_>>());
        }
        assert!(
            found == model || found == next,
            "round {round}, {done} done: {found:?} is neither {model:?} nor {next:?}"
        );
        model = found;
    }
}
