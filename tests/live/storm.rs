//! A storm of changes of names, checked step by step against a model, and of
//! contents, while the serving process is killed at random moments. No step may
//! fail or answer wrongly, nothing may be lost or done twice, usage is exact.
//!
//! `VOLFS_LONG=1` kills 200 times a row.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::killing::{StopOnPanic, killing, kills, report};
use crate::support::random::Random;
use crate::support::{Mount, tree, wait_for};

/// What a name leads to: a directory, or a file by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(usize),
}

/// A directory and what must be in it.
struct Model {
    dir: PathBuf,
    names: BTreeMap<String, Node>,
    /// Names of each file, and its contents.
    files: Vec<(usize, Vec<u8>)>,
    open: Vec<(File, usize)>,
    random: Random,
    steps: u64,
}

impl Model {
    fn new(dir: PathBuf, seed: u64) -> Self {
        fs::create_dir(&dir).unwrap();
        Self {
            dir,
            names: BTreeMap::new(),
            files: Vec::new(),
            open: Vec::new(),
            random: Random::new(seed),
            steps: 0,
        }
    }

    fn name(&mut self) -> String {
        format!("n{}", self.random.below(24))
    }

    fn contents(&mut self) -> Vec<u8> {
        let len = self.random.below(3) * 5000 + self.random.below(100);
        let seed = self.random.below(256) as u8;
        (0..len)
            .map(|n| (n as u8).wrapping_mul(31) ^ seed)
            .collect()
    }

    fn unlinked(&mut self, node: Node) {
        if let Node::File(file) = node {
            self.files[file].0 -= 1;
        }
    }

    /// One step: done, and answered as the model says.
    fn step(&mut self) {
        self.steps += 1;
        let (a, b) = (self.name(), self.name());
        let (path, other) = (self.dir.join(&a), self.dir.join(&b));
        let (at, to) = (self.names.get(&a).copied(), self.names.get(&b).copied());
        let what = format!("step {} {a} {at:?} {b} {to:?}", self.steps);
        match self.random.below(10) {
            0 => {
                let made = fs::create_dir(&path);
                self.expect(
                    &what,
                    made,
                    at.is_some().then_some(ErrorKind::AlreadyExists),
                );
                if at.is_none() {
                    self.names.insert(a, Node::Dir);
                }
            }
            1 | 2 => {
                let made = File::options()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .open(&path);
                match (made, at) {
                    (Ok(file), None) => {
                        let contents = self.contents();
                        file.write_all_at(&contents, 0)
                            .unwrap_or_else(|e| panic!("{what}: {e}"));
                        self.files.push((1, contents));
                        let number = self.files.len() - 1;
                        self.names.insert(a, Node::File(number));
                        if self.open.len() < 8 {
                            self.open.push((file, number));
                        }
                    }
                    (Err(error), Some(_)) if error.kind() == ErrorKind::AlreadyExists => {}
                    (other, _) => panic!("{what}: create: {other:?}"),
                }
            }
            3 => {
                let wanted = match at {
                    None => Some(ErrorKind::NotFound),
                    Some(Node::Dir) => Some(ErrorKind::IsADirectory),
                    Some(Node::File(_)) => None,
                };
                self.expect(&what, fs::remove_file(&path), wanted);
                if let Some(Node::File(_)) = at {
                    self.names.remove(&a);
                    self.unlinked(at.unwrap());
                }
            }
            4 => {
                let wanted = match at {
                    None => Some(ErrorKind::NotFound),
                    Some(Node::File(_)) => Some(ErrorKind::NotADirectory),
                    Some(Node::Dir) => None,
                };
                self.expect(&what, fs::remove_dir(&path), wanted);
                if at == Some(Node::Dir) {
                    self.names.remove(&a);
                }
            }
            5 => {
                let linked = fs::hard_link(&path, &other);
                match (at, to) {
                    (Some(Node::File(file)), None) => {
                        self.expect(&what, linked, None);
                        self.files[file].0 += 1;
                        self.names.insert(b, Node::File(file));
                    }
                    _ => assert!(linked.is_err(), "{what}: link"),
                }
            }
            6 => self.rename(&what, (a, at, &path), (b, to, &other)),
            7 => {
                let flags = RenameFlags::RENAME_EXCHANGE;
                let done = renameat2(AT_FDCWD, &path, AT_FDCWD, &other, flags);
                match (at, to) {
                    (Some(x), Some(y)) => {
                        assert_eq!(done, Ok(()), "{what}: exchange");
                        self.names.insert(a, y);
                        self.names.insert(b, x);
                    }
                    _ => assert_eq!(done, Err(nix::errno::Errno::ENOENT), "{what}"),
                }
            }
            8 => self.append(&what),
            _ => self.look(&what, &path, at),
        }
    }

    fn expect<T>(&self, what: &str, got: std::io::Result<T>, wanted: Option<ErrorKind>) {
        let got = got.err().map(|error| error.kind());
        assert_eq!(got, wanted, "{what}");
    }

    fn rename(
        &mut self,
        what: &str,
        (a, at, path): (String, Option<Node>, &Path),
        (b, to, other): (String, Option<Node>, &Path),
    ) {
        let done = fs::rename(path, other);
        match (at, to) {
            (None, _) => self.expect(what, done, Some(ErrorKind::NotFound)),
            (Some(Node::Dir), Some(Node::File(_))) => {
                self.expect(what, done, Some(ErrorKind::NotADirectory));
            }
            (Some(Node::File(_)), Some(Node::Dir)) => {
                self.expect(what, done, Some(ErrorKind::IsADirectory));
            }
            (Some(x), y) => {
                self.expect(what, done, None);
                // Two names of one file both stay (rename(2)).
                if y != Some(x) || (x == Node::Dir && a != b) {
                    self.names.remove(&a);
                    if let Some(y) = y {
                        self.unlinked(y);
                    }
                    self.names.insert(b, x);
                }
            }
        }
    }

    /// Appends to an open file, which may have no name any more, or closes it.
    fn append(&mut self, what: &str) {
        if self.open.is_empty() {
            return;
        }
        let index = self.random.below(self.open.len());
        if self.random.below(4) == 0 {
            self.open.swap_remove(index);
            return;
        }
        let more = self.contents();
        let (file, number) = &self.open[index];
        let contents = &mut self.files[*number].1;
        if contents.len() > 200_000 {
            file.set_len(10)
                .unwrap_or_else(|e| panic!("{what}: truncate: {e}"));
            contents.truncate(10);
            contents.resize(10, 0);
        }
        file.write_all_at(&more, contents.len() as u64)
            .unwrap_or_else(|e| panic!("{what}: append: {e}"));
        contents.extend(more);
        let mut back = vec![0; contents.len()];
        file.read_exact_at(&mut back, 0)
            .unwrap_or_else(|e| panic!("{what}: read back: {e}"));
        assert!(back == *contents, "{what}: contents of an open file");
    }

    fn look(&mut self, what: &str, path: &Path, at: Option<Node>) {
        match at {
            None => self.expect(what, fs::symlink_metadata(path), Some(ErrorKind::NotFound)),
            Some(Node::Dir) => assert!(fs::metadata(path).unwrap().is_dir(), "{what}"),
            Some(Node::File(file)) => {
                let (links, contents) = &self.files[file];
                let found = fs::read(path).unwrap_or_else(|e| panic!("{what}: read: {e}"));
                assert!(found == *contents, "{what}: contents");
                let meta = fs::metadata(path).unwrap();
                assert_eq!(meta.nlink(), *links as u64, "{what}");
            }
        }
        let listed: Vec<String> = {
            let mut names: Vec<_> = fs::read_dir(&self.dir)
                .unwrap_or_else(|e| panic!("{what}: list: {e}"))
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let wanted: Vec<String> = self.names.keys().cloned().collect();
        assert_eq!(listed, wanted, "{what}");
    }
}

fn storm(mount: &Mount, volume: &str, charged: bool) {
    let times = kills(12);
    storm_under(mount, volume, charged, times, |stop| {
        killing(volume, mount, times, stop);
    });
}

/// A storm that lasts as long as `deaths`, in which the serving process dies so
/// many times.
pub fn storm_under(
    mount: &Mount,
    volume: &str,
    charged: bool,
    times: usize,
    deaths: impl FnOnce(&AtomicBool),
) {
    let root = mount.join(volume);
    let stop = AtomicBool::new(false);
    let pauses = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for worker in 0..3_u64 {
            let dir = root.join(format!("w{worker}"));
            let (stop, pauses) = (&stop, &pauses);
            scope.spawn(move || {
                let _stop = StopOnPanic(stop);
                let mut model = Model::new(dir, 0x9e37_79b9 * (worker + 1));
                let mut long = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    model.step();
                    long.push(start.elapsed());
                    if long.len() > 10_000 {
                        long.sort();
                        long.drain(..long.len() - 1000);
                    }
                }
                // All of it once more.
                let names: Vec<_> = model.names.clone().into_iter().collect();
                for (name, node) in names {
                    let path = model.dir.join(&name);
                    model.look(&format!("at the end {name}"), &path, Some(node));
                }
                assert!(model.steps > 100);
                pauses.lock().unwrap().extend(long);
            });
        }
        scope.spawn(|| {
            let _stop = StopOnPanic(&stop);
            while !stop.load(Ordering::Relaxed) {
                grow_and_go(&root);
            }
        });
        let _stop = StopOnPanic(&stop);
        deaths(&stop);
        stop.store(true, Ordering::Relaxed);
    });
    report(volume, times, pauses.into_inner().unwrap());
    if charged {
        check_usage(mount, volume);
    }
    assert_eq!(mount.daemon_complaints().matches("panicked").count(), 0);
}

/// Directories grow, and are removed.
fn grow_and_go(root: &Path) {
    let (a, b) = (root.join("grows-a"), root.join("grows-b"));
    let name = |n: usize| format!("{n:0>250}");
    fs::create_dir(&a).unwrap();
    fs::create_dir(&b).unwrap();
    let file = a.join(name(0));
    File::create_new(&file).unwrap();
    for n in 1..20 {
        fs::hard_link(&file, a.join(name(n))).unwrap();
    }
    for n in 0..20 {
        fs::rename(a.join(name(n)), b.join(name(n))).unwrap();
    }
    fs::rename(&b, &a).unwrap();
    for n in 0..20 {
        fs::remove_file(a.join(name(n))).unwrap();
    }
    fs::remove_dir(&a).unwrap();
}

/// Usage is what a walk finds, and was never counted.
pub fn check_usage(mount: &Mount, volume: &str) {
    wait_for("closes arrive", || {
        let text = fs::read_to_string(mount.join(".volfs/stats.json")).unwrap();
        let stats: serde_json::Value = serde_json::from_str(&text).unwrap();
        stats["open_files"] == 0
    });
    let (bytes, inodes) = tree::charged(&mount.host_path(volume));
    let list = mount.volfs().list();
    let found = list.iter().find(|v| v["name"] == volume).unwrap();
    assert_eq!(found["used"]["bytes"], bytes, "{volume}");
    assert_eq!(found["used"]["inodes"], inodes, "{volume}");
    let log = mount.daemon_log();
    assert!(!log.contains("counted"), "{volume} was counted: {log}");
}

#[test]
fn with_passthrough_and_with_a_quota() {
    let mount = Mount::builder().supervised().start();
    mount.volume("plain");
    mount.volfs().ok(&["create", "limited", "--quota", "512M"]);
    storm(&mount, "plain", true);
    storm(&mount, "limited", true);
}

#[test]
fn through_the_daemon() {
    let mount = Mount::builder()
        .supervised()
        .args(&["--no-passthrough"])
        .start();
    mount.volume("cached");
    storm(&mount, "cached", true);
}

#[test]
fn on_a_disk_volume() {
    let mount = Mount::builder().supervised().start();
    mount
        .volfs()
        .ok(&["create", "disk", "--disk", "--size", "256M"]);
    storm(&mount, "disk", false);
    let mut mount = mount;
    mount.stop();
    let image = mount.volfs().list()[0]["disk"]["path"]
        .as_str()
        .unwrap()
        .to_owned();
    crate::support::run(std::process::Command::new("e2fsck").args(["-fn", &image]));
}

/// Closes that are told of while the name goes, as they come from a program that
/// reads a file and removes it.
#[test]
fn closes_and_removals_at_the_same_time() {
    let mount = Mount::builder().supervised().start();
    let dir = mount.volume("plain");
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let dir = &dir;
            scope.spawn(move || {
                for n in 0..2000 {
                    let path = dir.join(format!("{worker}-{n}"));
                    fs::write(&path, "some").unwrap();
                    drop(File::open(&path).unwrap());
                    fs::remove_file(&path).unwrap();
                }
            });
        }
    });
    check_usage(&mount, "plain");
}
