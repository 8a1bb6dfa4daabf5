//! The two faces of a disk volume: a directory of files, or its image as one
//! file. Never both at once: whoever mounts an image that another writes
//! destroys it.
//!
//! Here is who has an image now; `directory` attaches it for its files, `block`
//! gives it to those who open it as a file, `growth` makes it larger, `health`
//! watches it. What is done with files is in the operations, with the image in
//! `image_file`.

mod block;
mod directory;
mod growth;
mod health;
pub(super) mod lost_found;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

use super::ground::Ground;
use super::handles::Share;
use super::types::Fh;
use super::view::View;
use crate::diskimg::{Health, Ways, is_free};
use crate::model::Slot;

use directory::{NoWay, TRY_AGAIN};

/// How long closes that are on their way may take to reach us.
const CLOSE_GRACE: Duration = Duration::from_millis(500);
/// How long somebody waits for an image that is being attached, grown or
/// removed.
const TAKEN_GRACE: Duration = Duration::from_secs(5);
/// How long an image that nobody uses stays attached.
const IDLE: Duration = Duration::from_secs(30);
/// How many images stay attached although nobody uses them.
const MOST_IDLE: usize = 32;

/// All disk volumes that have been used.
pub(in crate::fuse) struct Disks {
    by_slot: RwLock<HashMap<Slot, Arc<Disk>>>,
    /// Of images that the kernel is not given. Taken off when somebody else
    /// gets the image.
    views: Mutex<HashMap<Slot, Arc<View>>>,
    /// Images that are open as files.
    pub(in crate::fuse) open_images: Mutex<HashMap<Fh, OpenImage>>,
    /// By what images are mounted here; looked for when the first one is.
    ways: RwLock<Option<Arc<WaysHere>>>,
    /// Whether any image could not be mounted although there is a way.
    any_without_way: AtomicBool,
    start: Instant,
}

/// What [`Ways`] there were when it was looked.
struct WaysHere {
    ways: Arc<Ways>,
    /// Why there is none.
    none: Option<Arc<str>>,
    looked: Instant,
}

/// One of them.
struct Disk {
    /// Not held while the image is attached and detached, nor while it is
    /// waited for a dead daemon to let go of it: it is taken then, and whoever
    /// wants it waits a while, but not for ever, because there are few threads
    /// for all volumes. Held for at most `CLOSE_GRACE` while closes are on
    /// their way: the image is still attached then, and who looks at it or
    /// lists it is to see that and not what is in the image file.
    face: Mutex<Face>,
    given_back: Condvar,
    /// Milliseconds since the start.
    used: AtomicU64,
    /// The last attempt to mount it, if this machine could not.
    no_way: Mutex<Option<NoWay>>,
    /// Errors of its file system that have been told.
    told_errors: AtomicU64,
}

/// Who has the image.
enum Face {
    /// Nobody.
    Resting,
    /// The kernel, as a file system.
    Directory(Arc<Ground>),
    /// Who has opened it as a file.
    Block(BlockUse),
    /// A command, or who attaches or detaches it.
    Taken,
    /// Still the kernel, this image: something has a file of it open that we do
    /// not know of.
    Leaving(PathBuf),
}

/// The use of an image as a file.
struct BlockUse {
    users: Vec<ImageUser>,
    /// Bytes that the image has: it does not grow by being written to.
    length: u64,
}

/// Who has opened an image as a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fuse) struct ImageUser {
    /// Its process; one that cannot be seen is nobody's equal. QEMU opens an
    /// image several times.
    pub(in crate::fuse) process: Option<u32>,
    pub(in crate::fuse) writes: bool,
}

/// An image that is open as a file.
pub(in crate::fuse) struct OpenImage {
    pub(in crate::fuse) user: ImageUser,
    /// For what is asked of us although the kernel reads and writes by itself.
    pub(in crate::fuse) file: Arc<OwnedFd>,
    /// After `file`: free when that is closed.
    _share: Share,
}

impl OpenImage {
    pub(in crate::fuse) fn new(user: ImageUser, file: Arc<OwnedFd>, share: Share) -> Self {
        Self {
            user,
            file,
            _share: share,
        }
    }
}

impl ImageUser {
    /// Whether both may have the image at a time.
    fn goes_with(self, other: Self) -> bool {
        !self.writes && !other.writes || self.process.is_some() && self.process == other.process
    }
}

impl Default for Disks {
    fn default() -> Self {
        Self {
            by_slot: RwLock::default(),
            views: Mutex::default(),
            open_images: Mutex::default(),
            ways: RwLock::default(),
            any_without_way: AtomicBool::new(false),
            start: Instant::now(),
        }
    }
}

impl Disks {
    fn of(&self, slot: Slot) -> Arc<Disk> {
        if let Some(disk) = self.by_slot.read().get(&slot) {
            return Arc::clone(disk);
        }
        let mut by_slot = self.by_slot.write();
        Arc::clone(by_slot.entry(slot).or_insert_with(|| {
            Arc::new(Disk {
                face: Mutex::new(Face::Resting),
                given_back: Condvar::new(),
                used: AtomicU64::new(0),
                no_way: Mutex::new(None),
                told_errors: AtomicU64::new(0),
            })
        }))
    }

    fn touch(&self, disk: &Disk) {
        let now = self.start.elapsed().as_millis() as u64;
        disk.used.store(now, Ordering::Relaxed);
    }

    fn all(&self) -> Vec<Arc<Disk>> {
        self.by_slot.read().values().map(Arc::clone).collect()
    }

    /// By what images are mounted here. Where there was no way it is looked
    /// again now and then: fuse2fs may be installed meanwhile.
    fn ways(&self) -> Arc<WaysHere> {
        let known = self.ways.read().clone();
        if let Some(known) = known
            && (known.none.is_none() || known.looked.elapsed() < TRY_AGAIN)
        {
            return known;
        }
        let ways = Ways::probe();
        let found = Arc::new(WaysHere {
            none: ways.why_none().map(Arc::from),
            ways: Arc::new(ways),
            looked: Instant::now(),
        });
        *self.ways.write() = Some(Arc::clone(&found));
        found
    }

    /// Whether images are not mounted by the kernel here, but served by processes
    /// that may hang. `false` before the first is used.
    fn are_served_by_processes(&self) -> bool {
        let known = self.ways.read();
        known
            .as_ref()
            .is_some_and(|here| here.ways.why_not_kernel().is_some())
    }

    /// How many images are attached; not those of which that is being changed.
    pub(in crate::fuse) fn attached(&self) -> usize {
        let is_attached = |disk: &Arc<Disk>| {
            let face = disk.face.try_lock();
            face.is_some_and(|face| matches!(*face, Face::Directory(_)))
        };
        self.all().iter().filter(|disk| is_attached(disk)).count()
    }

    /// Detaches images that nobody has used for a while, and of those that
    /// nobody uses the ones that have waited longest where there are many.
    pub(in crate::fuse) fn detach_idle(&self) {
        let now = self.start.elapsed().as_millis() as u64;
        let mut idle: Vec<_> = self
            .all()
            .into_iter()
            .filter(|disk| disk.face.try_lock().is_some_and(|face| face.is_idle()))
            .map(|disk| (disk.used.load(Ordering::Relaxed), disk))
            .collect();
        idle.sort_by_key(|(used, _)| *used);
        let too_many = idle.len().saturating_sub(MOST_IDLE);
        for (index, (used, disk)) in idle.into_iter().enumerate() {
            let long = now.saturating_sub(used) > IDLE.as_millis() as u64;
            if (index < too_many || long)
                && let Some(mut face) = disk.face.try_lock()
            {
                disk.put_away(&mut face, Duration::ZERO);
            }
        }
        for view in self.views.lock().values() {
            view.rest();
        }
    }

    /// Detaches all images that nobody uses; for the end of the mount.
    pub(in crate::fuse) fn detach_all(&self) {
        for disk in self.all() {
            disk.put_away(&mut disk.lock(), CLOSE_GRACE);
        }
    }
}

impl Disk {
    /// Locks the face; of a volume that is taken, when it is given back or
    /// after a while.
    fn lock(&self) -> MutexGuard<'_, Face> {
        let deadline = Instant::now() + TAKEN_GRACE;
        let mut face = self.face.lock();
        while matches!(*face, Face::Taken) {
            if self.given_back.wait_until(&mut face, deadline).timed_out() {
                break;
            }
        }
        if let Face::Leaving(image) = &*face
            && is_free(image)
        {
            *face = Face::Resting;
        }
        face
    }
}

impl Disk {
    /// Detaches the image, if nobody uses it within `grace`; says whether
    /// nobody has it then. Taken meanwhile: what has been written may take long
    /// to reach the disk.
    fn put_away(&self, face: &mut MutexGuard<'_, Face>, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        while let Face::Directory(ground) = &**face
            && Arc::strong_count(ground) > 1
        {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        match std::mem::replace(&mut **face, Face::Taken) {
            Face::Directory(ground) => {
                let image = ground.image().map(PathBuf::from).unwrap_or_default();
                // The count was 1 with the face locked: nobody else has it.
                let detach = || Arc::into_inner(ground).is_some_and(Ground::detach);
                let detached = MutexGuard::unlocked(face, detach);
                **face = if detached {
                    Face::Resting
                } else {
                    log::warn!("{image:?} is still in use after its volume was unmounted");
                    Face::Leaving(image)
                };
                self.given_back.notify_all();
                detached
            }
            other => {
                let resting = matches!(other, Face::Resting);
                **face = other;
                resting
            }
        }
    }
}

impl Face {
    /// Why the image is not served any more, if it was and should be.
    fn is_gone(&self) -> Option<String> {
        match self {
            Self::Directory(ground) if ground.may_vanish() => match ground.health() {
                Health::Gone(why) => Some(why),
                Health::Good | Health::Errors(_) => None,
            },
            _ => None,
        }
    }

    /// Whether it is attached and nobody uses it.
    fn is_idle(&self) -> bool {
        matches!(self, Self::Directory(ground) if Arc::strong_count(ground) == 1)
    }
}
