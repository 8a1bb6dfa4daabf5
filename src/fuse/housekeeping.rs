//! What goes on beside the requests: counting volumes after an unclean stop,
//! and saving usage now and then.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::fs::FileSystem;
use crate::volume::Volume;

/// How often usage is saved for those who look at the catalogue later.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// Holds back changes of volumes whose usage is not known; to be called before
/// the first request is answered.
pub(super) fn hold_uncounted(fs: &FileSystem) -> Vec<Arc<Volume>> {
    if fs.store.is_read_only() {
        return Vec::new();
    }
    let volumes = fs.store.needs_recount();
    for volume in &volumes {
        fs.counting.begin(volume.slot);
    }
    volumes
}

/// The threads beside the requests.
pub(super) struct Housekeeping {
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
    /// Counts `uncounted`, and saves usage until it is ended.
    pub(super) fn start(
        fs: &Arc<FileSystem>,
        uncounted: Vec<Arc<Volume>>,
    ) -> std::io::Result<Self> {
        let mut housekeeping = Self {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let (stop, file_system) = (Arc::clone(&housekeeping.stop), Arc::clone(fs));
        housekeeping.spawn("volfs-count", move || {
            for volume in &uncounted {
                if !stop.is_set() {
                    count(&file_system, volume);
                }
                file_system.counting.end(volume.slot);
            }
        })?;
        let (stop, file_system) = (Arc::clone(&housekeeping.stop), Arc::clone(fs));
        housekeeping.spawn("volfs-save", move || {
            while !stop.sleep(SAVE_EVERY) {
                file_system.disks.detach_idle();
                if let Err(error) = file_system.store.save_usage() {
                    log::error!("cannot save the usage of volumes: {error}");
                }
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

impl Drop for Housekeeping {
    fn drop(&mut self) {
        *self.stop.stopped.lock() = true;
        self.stop.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A panic has been logged.
            let _ = thread.join();
        }
    }
}

fn count(fs: &FileSystem, volume: &Volume) {
    let start = Instant::now();
    let counted = fs.store.recount(volume).and_then(|usage| {
        fs.store.set_counted(volume, usage)?;
        Ok(usage)
    });
    match counted {
        Ok(usage) => log::info!(
            "volume {} counted after an unclean stop: {} in {} inodes, in {:?}",
            volume.name(),
            usage.bytes,
            usage.inodes,
            start.elapsed()
        ),
        Err(error) => log::error!("cannot count volume {}: {error}", volume.name()),
    }
}
