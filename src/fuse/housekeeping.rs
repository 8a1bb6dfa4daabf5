//! What goes on beside the requests: counting volumes whose usage is not
//! known, and saving usage now and then.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::fs::FileSystem;
use super::{going, verify};
use crate::volume::Error;

/// How often usage is saved for those who look at the catalogue later.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Holds back changes of volumes whose usage is not known until they have been
/// counted. Before the first request is answered, and for those that come out
/// of the trash or whose account has contradicted itself since.
pub(super) fn hold_uncounted(fs: &FileSystem) {
    if fs.store.is_read_only() {
        return;
    }
    for volume in fs.store.needs_recount() {
        fs.counting.request(&volume);
    }
}

/// The threads beside the requests.
pub(super) struct Housekeeping {
    fs: Arc<FileSystem>,
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

/// Tells threads to end, and wakes those that sleep.
#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn is_set(&self) -> bool {
        *self.stopped.lock()
    }

    /// Sleeps; says whether it was woken to end.
    fn sleep(&self, time: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        if !*stopped {
            self.changed.wait_for(&mut stopped, time);
        }
        *stopped
    }
}

impl Housekeeping {
    /// Counts what is to be counted, and saves usage, until it is ended.
    pub(super) fn start(fs: &Arc<FileSystem>) -> std::io::Result<Self> {
        let mut housekeeping = Self {
            fs: Arc::clone(fs),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let (stop, file_system) = (Arc::clone(&housekeeping.stop), Arc::clone(fs));
        housekeeping.spawn("volfs-count", move || count_all(&file_system, &stop))?;
        if fs.live.has_successor() {
            let file_system = Arc::clone(fs);
            housekeeping.spawn("volfs-keep", move || going::keep_all(&file_system))?;
        }
        if fs.awake.get().is_some() {
            let file_system = Arc::clone(fs);
            housekeeping.spawn("volfs-awake", move || {
                if let Some(awake) = file_system.awake.get() {
                    awake.watch();
                }
            })?;
        }
        let readers = Arc::clone(&fs.readers);
        housekeeping.spawn("volfs-readers", move || readers.watch())?;
        let (stop, file_system) = (Arc::clone(&housekeeping.stop), Arc::clone(fs));
        housekeeping.spawn("volfs-save", move || {
            let mut most_nodes = 0;
            // What was over when the store was last mounted has waited enough.
            clean_up(&file_system);
            while !stop.sleep(SAVE_EVERY) {
                most_nodes = give_back_memory(&file_system, most_nodes);
                file_system.watch_disks();
                // Long after the last of them has come.
                file_system.live.give_up_unanswered(&file_system);
                file_system.disks.detach_idle();
                file_system.places.forget_old();
                if let Err(error) = file_system.store.save_usage() {
                    log::error!("cannot save the usage of volumes: {error}");
                }
                hold_uncounted(&file_system);
                clean_up(&file_system);
            }
        })?;
        Ok(housekeeping)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(run)?;
        self.threads.push(thread);
        Ok(())
    }
}

/// Deletes what has been in the trash for long enough, and what dead processes
/// have left of volumes that they were building.
fn clean_up(fs: &FileSystem) {
    if fs.store.is_read_only() {
        return;
    }
    let retention = fs
        .options
        .trash_retention
        .unwrap_or(fs.store.current_settings().trash_retention);
    let expired = fs.store.expire_trash(retention).map(drop);
    if let Err(error) = expired.and_then(|()| fs.store.sweep_tmp()) {
        log::error!("cannot clean up the store: {error}");
    }
}

/// Gives memory back to the system when the kernel has forgotten most of the
/// `most` nodes that it held; returns the most that it holds from now on.
fn give_back_memory(fs: &FileSystem, most: usize) -> usize {
    /// Fewer than this take a few mebibytes, which are used again soon.
    const MANY: usize = 100_000;
    let nodes = fs.nodes.len();
    if most > MANY && nodes < most / 4 {
        crate::sys::process::trim_heap();
        return nodes;
    }
    most.max(nodes)
}

impl Drop for Housekeeping {
    fn drop(&mut self) {
        *self.stop.stopped.lock() = true;
        self.stop.changed.notify_all();
        self.fs.going.close();
        self.fs.counting.close();
        self.fs.readers.close();
        if let Some(awake) = self.fs.awake.get() {
            awake.close();
        }
        for thread in self.threads.drain(..) {
            // A panic has been logged.
            let _ = thread.join();
        }
    }
}

fn count_all(fs: &FileSystem, stop: &Stop) {
    while let Some((volume, held)) = fs.counting.next() {
        // Asked for twice, or the daemon is ending.
        if volume.usage_is_exact() || stop.is_set() {
            continue;
        }
        let start = Instant::now();
        match verify::count(fs, &volume, &held, true) {
            Ok(counted) => log::info!(
                "volume {} counted, as its usage was not known: {} in {} inodes, in {:?}",
                volume.name(),
                counted.found.bytes,
                counted.found.inodes,
                start.elapsed()
            ),
            // Tried again with the next look.
            Err(error @ Error::Unsteady { .. }) => log::info!("{error}"),
            Err(error) => {
                log::error!("cannot count volume {}: {error}", volume.name());
                fs.counting.give_up(volume.slot);
            }
        }
    }
}
