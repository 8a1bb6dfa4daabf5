//! Looking at every process, and at every mount namespace that one is in: once,
//! for whatever volume is asked for then.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::mounts::{MountUse, View, Wanted};
use super::processes::{KTHREADD, KernelThreads, Question, Seen};
use super::store_place::{Finder, StorePlace};
use super::{Hold, Holder, cgroup};
use crate::model::VolumeId;
use crate::sys::mount_ns;
use crate::sys::node::Identity;
use crate::sys::process::{command_of, is_kernel_thread, mount_namespace};
use crate::sys::procfs::Proc;

/// Whose bind mounts count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespaces {
    All,
    /// All but those of this process's own mount namespace.
    Others,
    /// All, and of any the mounts inside, for the mount as a whole.
    OfMount,
}

/// The mount of a store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MountSide {
    /// `st_dev` of its files.
    pub(crate) device: u64,
    /// Whether a file with this inode number is in a volume, and not above all.
    pub(crate) in_volume: fn(u64) -> bool,
    /// The process that keeps files for the one that serves.
    pub(crate) keeper: Option<i32>,
}

/// What is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    /// The inode of our mount with this number.
    OfMount(u64),
    /// The inode of the store's file system with this number; in this volume, if
    /// that was looked for.
    Stored(u64, Option<VolumeId>),
}

/// All that uses anything of our mount, or of the volumes in the store.
#[derive(Debug)]
pub(crate) struct Survey {
    /// By process, in the order of their ids.
    uses: Vec<Use>,
    /// Whether mapped files were looked for.
    mappings: bool,
}

/// What is used, roughly.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Inodes of the mount.
    pub(crate) of_mount: HashSet<u64>,
    /// Volumes of which something in the store is.
    pub(crate) stored: HashSet<VolumeId>,
    /// Whether something is that is known by a name alone.
    pub(crate) by_name: bool,
}

#[derive(Debug)]
pub(super) enum Use {
    /// A process has this.
    Process { pid: i32, how: Hold, what: Thing },
    /// A mount, and the first process that sees it, or the number of a mount
    /// namespace that no process is in.
    Mount {
        seen_by: Seer,
        in_own_namespace: bool,
        mount: MountUse,
    },
}

/// Who sees a mount.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seer {
    Process(i32),
    Nobody(u64),
}

impl Survey {
    /// Looks at all that uses the mount, and what is in the store's directory
    /// `store`; at mapped files, and in which volume of the store a file is, only
    /// if asked to, which takes as long as everything else.
    pub(in crate::volume) fn new(
        mount: Option<MountSide>,
        store: &Path,
        mappings: bool,
        threads: &mut KernelThreads,
    ) -> Self {
        let mut survey = Self {
            uses: Vec::new(),
            mappings,
        };
        let mut processes = match Proc::open() {
            Ok(mut proc) => proc.processes(),
            Err(errno) => {
                log::error!("who uses a volume cannot be seen without /proc: {errno}");
                return survey;
            }
        };
        let known = std::mem::take(threads);
        // What they see, the first of them does.
        let first = processes.iter().find(|it| it.pid == KTHREADD);
        if first.is_some_and(|first| known.contains_key(first)) {
            processes.retain(|process| {
                let is_like_first = process.pid != KTHREADD && known.get(process) == Some(&true);
                if is_like_first {
                    threads.insert(*process, true);
                }
                !is_like_first
            });
        }
        let own = View::of("self");
        let place = StorePlace::of(store, &own.mounts);
        let finder = place.as_ref().map(|place| Finder::new(place, mappings));
        let question = Question {
            mount: mount.map(|mount| mount.device),
            store: finder.as_ref(),
            keeper: mount.and_then(|mount| mount.keeper),
            mappings,
            own: std::process::id().cast_signed(),
        };
        let mut namespaces = MountNamespaces::new(Sides {
            mount,
            mountpoints: mount.map_or_else(Vec::new, |mount| own.mountpoints(mount.device)),
            store: place.as_ref(),
        });
        let mut kthreadd = None;
        for mut seen in question.ask_all(&processes, &known).into_iter().flatten() {
            survey.uses.append(&mut seen.uses);
            if seen.is_thread {
                let view = (seen.root, seen.namespace);
                if seen.process.pid == KTHREADD {
                    kthreadd = Some(view);
                }
                threads.insert(seen.process, kthreadd == Some(view));
            }
            namespaces.seen_by(&seen, &mut survey.uses);
        }
        namespaces.seen_by_nobody(&mut survey.uses);
        survey.date_overlays();
        survey
    }

    /// Of nobody.
    #[cfg(test)]
    pub(super) fn empty(mappings: bool) -> Self {
        Self {
            uses: Vec::new(),
            mappings,
        }
    }

    /// Every mount of one overlay shows the layers that were found for the
    /// first of them.
    fn date_overlays(&mut self) {
        let mounts = self.uses.iter_mut().filter_map(|it| match it {
            Use::Mount { mount, .. } if mount.how == Hold::Overlay => Some(mount),
            _ => None,
        });
        let overlays: Vec<&mut MountUse> = mounts.collect();
        let mut first: HashMap<u64, u64> = HashMap::new();
        for overlay in &overlays {
            if let Some(made) = overlay.made_before {
                let first = first.entry(overlay.device).or_insert(made);
                *first = made.min(*first);
            }
        }
        for overlay in overlays {
            overlay.made_before = first.get(&overlay.device).copied();
        }
    }

    /// Whether mapped files were looked for.
    pub(super) fn has_mappings(&self) -> bool {
        self.mappings
    }

    /// Who uses what is wanted.
    pub(crate) fn holders(&self, wanted: &Wanted<'_>, namespaces: Namespaces) -> Vec<Holder> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut last = None;
        for it in &self.uses {
            match it {
                Use::Process { pid, how, what } if wanted.is_thing(*what) => {
                    // Of several files of a process one is enough.
                    let said = last == Some((*pid, *how))
                        || *how == Hold::Mapping && last == Some((*pid, Hold::OpenFile));
                    if !said {
                        last = Some((*pid, *how));
                        found.push(holder(*pid, *how));
                    }
                }
                Use::Process { .. } => {}
                Use::Mount {
                    seen_by,
                    in_own_namespace,
                    mount,
                } => {
                    let Some(by_name) = mount.is_of(wanted) else {
                        continue;
                    };
                    let is_left_out = match mount.how {
                        Hold::BindMount => namespaces == Namespaces::Others && *in_own_namespace,
                        // Elsewhere it may be there to hide the volume, and is
                        // unmounted with what it is mounted on.
                        Hold::MountInside => namespaces != Namespaces::OfMount && !in_own_namespace,
                        _ => false,
                    };
                    if seen.insert((mount.how, mount.id)) && !is_left_out {
                        found.push(mounted(*seen_by, mount, by_name));
                    }
                }
            }
        }
        found
    }

    /// All that is used, by whomever.
    pub(crate) fn touched(&self) -> Touched {
        let mut touched = Touched::default();
        let mut add = |thing| match thing {
            Thing::OfMount(ino) => drop(touched.of_mount.insert(ino)),
            Thing::Stored(_, id) => touched.stored.extend(id),
        };
        let mut by_name = false;
        for it in &self.uses {
            match it {
                Use::Process { what, .. } => add(*what),
                Use::Mount { mount, .. } => {
                    by_name |= mount.shows_by_name();
                    mount.things().for_each(&mut add);
                }
            }
        }
        Touched { by_name, ..touched }
    }

    /// Whose working directory is the inode of the mount with this number.
    pub(crate) fn working_in(&self, ino: u64) -> impl Iterator<Item = Holder> {
        self.uses.iter().filter_map(move |it| match it {
            Use::Process {
                pid,
                how: how @ Hold::WorkingDirectory,
                what,
            } if *what == Thing::OfMount(ino) => Some(holder(*pid, *how)),
            _ => None,
        })
    }
}

fn mounted(seen_by: Seer, mount: &MountUse, by_name: Option<String>) -> Holder {
    let whose = match seen_by {
        Seer::Nobody(namespace) => Holder {
            namespace: Some(namespace),
            ..Holder::unseen(mount.how)
        },
        // No process can be blamed for what is mounted in the host's.
        Seer::Process(pid) if pid == 1 || is_kernel_thread(pid) => Holder::unseen(mount.how),
        Seer::Process(pid) => holder(pid, mount.how),
    };
    Holder {
        mountpoint: Some(mount.mountpoint.to_string_lossy().into_owned()),
        fs_type: (mount.how == Hold::MountInside).then(|| mount.fs_type.clone()),
        by_name,
        ..whose
    }
}

/// What mounts are looked at for.
pub(super) struct Sides<'a> {
    pub(super) mount: Option<MountSide>,
    /// Where that is in this process's mount namespace.
    pub(super) mountpoints: Vec<PathBuf>,
    pub(super) store: Option<&'a StorePlace>,
}

/// The mount namespaces, each looked at once.
struct MountNamespaces<'a> {
    sides: Sides<'a>,
    own: Option<u64>,
    /// Mount namespaces, and whose root they were looked at from: nobody sees
    /// what is not below the own root.
    views: HashSet<(u64, Option<Identity>)>,
}

impl<'a> MountNamespaces<'a> {
    fn new(sides: Sides<'a>) -> Self {
        Self {
            sides,
            own: mount_namespace("self"),
            views: HashSet::new(),
        }
    }

    /// Mounts that a process with this root directory sees, and none before it.
    fn seen_by(&mut self, seen: &Seen, uses: &mut Vec<Use>) {
        let Some(namespace) = seen.namespace else {
            return;
        };
        if self.views.insert((namespace, seen.root)) {
            let view = View::of(&seen.at.to_string());
            self.look(&view, Seer::Process(seen.process.pid), namespace, uses);
        }
    }

    /// Mounts in namespaces that no process is in: something holds on to them, a
    /// bind mount of `/proc/PID/ns/mnt` or a descriptor.
    fn seen_by_nobody(&self, uses: &mut Vec<Use>) {
        let seen: HashSet<u64> = self.views.iter().map(|(namespace, _)| *namespace).collect();
        for (number, namespace) in mount_ns::all_but(&|number| seen.contains(&number)) {
            if let Some(view) = View::in_namespace(&namespace) {
                self.look(&view, Seer::Nobody(number), number, uses);
            }
        }
    }

    fn look(&self, view: &View, seen_by: Seer, namespace: u64, uses: &mut Vec<Use>) {
        let found = view.uses(&self.sides);
        uses.extend(found.into_iter().map(|mount| Use::Mount {
            seen_by,
            in_own_namespace: self.own == Some(namespace),
            mount,
        }));
    }
}

pub(crate) fn holder(pid: i32, how: Hold) -> Holder {
    Holder {
        pid: Some(pid),
        command: command_of(pid),
        within: cgroup::of(pid),
        ..Holder::unseen(how)
    }
}
