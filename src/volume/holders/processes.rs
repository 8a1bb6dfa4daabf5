//! What each process has of our mount and of the store: asked of many, with
//! little for each.

use std::collections::HashMap;
use std::num::NonZero;

use nix::errno::Errno;

use super::Hold;
use super::store_place::Finder;
use super::survey::{Thing, Use};
use crate::sys::node::Identity;
use crate::sys::process::is_kernel_thread;
use crate::sys::procfs::{Link, Listed, Proc};

/// Kernel threads that are known to be ones: they have no working directory but
/// the root and no files, and stay what they are (since Linux 5.19). `true` for
/// those that have root directory and mount namespace with the first of them,
/// whose children they are (`kthreadd`, kernel/kthread.c).
pub(in crate::volume) type KernelThreads = HashMap<Listed, bool>;

/// The process id of the first kernel thread.
pub(super) const KTHREADD: i32 = 2;

/// From so many processes on each further thread has as many to look at.
const A_SLICE: usize = 256;

/// The most threads that look at processes.
const MOST_THREADS: usize = 4;

/// What a process is looked at for.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    /// `st_dev` of the mount, if there is one.
    pub(super) mount: Option<u64>,
    /// What files of the store are whose.
    pub(super) store: Option<&'a Finder<'a>>,
    /// Keeps files of the store for this process.
    pub(super) keeper: Option<i32>,
    /// Also for mapped files.
    pub(super) mappings: bool,
    /// This process.
    pub(super) own: i32,
}

/// What a process has.
pub(super) struct Seen {
    pub(super) process: Listed,
    /// By what id `/proc` has what the process has.
    pub(super) at: i32,
    /// What of the mount.
    pub(super) uses: Vec<Use>,
    pub(super) is_thread: bool,
    pub(super) root: Option<Identity>,
    pub(super) namespace: Option<u64>,
}

impl Question<'_> {
    /// Asks all `processes`, on several processors if they are many. `None` for
    /// those that may not be looked at.
    pub(super) fn ask_all(self, processes: &[Listed], known: &KernelThreads) -> Vec<Option<Seen>> {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = processors.min(MOST_THREADS).min(processes.len() / A_SLICE);
        if threads < 2 {
            return self.ask(processes, known);
        }
        let ask = |slice| move || self.ask(slice, known);
        std::thread::scope(|scope| {
            let slices = processes.chunks(processes.len().div_ceil(threads));
            // One that cannot be had is done without.
            let asked: Vec<_> = slices
                .map(|slice| {
                    let thread = std::thread::Builder::new();
                    (slice, thread.spawn_scoped(scope, ask(slice)))
                })
                .collect();
            let answers = asked.into_iter().flat_map(|(slice, thread)| {
                let answer = thread.ok().and_then(|thread| thread.join().ok());
                answer.unwrap_or_else(|| self.ask(slice, known))
            });
            answers.collect()
        })
    }

    fn ask(self, processes: &[Listed], known: &KernelThreads) -> Vec<Option<Seen>> {
        let Ok(mut proc) = Proc::open() else {
            return Vec::new();
        };
        let mut maps = Vec::new();
        let mut each = |process: &Listed| {
            self.ask_one(&mut proc, &mut maps, *process, known.contains_key(process))
        };
        processes.iter().map(&mut each).collect()
    }

    fn ask_one(
        self,
        proc: &mut Proc,
        maps: &mut Vec<u8>,
        process: Listed,
        mut is_thread: bool,
    ) -> Option<Seen> {
        let pid = process.pid;
        let mut at = pid;
        let mut uses = Vec::new();
        let mut root = proc.identity(pid, Link::Root);
        // Its first thread has ended and has nothing any more; others may go on.
        if root == Err(Errno::ENOENT) {
            let others = proc.other_threads(pid).into_iter();
            let mut going_on = others.map(|id| (id, proc.identity(id, Link::Root)));
            (at, root) = going_on.find(|(_, root)| root.is_ok())?;
        }
        // This process has what it serves open, and its mounts may be all that
        // is in its mount namespace.
        if pid != self.own && !is_thread {
            let cwd = proc.identity(at, Link::Cwd);
            // One rule is for all of it (ptrace(2)).
            if (&root, &cwd) == (&Err(Errno::EACCES), &Err(Errno::EACCES)) {
                return None;
            }
            let mut stored = Vec::new();
            let mut add = |how, link: &str, (device, ino): (u64, u64)| {
                if Some(device) == self.mount {
                    let what = Thing::OfMount(ino);
                    uses.push(Use::Process { pid, how, what });
                } else if self.store.is_some_and(|store| store.is_on(device)) {
                    stored.push((how, link.to_owned(), ino));
                }
            };
            if let Ok(cwd) = cwd {
                add(Hold::WorkingDirectory, "cwd", (cwd.device, cwd.ino));
            }
            if let Ok(root) = root {
                add(Hold::RootDirectory, "root", (root.device, root.ino));
            }
            let open = proc.each_open_file(at, |name, file| {
                let name = name.to_str().unwrap_or_default();
                add(Hold::OpenFile, name, (file.device, file.ino));
            });
            if self.mappings && proc.mappings(at, maps).is_ok() {
                let lines = String::from_utf8_lossy(maps);
                for (place, file) in lines.lines().filter_map(mapped_file) {
                    add(Hold::Mapping, place, file);
                }
            }
            if let Some(store) = self.store.filter(|_| self.keeper != Some(pid)) {
                uses.extend(store.uses(proc, (pid, at), stored));
            }
            is_thread = open == Ok(0) && is_kernel_thread(pid);
        }
        Some(Seen {
            process,
            at,
            uses,
            is_thread,
            root: root.ok(),
            namespace: proc.mount_namespace(at),
        })
    }
}

/// Where a file is mapped, and its device and inode: of a line of
/// `/proc/PID/maps` (proc_pid_maps(5)).
pub(crate) fn mapped_file(line: &str) -> Option<(&str, (u64, u64))> {
    let mut fields = line.split_ascii_whitespace();
    let place = fields.next()?;
    let mut fields = fields.skip(2);
    let (major, minor) = fields.next()?.split_once(':')?;
    let hex = |text| u32::from_str_radix(text, 16).ok();
    let ino = fields.next()?.parse().ok()?;
    Some((place, (libc::makedev(hex(major)?, hex(minor)?), ino)))
}
