//! Looking at every process, and at every mount namespace that one is in.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::cgroup;
use super::mounts::{View, Wanted};
use crate::fuse::node::NodeId;
use crate::sys::node::{Identity, cached_identity, identity_at};
use crate::sys::process::{command_of, is_kernel_thread, mount_namespace};
use crate::volume::{Hold, Holder};

/// Whose bind mounts count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Namespaces {
    All,
    /// All but those of this process's own mount namespace.
    Others,
}

/// Who uses what is wanted; `mappings` says whether a mapped file counts.
pub(super) fn scan(wanted: &Wanted<'_>, namespaces: Namespaces, mappings: bool) -> Vec<Holder> {
    let is_one = |(dev, ino)| dev == wanted.device && (wanted.is_node)(NodeId::from_raw(ino));
    let inside = |path: &Path| cached_identity(path).is_some_and(is_one);
    let maps_one = |pid| {
        let maps = std::fs::read_to_string(proc_file(pid, "maps")).unwrap_or_default();
        maps.lines().filter_map(mapped_file).any(is_one)
    };
    let own = own_pid();
    let mut mounts = Mounts::new(wanted, namespaces);
    let mut found = Vec::new();
    for pid in all_processes() {
        let root = identity_at(&proc_file(pid, "root"));
        // This process has what it serves open, and its mounts may be all that
        // is in its mount namespace.
        if pid != own {
            if inside(&proc_file(pid, "cwd")) {
                found.push(holder(pid, Hold::WorkingDirectory));
            }
            if root.is_some_and(|root| is_one((root.device, root.ino))) {
                found.push(holder(pid, Hold::RootDirectory));
            }
            let has_open = std::fs::read_dir(proc_file(pid, "fd"))
                .is_ok_and(|files| files.flatten().any(|file| inside(&file.path())));
            if has_open {
                found.push(holder(pid, Hold::OpenFile));
            } else if mappings && maps_one(pid) {
                found.push(holder(pid, Hold::Mapping));
            }
        }
        found.append(&mut mounts.seen_by(pid, root));
    }
    found
}

/// Who has a bind mount of what is wanted.
pub(super) fn bind_mounts(wanted: &Wanted<'_>) -> Vec<Holder> {
    let mut mounts = Mounts::new(wanted, Namespaces::All);
    let mut found = Vec::new();
    for pid in all_processes() {
        found.append(&mut mounts.seen_by(pid, identity_at(&proc_file(pid, "root"))));
    }
    found.retain(|holder| holder.how == Hold::BindMount);
    found
}

/// The mounts of all mount namespaces, each once.
struct Mounts<'a> {
    wanted: &'a Wanted<'a>,
    namespaces: Namespaces,
    own: Option<u64>,
    /// Where the mount is in this process's mount namespace.
    mountpoints: Vec<PathBuf>,
    /// Mount namespaces, and whose root they were looked at from: nobody sees
    /// what is not below the own root.
    views: HashSet<(u64, Option<Identity>)>,
    mounts: HashSet<u64>,
}

impl<'a> Mounts<'a> {
    fn new(wanted: &'a Wanted<'a>, namespaces: Namespaces) -> Self {
        Self {
            wanted,
            namespaces,
            own: mount_namespace("self"),
            mountpoints: View::of("self").mountpoints(wanted.device),
            views: HashSet::new(),
            mounts: HashSet::new(),
        }
    }

    /// Mounts that a process with this root directory sees, and none before it.
    fn seen_by(&mut self, pid: i32, root: Option<Identity>) -> Vec<Holder> {
        let Some(namespace) = mount_namespace(&pid.to_string()) else {
            return Vec::new();
        };
        if !self.views.insert((namespace, root)) {
            return Vec::new();
        }
        let mut uses =
            View::of(&pid.to_string()).uses(self.wanted, &self.mountpoints, &mut self.mounts);
        if self.namespaces == Namespaces::Others && self.own == Some(namespace) {
            uses.retain(|it| it.how != Hold::BindMount);
        }
        if uses.is_empty() {
            return Vec::new();
        }
        // No process can be blamed for what is mounted in the host's.
        let of_host = pid == 1 || is_kernel_thread(pid);
        uses.into_iter()
            .map(|it| {
                let whose = if of_host {
                    Holder::unseen(it.how)
                } else {
                    holder(pid, it.how)
                };
                Holder {
                    mountpoint: Some(it.mountpoint.to_string_lossy().into_owned()),
                    by_name: it.by_name,
                    ..whose
                }
            })
            .collect()
    }
}

/// Device and inode of a line of `/proc/PID/maps` (proc_pid_maps(5)).
fn mapped_file(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(3);
    let (major, minor) = fields.next()?.split_once(':')?;
    let hex = |text| u32::from_str_radix(text, 16).ok();
    let ino = fields.next()?.parse().ok()?;
    Some((libc::makedev(hex(major)?, hex(minor)?), ino))
}

fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

/// All other processes.
pub(super) fn processes() -> impl Iterator<Item = i32> {
    let own = own_pid();
    all_processes().filter(move |&pid| pid != own)
}

/// All processes, in the order of their ids.
fn all_processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

pub(super) fn proc_file(pid: i32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

pub(super) fn holder(pid: i32, how: Hold) -> Holder {
    Holder {
        pid: Some(pid),
        command: command_of(pid),
        within: cgroup::of(pid),
        ..Holder::unseen(how)
    }
}
