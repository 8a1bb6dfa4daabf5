//! Looking at every process, and at every mount namespace that one is in: once,
//! for whatever volume is asked for then.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use super::cgroup;
use super::mounts::{MountUse, View, Wanted};
use super::processes::{KTHREADD, KernelThreads, Question, Seen};
use crate::fuse::node::NodeId;
use crate::model::Slot;
use crate::sys::node::Identity;
use crate::sys::process::{command_of, is_kernel_thread, mount_namespace};
use crate::sys::procfs::Proc;
use crate::volume::{Hold, Holder};

/// Whose bind mounts count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Namespaces {
    All,
    /// All but those of this process's own mount namespace.
    Others,
    /// All, and of any the mounts inside, for the mount as a whole.
    OfMount,
}

/// All that uses anything of our mount.
#[derive(Debug)]
pub(in crate::fuse) struct Survey {
    /// By process, in the order of their ids.
    uses: Vec<Use>,
    /// Whether mapped files were looked for.
    mappings: bool,
}

/// What is used, roughly.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Volumes of which something is.
    pub(super) slots: HashSet<Slot>,
    /// Nodes of no volume.
    pub(super) others: HashSet<NodeId>,
    /// Whether something is that is known by a name alone.
    pub(super) by_name: bool,
}

impl Touched {
    fn add(&mut self, node: NodeId) {
        match node.slot() {
            Some(slot) => drop(self.slots.insert(slot)),
            None => drop(self.others.insert(node)),
        }
    }
}

#[derive(Debug)]
pub(super) enum Use {
    /// A process has this node.
    Process { pid: i32, how: Hold, node: NodeId },
    /// A mount, and the first process that sees it.
    Mount {
        pid: i32,
        in_own_namespace: bool,
        mount: MountUse,
    },
}

impl Survey {
    /// Looks at all that uses the mount with this `st_dev`; at mapped files
    /// only if asked to, which takes as long as everything else.
    pub(super) fn new(device: u64, mappings: bool, threads: &mut KernelThreads) -> Self {
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
        let question = Question {
            device,
            mappings,
            own: std::process::id().cast_signed(),
        };
        let mut namespaces = MountNamespaces::new(device);
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
    pub(super) fn holders(&self, wanted: &Wanted<'_>, namespaces: Namespaces) -> Vec<Holder> {
        let mut found = Vec::new();
        let mut seen = HashSet::new();
        let mut last = None;
        for it in &self.uses {
            match it {
                Use::Process { pid, how, node } if (wanted.is_node)(*node) => {
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
                    pid,
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
                        found.push(mounted(*pid, mount, by_name));
                    }
                }
            }
        }
        found
    }

    /// All that is used, by whomever.
    pub(super) fn touched(&self) -> Touched {
        let mut touched = Touched::default();
        for it in &self.uses {
            match it {
                Use::Process { node, .. } => touched.add(*node),
                Use::Mount { mount, .. } => {
                    touched.by_name |= mount.shows_by_name();
                    mount.nodes().for_each(|node| touched.add(node));
                }
            }
        }
        touched
    }

    /// Whose working directory is `node`.
    pub(super) fn working_in(&self, node: NodeId) -> impl Iterator<Item = Holder> {
        self.uses.iter().filter_map(move |it| match it {
            Use::Process {
                pid,
                how: how @ Hold::WorkingDirectory,
                node: found,
            } if *found == node => Some(holder(*pid, *how)),
            _ => None,
        })
    }
}

fn mounted(pid: i32, mount: &MountUse, by_name: Option<String>) -> Holder {
    // No process can be blamed for what is mounted in the host's.
    let whose = if pid == 1 || is_kernel_thread(pid) {
        Holder::unseen(mount.how)
    } else {
        holder(pid, mount.how)
    };
    Holder {
        mountpoint: Some(mount.mountpoint.to_string_lossy().into_owned()),
        fs_type: (mount.how == Hold::MountInside).then(|| mount.fs_type.clone()),
        by_name,
        ..whose
    }
}

/// The mount namespaces, each looked at once.
struct MountNamespaces {
    device: u64,
    own: Option<u64>,
    /// Where the mount is in this process's mount namespace.
    mountpoints: Vec<PathBuf>,
    /// Mount namespaces, and whose root they were looked at from: nobody sees
    /// what is not below the own root.
    views: HashSet<(u64, Option<Identity>)>,
}

impl MountNamespaces {
    fn new(device: u64) -> Self {
        Self {
            device,
            own: mount_namespace("self"),
            mountpoints: View::of("self").mountpoints(device),
            views: HashSet::new(),
        }
    }

    /// Mounts that a process with this root directory sees, and none before it.
    fn seen_by(&mut self, seen: &Seen, uses: &mut Vec<Use>) {
        let Some(namespace) = seen.namespace else {
            return;
        };
        let pid = seen.process.pid;
        if !self.views.insert((namespace, seen.root)) {
            return;
        }
        let found = View::of(&seen.at.to_string()).uses(self.device, &self.mountpoints);
        uses.extend(found.into_iter().map(|mount| Use::Mount {
            pid,
            in_own_namespace: self.own == Some(namespace),
            mount,
        }));
    }
}

pub(super) fn holder(pid: i32, how: Hold) -> Holder {
    Holder {
        pid: Some(pid),
        command: command_of(pid),
        within: cgroup::of(pid),
        ..Holder::unseen(how)
    }
}
