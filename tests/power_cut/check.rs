//! A disk with a store, mounted; and what is found on it after a power cut.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::DISK_BYTES;
use crate::model::{Change, History, Kind, State, Volume, expected};
use crate::support::{TestDir, Volfs, output, poll, proc, run};

/// An ext4 on which a store is to be.
pub struct Disk {
    image: PathBuf,
    fs: PathBuf,
    mountpoint: PathBuf,
    scratch: PathBuf,
}

/// A store on a disk, and its mount.
pub struct World {
    pub volfs: Volfs,
    pub mountpoint: PathBuf,
    /// A directory elsewhere.
    pub scratch: PathBuf,
    fs: PathBuf,
}

impl Disk {
    pub fn new(dir: &TestDir) -> Self {
        let image = dir.join("image");
        File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
        run(Command::new("mkfs.ext4")
            .args(["-qF", "-E", "lazy_itable_init=0,lazy_journal_init=0"])
            .arg(&image));
        Self {
            image,
            fs: dir.mkdir("fs"),
            mountpoint: dir.mkdir("mnt"),
            scratch: dir.mkdir("scratch"),
        }
    }

    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Mounts the disk in `file`, and the store on it, for `act`.
    pub fn with_store<T>(&self, file: &Path, act: impl FnOnce(&World) -> T) -> T {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .args([file, &self.fs]));
        let world = World {
            volfs: Volfs::new(&self.fs.join("store")),
            mountpoint: self.mountpoint.clone(),
            scratch: self.scratch.clone(),
            fs: self.fs.clone(),
        };
        world.volfs.ok(&[Path::new("mount"), &world.mountpoint]);
        let result = act(&world);
        world.volfs.ok(&[Path::new("umount"), &world.mountpoint]);
        world.images_are_clean();
        result
    }
}

impl World {
    /// The disk volumes as e2fsck sees them.
    fn images_are_clean(&self) {
        for place in ["volumes", "trash"] {
            for entry in fs::read_dir(self.volfs.store().join(place)).unwrap() {
                let image = entry.unwrap().path().join("disk.raw");
                if image.exists() {
                    let out = output(
                        Command::new("e2fsck")
                            .args(["-fn", "-E", "journal_only"])
                            .arg(&image),
                    );
                    let out = if out.status.success() {
                        output(Command::new("e2fsck").arg("-fn").arg(&image))
                    } else {
                        out
                    };
                    assert!(out.status.success(), "{image:?}: {out:?}");
                }
            }
        }
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.volfs.ok(&[arguments, &["--json"]].concat());
        match serde_json::from_str(&text) {
            Ok(Value::Array(all)) => all,
            other => panic!("{arguments:?}: {other:?}"),
        }
    }

    /// The volumes and what they hold. Files that are not as the expected one's are left out.
    fn found(&self, worker: &str) -> (BTreeMap<String, Value>, BTreeMap<String, Value>) {
        let of_worker = |all: Vec<Value>, info: fn(&Value) -> &Value| {
            all.iter()
                .map(|entry| {
                    (
                        info(entry)["name"].as_str().unwrap().to_owned(),
                        info(entry).clone(),
                    )
                })
                .filter(|(name, _)| name.starts_with(worker))
                .collect()
        };
        (
            of_worker(self.json(&["ls"]), |entry| entry),
            of_worker(self.json(&["trash", "ls"]), |entry| &entry["info"]),
        )
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.volfs.store().join("daemon.log"));
            eprintln!("--- the daemon said ---\n{}---", log.unwrap_or_default());
        }
        if proc::mount_on(&self.mountpoint).is_some() {
            let _ = self
                .volfs
                .run(&[Path::new("umount"), Path::new("--lazy"), &self.mountpoint]);
        }
        let unmounted = || nix::mount::umount(&self.fs).is_ok().then_some(());
        if poll(Duration::from_secs(20), unmounted).is_none() {
            eprintln!("{:?} is busy", self.fs);
        }
    }
}

/// Compares what is there with what was acknowledged when the power went, at point `at`.
pub fn compare(world: &World, history: &History, at: usize) {
    for (number, worker) in history.workers.iter().enumerate() {
        let (before, under_way) = expected(worker, at);
        let (live, trash) = world.found(&format!("w{number}-"));
        let mut wrong = differences(
            world,
            &before,
            under_way.as_ref().map(|(c, _)| c),
            &live,
            &trash,
        );
        if let (false, Some((change, after))) = (wrong.is_empty(), &under_way) {
            let also = differences(world, after, Some(change), &live, &trash);
            if also.is_empty() {
                wrong.clear();
            } else {
                wrong.push(format!("and if {change:?} was done: {also:?}"));
            }
        }
        assert!(
            wrong.is_empty(),
            "power cut at {at}, worker {number}, {under_way:?}: {wrong:#?}",
            under_way = under_way.map(|(change, _)| change)
        );
    }
    let store = world.volfs.store();
    let tmp = || {
        fs::read_dir(store.join("tmp"))
            .unwrap()
            .next()
            .is_none()
            .then_some(())
    };
    assert!(
        poll(Duration::from_secs(20), tmp).is_some(),
        "power cut at {at}: tmp/ is not empty"
    );
    let verified = || (world.volfs.run(&["verify"]).code == Some(0)).then_some(());
    let verified = poll(Duration::from_secs(20), verified);
    assert!(
        verified.is_some(),
        "power cut at {at}: {}",
        world.volfs.run(&["verify"]).out
    );
}

/// What is not as in `state`; what `under_way` writes may be as it likes.
fn differences(
    world: &World,
    state: &State,
    under_way: Option<&Change>,
    live: &BTreeMap<String, Value>,
    trash: &BTreeMap<String, Value>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (what, expected, found) in [("live", &state.live, live), ("trash", &state.trash, trash)] {
        let names: Vec<_> = expected.keys().collect();
        if names != found.keys().collect::<Vec<_>>() {
            wrong.push(format!("{what}: {:?} and not {names:?}", found.keys()));
            continue;
        }
        for (name, volume) in expected {
            properties(name, volume, &found[name], &mut wrong);
        }
    }
    if wrong.is_empty() {
        for (name, volume) in &state.live {
            contents(&world.mountpoint.join(name), volume, under_way, &mut wrong);
        }
    }
    wrong
}

fn properties(name: &str, volume: &Volume, found: &Value, wrong: &mut Vec<String>) {
    let label = found["labels"].to_string();
    if volume
        .label
        .as_ref()
        .is_some_and(|value| !label.contains(&format!("\"{value}\"")))
    {
        wrong.push(format!("{name}: labels {label}, not {:?}", volume.label));
    }
    let quota = found["limits"]["bytes"].as_u64();
    match volume.kind {
        Kind::Directory { quota: expected } if quota != expected => {
            wrong.push(format!("{name}: limit {quota:?}, not {expected:?}"));
        }
        Kind::Directory { .. } | Kind::Disk => {}
    }
}

fn contents(dir: &Path, volume: &Volume, under_way: Option<&Change>, wrong: &mut Vec<String>) {
    for (file, content) in &volume.files {
        match fs::read(dir.join(file)) {
            Ok(bytes) if bytes == content.bytes() => {}
            Ok(bytes) => wrong.push(format!("{dir:?}/{file}: {} other bytes", bytes.len())),
            Err(error) => wrong.push(format!("{dir:?}/{file}: {error}")),
        }
    }
    let begun = match under_way {
        Some(Change::Write { file, .. }) => Some(file.as_str()),
        _ => None,
    };
    for entry in fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let expected =
            volume.files.contains_key(&name) || begun == Some(&name) || name == "lost+found";
        if !expected {
            wrong.push(format!("{dir:?}/{name} was never written"));
        }
    }
}
