//! What a worker has been told is done, and what the store holds by that.

use std::collections::BTreeMap;

use crate::support::random::Random;

/// Contents of a file, which a seed repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    pub seed: u64,
    pub len: usize,
}

impl Content {
    pub fn bytes(self) -> Vec<u8> {
        Random::new(self.seed).bytes(self.len)
    }
}

/// What a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Directory { quota: Option<u64> },
    Disk,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub kind: Kind,
    pub files: BTreeMap<String, Content>,
    pub label: Option<String>,
}

/// The volumes of one worker, live and in the trash, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub live: BTreeMap<String, Volume>,
    pub trash: BTreeMap<String, Volume>,
}

/// A change. Names are never used twice.
#[derive(Clone, Debug)]
pub enum Change {
    Create {
        name: String,
        kind: Kind,
    },
    /// Written and synced, and so is its directory.
    Write {
        volume: String,
        file: String,
        content: Content,
    },
    Rename {
        from: String,
        to: String,
    },
    Remove {
        name: String,
    },
    Purge {
        name: String,
    },
    Restore {
        name: String,
    },
    Label {
        name: String,
        value: String,
    },
    Quota {
        name: String,
        quota: u64,
    },
    /// A clone, or an import of what was exported.
    Copy {
        from: String,
        to: String,
    },
}

impl State {
    pub fn apply(&mut self, change: &Change) {
        let known = "the load changes what is there";
        match change.clone() {
            Change::Create { name, kind } => {
                let volume = Volume {
                    kind,
                    files: BTreeMap::new(),
                    label: None,
                };
                self.live.insert(name, volume);
            }
            Change::Write {
                volume,
                file,
                content,
            } => {
                let volume = self.live.get_mut(&volume).expect(known);
                volume.files.insert(file, content);
            }
            Change::Rename { from, to } => {
                let volume = self.live.remove(&from).expect(known);
                self.live.insert(to, volume);
            }
            Change::Remove { name } => {
                let volume = self.live.remove(&name).expect(known);
                self.trash.insert(name, volume);
            }
            Change::Purge { name } => drop(self.live.remove(&name)),
            Change::Restore { name } => {
                let volume = self.trash.remove(&name).expect(known);
                self.live.insert(name, volume);
            }
            Change::Label { name, value } => {
                self.live.get_mut(&name).expect(known).label = Some(value);
            }
            Change::Quota { name, quota } => {
                self.live.get_mut(&name).expect(known).kind =
                    Kind::Directory { quota: Some(quota) };
            }
            Change::Copy { from, to } => {
                let volume = self.live.get(&from).expect(known).clone();
                self.live.insert(to, volume);
            }
        }
    }
}

/// A change with where the disk's record was when it began, and when it was done.
pub struct Done {
    pub change: Change,
    pub begun: usize,
    pub ended: usize,
}

/// All that the load has done.
pub struct History {
    /// Where the disk's record was when the load began.
    pub begun: usize,
    /// By worker, in order.
    pub workers: Vec<Vec<Done>>,
}

impl History {
    pub fn len(&self) -> usize {
        self.workers.iter().map(Vec::len).sum()
    }
}

/// What a worker's volumes may be after a power cut at point `at`: what was acknowledged by then,
/// and with the change that was under way, if one was.
pub fn expected(worker: &[Done], at: usize) -> (State, Option<(Change, State)>) {
    let mut state = State::default();
    for done in worker {
        if done.ended <= at {
            state.apply(&done.change);
        } else if done.begun < at {
            let mut after = state.clone();
            after.apply(&done.change);
            return (state, Some((done.change.clone(), after)));
        } else {
            break;
        }
    }
    (state, None)
}
