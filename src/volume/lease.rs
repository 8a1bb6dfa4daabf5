//! Who in this process uses a volume without a mount, and who has to wait or
//! to be refused meanwhile: one lease for each use, held until it is dropped.
//!
//! | held \ wanted | files | contents | alone |
//! |---|---|---|---|
//! | [files](Use::Files) | yes | a directory: yes, an image: no | no |
//! | [contents](Use::Contents) | a directory: yes, an image: no | yes | no |
//! | [alone](Use::Alone) | waits | waits | waits |
//!
//! That this process alone is looked at is enough. A store that may be changed
//! is opened by one process at a time: it has the store's lock, flock(2) for
//! writing, and every lease holds that lock as well, so that it is not given
//! back before the last use of a volume has ended, whatever becomes of the
//! [`Store`](super::Store). Several processes can have a store only if all
//! have it read-only, and these change no image: they mount it by a read-only
//! loop device, and refuse whatever wants a volume alone.
//!
//! What a daemon shows to other processes is not seen here, nor who goes by the
//! paths in the store; that is `in_use`'s business.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::error::{Error, Result};
use super::holder::{Hold, Holder};
use super::in_memory::Volume;
use super::lock::StoreLock;
use super::observer::ImageGuard;
use super::store::Store;
use crate::diskimg;
use crate::model::{Kind, VolumeName};

/// How long somebody waits for a volume that another call has alone: that ends
/// by itself. As long as for an image in a mount.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a volume is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Its files, one by one; the image of a disk volume is mounted for that.
    Files,
    /// All that it holds is read as a whole; the image of a disk volume is at
    /// rest.
    Contents,
    /// Nobody else uses it: it is removed, or its image checked or grown.
    Alone,
}

/// The uses of one volume.
#[derive(Debug, Default)]
pub(super) struct Leases {
    // Never held over anything that waits for anything else.
    held: Mutex<Held>,
    given_back: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    files: usize,
    contents: usize,
    alone: bool,
}

impl Held {
    fn goes_with(&self, what: Use, kind: Kind) -> bool {
        let shares = kind == Kind::Directory;
        !self.alone
            && match what {
                Use::Files => shares || self.contents == 0,
                Use::Contents => shares || self.files == 0,
                Use::Alone => self.files == 0 && self.contents == 0,
            }
    }

    fn holders(&self) -> Vec<Holder> {
        let mut holders = Vec::new();
        if self.files > 0 {
            holders.push(this_process(Hold::Library));
        }
        if self.contents > 0 || self.alone {
            holders.push(this_process(Hold::Command));
        }
        holders
    }
}

impl Leases {
    /// Who uses the volume.
    pub(super) fn holders(&self) -> Vec<Holder> {
        self.held.lock().holders()
    }
}

/// A use of a volume, until it is dropped.
pub(super) struct Lease {
    volume: Arc<Volume>,
    what: Use,
    // Held, never read: the store is this process's until then.
    _store: Option<Arc<StoreLock>>,
}

impl Lease {
    /// Begins to use a volume.
    ///
    /// # Errors
    /// Who uses it in a way that does not go with this one; at once, or after a
    /// while if somebody has it alone.
    pub(super) fn take(
        volume: &Arc<Volume>,
        what: Use,
        store: Option<Arc<StoreLock>>,
    ) -> std::result::Result<Self, Vec<Holder>> {
        let deadline = Instant::now() + PATIENCE;
        let leases = &volume.leases;
        let mut held = leases.held.lock();
        while held.alone {
            if leases
                .given_back
                .wait_until(&mut held, deadline)
                .timed_out()
            {
                break;
            }
        }
        if !held.goes_with(what, volume.kind) {
            return Err(held.holders());
        }
        match what {
            Use::Files => held.files += 1,
            Use::Contents => held.contents += 1,
            Use::Alone => held.alone = true,
        }
        drop(held);
        Ok(Self {
            volume: Arc::clone(volume),
            what,
            _store: store,
        })
    }

    /// The volume that is used.
    pub(super) fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease")
            .field(&self.volume.id)
            .field(&self.what)
            .finish()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.volume.leases.held.lock();
        match self.what {
            // Cannot wrap: a lease has added one, and takes it off once.
            Use::Files => held.files -= 1,
            Use::Contents => held.contents -= 1,
            Use::Alone => held.alone = false,
        }
        drop(held);
        self.volume.leases.given_back.notify_all();
    }
}

impl Store {
    /// Begins to use the volume that has this name. It is not removed before
    /// the result is dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InUse`].
    pub(super) fn lease(&self, name: &VolumeName, what: Use) -> Result<Lease> {
        loop {
            let volume = self.index.read().find(name)?;
            let lease = Lease::take(&volume, what, self.lock.clone()).map_err(|holders| {
                let name = name.clone();
                Error::InUse { name, holders }
            })?;
            // It may have been removed or renamed while this waited.
            if self.is_called(name, &volume) {
                return Ok(lease);
            }
        }
    }

    /// Whether the name leads to this volume.
    pub(super) fn is_called(&self, name: &VolumeName, volume: &Arc<Volume>) -> bool {
        let index = self.index.read();
        index.get(name).is_some_and(|it| Arc::ptr_eq(it, volume))
    }

    /// Nobody in a mount uses the image of the volume while the result lives;
    /// there is none to be taken of a directory volume. Nobody in this process
    /// does for as long as `lease` lives, which is not one of files.
    ///
    /// Waits for what is closed just now, and for an image that a daemon has
    /// left: call it without a lock.
    pub(super) fn take_image(&self, lease: &Lease) -> Result<Option<ImageGuard>> {
        let volume = lease.volume();
        if volume.kind != Kind::Disk {
            return Ok(None);
        }
        let mut taken = None;
        self.tell(|observer| taken = Some(observer.take_image(volume)));
        let in_use = |holders| Error::InUse {
            name: volume.name(),
            holders,
        };
        let taken = taken.transpose().map_err(in_use)?;
        // Who has the image by its path in the store is not seen in a mount.
        let by_path = self.holders_in_store(&[Arc::clone(volume)]).concat();
        if !by_path.is_empty() {
            return Err(in_use(by_path));
        }
        // Left by a daemon that was killed.
        let path = self.image_path(volume);
        diskimg::wait_until_free(&path).map_err(|error| Error::Image {
            path,
            why: error.to_string(),
        })?;
        Ok(taken)
    }
}

fn this_process(how: Hold) -> Holder {
    let pid = std::process::id().cast_signed();
    Holder {
        pid: Some(pid),
        command: crate::sys::process::command_of(pid),
        ..Holder::unseen(how)
    }
}
