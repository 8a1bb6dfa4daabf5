//! Deleting what nobody can get back any more, beside everything else: one
//! thread, one volume after the other, a file at a time, so that it can stop
//! at any moment and go on when the store is next opened.
//!
//! Knows directories and the order in which they go; the catalogue is the
//! store's business.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use super::delete::{Steps, delete_tree};
use super::error::Result;
use super::layout::{Layout, Place};
use super::reserve::Reserve;
use crate::failpoint;
use crate::model::{Serial, Slot, VolumeId, VolumeName};

/// A volume that is being deleted, or waits for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purge {
    /// Its identity.
    pub id: VolumeId,
    /// The name that it had; absent for one that was never finished.
    pub name: Option<VolumeName>,
    /// Files and directories that are deleted.
    pub deleted: u64,
    /// How many it held; absent when nobody knows.
    pub total: Option<u64>,
    /// Why it is not tried again before the store is next opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A directory that is to be deleted.
#[derive(Debug)]
pub(super) struct Doomed {
    pub id: VolumeId,
    pub name: Option<VolumeName>,
    /// Its row, to be dropped when it is deleted; one that was never finished
    /// has none.
    pub row: Option<(Serial, Slot)>,
    pub total: Option<u64>,
    /// Keeps others away from what is deleted.
    pub _lock: Option<File>,
}

impl Doomed {
    fn places(&self) -> &'static [Place] {
        match self.row {
            // A move that failed may have left it in the other place.
            Some(_) => &[Place::Trash, Place::Volumes],
            None => &[Place::Tmp],
        }
    }

    /// Deletes it; `false` when `steps` had it stop before the end.
    pub(super) fn delete(&self, layout: &Layout, steps: &Steps<'_>) -> Result<bool> {
        for &place in self.places() {
            if !delete_tree(&layout.home(place, self.id), steps)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The thread that deletes, and what it has to do.
#[derive(Debug)]
pub(super) struct Purger {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    layout: Layout,
    reserve: Option<Arc<Reserve>>,
    state: Mutex<State>,
    changed: Condvar,
    stop: AtomicBool,
    /// What has been deleted of the volume that is being deleted.
    deleted: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Doomed>,
    current: Option<Purge>,
    failed: Vec<Purge>,
    gone: Vec<(Serial, Slot)>,
}

impl Purger {
    /// What is deleted becomes the `reserve` when that is gone.
    pub(super) fn new(layout: &Layout, reserve: Option<Arc<Reserve>>) -> Self {
        Self {
            shared: Arc::new(Shared {
                layout: layout.clone(),
                reserve,
                state: Mutex::default(),
                changed: Condvar::new(),
                stop: AtomicBool::new(false),
                deleted: AtomicU64::new(0),
            }),
            thread: Mutex::new(None),
        }
    }

    /// Deletes these after all that are waiting.
    pub(super) fn push(&self, doomed: impl IntoIterator<Item = Doomed>) {
        let mut state = self.shared.state.lock();
        state.queue.extend(doomed);
        if state.queue.is_empty() {
            return;
        }
        drop(state);
        self.shared.changed.notify_all();
        let mut thread = self.thread.lock();
        if thread.is_some() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let started = std::thread::Builder::new()
            .name("volfs-purge".into())
            .spawn(move || shared.run());
        match started {
            Ok(started) => *thread = Some(started),
            // They wait in the queue for the next who come, and for the next
            // start of the store.
            Err(error) => log::error!("no thread to delete removed volumes: {error}"),
        }
    }

    /// What is being deleted, what waits, and what could not be.
    pub(super) fn list(&self) -> Vec<Purge> {
        let state = self.shared.state.lock();
        let deleted = self.shared.deleted.load(Ordering::Relaxed);
        let current = state.current.iter().map(|purge| Purge {
            deleted,
            ..purge.clone()
        });
        current
            .chain(state.queue.iter().map(purge_of))
            .chain(state.failed.iter().cloned())
            .collect()
    }

    /// Rows of volumes that have been deleted since the last call.
    pub(super) fn take_gone(&self) -> Vec<(Serial, Slot)> {
        std::mem::take(&mut self.shared.state.lock().gone)
    }

    /// Waits until nothing is left to be deleted but what cannot be.
    #[cfg(test)]
    pub(super) fn wait(&self) {
        let mut state = self.shared.state.lock();
        while state.current.is_some() || !state.queue.is_empty() {
            self.shared.changed.wait(&mut state);
        }
    }

    /// Stops after the file that is being deleted, and waits for that.
    pub(super) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // A panic has been logged.
            let _ = thread.join();
        }
    }
}

fn purge_of(doomed: &Doomed) -> Purge {
    Purge {
        id: doomed.id,
        name: doomed.name.clone(),
        deleted: 0,
        total: doomed.total,
        failed: None,
    }
}

impl Shared {
    fn run(&self) {
        // Who uses the volumes that are there comes first.
        crate::sys::process::lower_priority();
        while let Some(doomed) = self.next() {
            let start = Instant::now();
            let stop = || self.stop.load(Ordering::Acquire);
            let salvage = |dir: BorrowedFd<'_>, name: &CStr| {
                let reserve = self.reserve.as_ref();
                reserve.is_some_and(|reserve| reserve.salvage(dir, name))
            };
            let steps = Steps {
                deleted: &self.deleted,
                stop: &stop,
                salvage: &salvage,
            };
            let done = doomed.delete(&self.layout, &steps);
            let mut state = self.state.lock();
            state.current = None;
            self.changed.notify_all();
            match done {
                Ok(true) => {
                    failpoint::hit("remove.purged");
                    state.gone.extend(doomed.row);
                    log::debug!(
                        "volume {} deleted: {} files in {:?}",
                        doomed.id,
                        self.deleted.load(Ordering::Relaxed),
                        start.elapsed()
                    );
                }
                Ok(false) => {
                    state.queue.push_front(doomed);
                    return;
                }
                // The others go on; the next start tries this one again.
                Err(error) => {
                    log::error!("removed volume {} cannot be deleted: {error}", doomed.id);
                    state.failed.push(Purge {
                        deleted: self.deleted.load(Ordering::Relaxed),
                        failed: Some(error.to_string()),
                        ..purge_of(&doomed)
                    });
                }
            }
        }
    }

    /// The next to be deleted, waited for; `None` at the end.
    fn next(&self) -> Option<Doomed> {
        let mut state = self.state.lock();
        loop {
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            if let Some(doomed) = state.queue.pop_front() {
                self.deleted.store(0, Ordering::Relaxed);
                state.current = Some(purge_of(&doomed));
                return Some(doomed);
            }
            self.changed.wait(&mut state);
        }
    }
}

impl Drop for Purger {
    fn drop(&mut self) {
        self.stop();
    }
}
