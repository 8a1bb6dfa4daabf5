//! The load: workers that change volumes of their own in every way, and one that upgrades the
//! running mount under them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use crate::check::World;
use crate::model::{Change, Content, Done, History, Kind, State};
use crate::recorder::Log;
use crate::support::random::Random;

const WORKERS: usize = 3;

/// Runs `steps` changes by each worker.
pub fn run(world: &World, log: &Log, seed: u64, steps: usize) -> History {
    let begun = log.len();
    let (stop, commands) = (AtomicBool::new(false), RwLock::new(()));
    let workers: Vec<_> = std::thread::scope(|scope| {
        let (stop, commands) = (&stop, &commands);
        let upgrades = scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                {
                    // A command that the daemon is just executing would be told that the daemon
                    // has ended, and not whether it was done.
                    let _none = commands.write();
                    world.volfs.ok(&["upgrade"]);
                }
                std::thread::sleep(std::time::Duration::from_millis(700));
            }
        });
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let worker = Worker {
                    number,
                    world,
                    log,
                    commands,
                    random: Random::new(seed.wrapping_add(number as u64 * 7919)),
                    state: State::default(),
                    done: Vec::new(),
                    names: 0,
                };
                scope.spawn(move || worker.run(steps))
            })
            .collect();
        let done: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        stop.store(true, Ordering::Relaxed);
        upgrades.join().unwrap();
        done
    });
    let workers = workers
        .into_iter()
        .map(|done| done.expect("a worker"))
        .collect();
    History { begun, workers }
}

struct Worker<'a> {
    number: usize,
    world: &'a World,
    log: &'a Log,
    commands: &'a RwLock<()>,
    random: Random,
    state: State,
    done: Vec<Done>,
    names: usize,
}

impl Worker<'_> {
    fn run(mut self, steps: usize) -> Vec<Done> {
        for _ in 0..steps {
            let change = self.choose();
            let begun = self.log.len();
            self.make(&change);
            let ended = self.log.len();
            self.state.apply(&change);
            self.done.push(Done {
                change,
                begun,
                ended,
            });
        }
        self.done
    }

    fn new_name(&mut self) -> String {
        self.names += 1;
        format!("w{}-{}", self.number, self.names)
    }

    fn choose(&mut self) -> Change {
        let live: Vec<String> = self.state.live.keys().cloned().collect();
        let trash: Vec<String> = self.state.trash.keys().cloned().collect();
        let chosen = self.random.below(100);
        if live.len() < 2 || chosen < 15 {
            let kind = match self.random.below(5) {
                0 => Kind::Disk,
                1 | 2 => Kind::Directory {
                    quota: Some(20 << 20),
                },
                _ => Kind::Directory { quota: None },
            };
            return Change::Create {
                name: self.new_name(),
                kind,
            };
        }
        let name = live[self.random.below(live.len())].clone();
        match chosen {
            15..60 => {
                let seed = self.random.any();
                let len = 1 + self.random.below(60_000);
                let file = format!("f{}", self.done.len());
                Change::Write {
                    volume: name,
                    file,
                    content: Content { seed, len },
                }
            }
            60..68 => Change::Rename {
                from: name,
                to: self.new_name(),
            },
            68..74 if live.len() > 3 => Change::Remove { name },
            74..79 if live.len() > 3 => Change::Purge { name },
            79..83 if !trash.is_empty() => Change::Restore {
                name: trash[self.random.below(trash.len())].clone(),
            },
            83..90 => Change::Label {
                name,
                value: self.done.len().to_string(),
            },
            90..94 if self.state.live[&name].kind != Kind::Disk => Change::Quota {
                name,
                quota: (30 << 20) + (self.done.len() as u64) * 4096,
            },
            // An image is copied when nobody uses it, and has to be trusted after an import.
            _ if self.state.live[&name].kind != Kind::Disk && live.len() < 8 => Change::Copy {
                from: name,
                to: self.new_name(),
            },
            _ => Change::Label {
                name,
                value: self.done.len().to_string(),
            },
        }
    }

    /// Makes the change, by file system or by command, and returns when it was acknowledged.
    fn make(&mut self, change: &Change) {
        let (volfs, mnt) = (&self.world.volfs, &self.world.mountpoint);
        let by_command = self.random.below(2) == 0;
        let by_file_system = match change {
            Change::Write { .. } => true,
            Change::Create { kind, .. } => {
                !by_command && *kind == (Kind::Directory { quota: None })
            }
            Change::Rename { .. } => !by_command,
            _ => false,
        };
        let _no_upgrade = (!by_file_system).then(|| self.commands.read());
        match change {
            Change::Create { name, kind } => match kind {
                Kind::Directory { quota: None } if by_command => {
                    drop(volfs.ok(&["create", "-q", name]))
                }
                Kind::Directory { quota: None } => fs::create_dir(mnt.join(name)).unwrap(),
                Kind::Directory { quota: Some(quota) } => {
                    volfs.ok(&["create", "-q", name, "--quota", &quota.to_string()]);
                }
                Kind::Disk => drop(volfs.ok(&["create", "-q", name, "--disk", "--size", "16M"])),
            },
            Change::Write {
                volume,
                file,
                content,
            } => {
                let written = write_synced(&mnt.join(volume), file, &content.bytes());
                if let Err(error) = written {
                    let why = fs::read_to_string(mnt.join(".volfs/last_error"));
                    panic!(
                        "{volume}/{file}: {error}; {why:?}; {:?}",
                        self.state.live[volume]
                    );
                }
            }
            Change::Rename { from, to } if by_command => {
                volfs.ok(&["mv", from, to]);
            }
            Change::Rename { from, to } => fs::rename(mnt.join(from), mnt.join(to)).unwrap(),
            Change::Remove { name } => drop(volfs.ok(&["rm", "-q", name])),
            Change::Purge { name } => drop(volfs.ok(&["rm", "-q", "--purge", name])),
            Change::Restore { name } => drop(volfs.ok(&["trash", "restore", "-q", name])),
            Change::Label { name, value } => {
                volfs.ok(&["set", "-q", name, "--label", &format!("k={value}")]);
            }
            Change::Quota { name, quota } => {
                volfs.ok(&["set", "-q", name, "--quota", &quota.to_string()]);
            }
            Change::Copy { from, to } if by_command => drop(volfs.ok(&["clone", "-q", from, to])),
            Change::Copy { from, to } => {
                let archive = self.world.scratch.join(format!("{to}.tar"));
                let archive = archive.to_str().unwrap();
                volfs.ok(&["export", "-q", from, "-o", archive]);
                volfs.ok(&["import", "-q", to, archive]);
                fs::remove_file(archive).unwrap();
            }
        }
    }
}

/// As a program that wants to keep what it writes does: the file, then its directory.
fn write_synced(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(dir.join(name))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}
