//! The two faces of a disk volume: a directory of files, or its image as one
//! file. Never both at once: whoever mounts an image that another writes
//! destroys it.
//!
//! Says who may use an image now, and attaches and detaches it for that. What
//! is done with files is in the operations, with the image in `image_file`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

use super::error::{OpError, OpResult};
use super::fs::FileSystem;
use super::ground::Ground;
use super::holders;
use super::node::{HostIno, NodeId};
use super::types::Fh;
use super::view::View;
use crate::diskimg::{Attached, ROOT_INODE, wait_until_free};
use crate::model::{Kind, Slot, VolumeName};
use crate::sys::creds::Acting;
use crate::sys::loopdev;
use crate::volume::{Hold, Holder, ImageGuard, Volume};

/// How long closes that are on their way may take to reach us.
const CLOSE_GRACE: Duration = Duration::from_millis(500);
/// How long somebody waits for a volume that is being grown or removed.
const TAKEN_GRACE: Duration = Duration::from_secs(2);
/// How long an image that nobody uses stays attached.
const IDLE: Duration = Duration::from_secs(30);
/// How many images stay attached although nobody uses them.
const MOST_IDLE: usize = 32;

/// All disk volumes that have been used.
pub(super) struct Disks {
    by_slot: RwLock<HashMap<Slot, Arc<Disk>>>,
    /// Of images that guests have written. Taken off when somebody else gets
    /// the image.
    views: Mutex<HashMap<Slot, Arc<View>>>,
    /// Open images, and who opened each.
    pub(super) image_users: Mutex<HashMap<Fh, ImageUser>>,
    start: Instant,
}

/// One of them.
struct Disk {
    /// Held while the image is attached and detached: until that is done
    /// nobody can use it, whichever way.
    face: Mutex<Face>,
    given_back: Condvar,
    /// Milliseconds since the start.
    used: AtomicU64,
}

/// Who has the image.
enum Face {
    /// Nobody.
    Resting,
    /// The kernel, as a file system.
    Directory(Arc<Ground>),
    /// Who has opened it as a file.
    Block(Vec<ImageUser>),
    /// A command.
    Taken,
    /// Still the kernel, at this loop device: something has a file of it open
    /// that we do not know of.
    Leaving(u32),
}

/// Who has opened an image as a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImageUser {
    /// Its process; one that cannot be seen is nobody's equal. QEMU opens an
    /// image several times.
    pub(super) process: Option<u32>,
    pub(super) writes: bool,
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
            image_users: Mutex::default(),
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

    /// How many images are attached.
    pub(super) fn attached(&self) -> usize {
        let is_attached = |disk: &Arc<Disk>| match disk.face.try_lock() {
            Some(face) => matches!(*face, Face::Directory(_)),
            None => true,
        };
        self.all().iter().filter(|disk| is_attached(disk)).count()
    }

    /// Detaches images that nobody has used for a while, and of those that
    /// nobody uses the ones that have waited longest where there are many.
    pub(super) fn detach_idle(&self) {
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
                face.put_away(Duration::ZERO);
            }
        }
    }

    /// Detaches all images that nobody uses; for the end of the mount.
    pub(super) fn detach_all(&self) {
        for disk in self.all() {
            disk.face.lock().put_away(CLOSE_GRACE);
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
        if let Face::Leaving(device) = *face
            && !loopdev::is_attached(device)
        {
            *face = Face::Resting;
        }
        face
    }
}

impl Face {
    /// Whether it is attached and nobody uses it.
    fn is_idle(&self) -> bool {
        matches!(self, Self::Directory(ground) if Arc::strong_count(ground) == 1)
    }

    /// Detaches the image, if nobody uses it within `grace`.
    fn put_away(&mut self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        while let Self::Directory(ground) = self
            && Arc::strong_count(ground) > 1
        {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        match std::mem::replace(self, Self::Resting) {
            Self::Directory(ground) => {
                let device = ground.device().unwrap_or_default();
                // The count was 1 with the face locked: nobody else has it.
                if Arc::into_inner(ground).is_some_and(Ground::detach) {
                    return true;
                }
                log::warn!("/dev/loop{device} is still in use after its volume was unmounted");
                *self = Self::Leaving(device);
                false
            }
            other => {
                let resting = matches!(other, Self::Resting);
                *self = other;
                resting
            }
        }
    }
}

impl FileSystem {
    /// What the volume's files stand on. The image of a disk volume is
    /// attached for it.
    ///
    /// # Errors
    /// The image is in use as such, is not trusted, or cannot be attached.
    pub(super) fn ground(&self, volume: &Volume) -> OpResult<Arc<Ground>> {
        if volume.kind == Kind::Directory {
            return Ok(Arc::clone(self.store_ground()));
        }
        let disk = self.disks.of(volume.slot);
        let mut face = disk.lock();
        self.disks.touch(&disk);
        let refused = match &*face {
            Face::Directory(ground) => return Ok(Arc::clone(ground)),
            Face::Resting if self.may_mount(volume) => {
                let ground = self.attach(volume)?;
                *face = Face::Directory(Arc::clone(&ground));
                return Ok(ground);
            }
            Face::Resting => OpError::Untrusted(volume.name()),
            Face::Block(_) => {
                drop(face);
                OpError::DiskAttached {
                    name: volume.name(),
                    holders: holders::of_image(self, volume),
                }
            }
            Face::Taken | Face::Leaving(_) => OpError::DiskTaken(volume.name()),
        };
        self.last_errors.set_for_all(refused.to_string());
        Err(refused)
    }

    /// Whether the kernel may be given the image to mount.
    fn may_mount(&self, volume: &Volume) -> bool {
        self.options.trust_guest_images || !volume.is_guest_written()
    }

    fn attach(&self, volume: &Volume) -> OpResult<Arc<Ground>> {
        let _as = Acting::daemon();
        let start = Instant::now();
        let path = self.store.image_path(volume);
        let read_only = self.options.read_only;
        let ground = Attached::new(&path, read_only)
            .map_err(|error| OpError::Attach {
                name: volume.name(),
                errno: error.errno(),
                why: error.to_string(),
            })
            .and_then(|attached| {
                let kept = self.live.keep_image(volume.slot, &attached);
                Ground::of_image(attached, kept)
            });
        match ground {
            Ok(ground) => {
                log::debug!(
                    "volume {} attached to loop device {:?} in {:?}",
                    volume.name(),
                    ground.device(),
                    start.elapsed()
                );
                Ok(Arc::new(ground))
            }
            Err(error) => {
                log::error!("volume {}: {error}", volume.name());
                self.last_errors.set_for_all(error.to_string());
                Err(error)
            }
        }
    }

    /// What is shown of an image that a guest has written.
    ///
    /// # Errors
    /// It is in use, or cannot be read.
    pub(super) fn view(&self, volume: &Volume) -> OpResult<Option<Arc<View>>> {
        if self.untrusted(volume).is_none() {
            return Ok(None);
        }
        let disk = self.disks.of(volume.slot);
        let face = disk.lock();
        match &*face {
            Face::Resting => {}
            Face::Block(_) => {
                drop(face);
                let refused = OpError::DiskAttached {
                    name: volume.name(),
                    holders: holders::of_image(self, volume),
                };
                self.last_errors.set_for_all(refused.to_string());
                return Err(refused);
            }
            _ => return Err(OpError::DiskTaken(volume.name())),
        }
        let known = self.disks.views.lock().get(&volume.slot).cloned();
        if let Some(view) = known {
            return Ok(Some(view));
        }
        let view = Arc::new(View::open(&self.store.image_path(volume), volume.slot)?);
        let mut views = self.disks.views.lock();
        views.insert(volume.slot, Arc::clone(&view));
        Ok(Some(view))
    }

    /// The ground of a disk volume if its image is attached now. Nothing is
    /// attached for it.
    pub(super) fn attached_ground(&self, volume: &Volume) -> Option<Arc<Ground>> {
        match &*self.disks.of(volume.slot).lock() {
            Face::Directory(ground) => Some(Arc::clone(ground)),
            _ => None,
        }
    }

    /// Whether an image is open as a file.
    pub(super) fn is_open_as_image(&self, volume: &Volume) -> bool {
        matches!(&*self.disks.of(volume.slot).lock(), Face::Block(_))
    }

    /// One more user of the image as a file; writers are alone.
    pub(super) fn begin_image(&self, volume: &Volume, user: ImageUser) -> OpResult<()> {
        let disk = self.disks.of(volume.slot);
        let mut face = disk.lock();
        let busy = |how: &Face| match how {
            Face::Directory(_) => OpError::Volume(crate::volume::Error::InUse {
                name: volume.name(),
                holders: holders::of_volume(self, volume),
            }),
            Face::Block(_) => OpError::DiskAttached {
                name: volume.name(),
                holders: holders::of_image(self, volume),
            },
            _ => OpError::DiskTaken(volume.name()),
        };
        match &mut *face {
            Face::Block(users) if users.iter().all(|other| other.goes_with(user)) => {
                users.push(user);
                return Ok(());
            }
            Face::Directory(_) => {
                face.put_away(CLOSE_GRACE);
            }
            _ => {}
        }
        if !matches!(*face, Face::Resting) {
            return Err(busy(&face));
        }
        if self.untrusted(volume).is_some() && !self.view_closes(volume) {
            return Err(OpError::Volume(crate::volume::Error::InUse {
                name: volume.name(),
                holders: holders::of_volume(self, volume),
            }));
        }
        // Left by a daemon that was killed.
        wait_until_free(&self.store.image_path(volume)).map_err(|error| OpError::Attach {
            name: volume.name(),
            errno: error.errno(),
            why: error.to_string(),
        })?;
        *face = Face::Block(vec![user]);
        drop(face);
        self.forget_contents(volume);
        Ok(())
    }

    /// Goes on with an image that an earlier process has attached.
    pub(super) fn go_on_with_ground(&self, volume: &Volume, ground: Ground) {
        *self.disks.of(volume.slot).face.lock() = Face::Directory(Arc::new(ground));
    }

    /// A user of the image as a file has it from an earlier process.
    pub(super) fn go_on_with_image(&self, volume: &Volume, user: ImageUser) {
        let disk = self.disks.of(volume.slot);
        let mut face = disk.face.lock();
        match &mut *face {
            Face::Block(users) => users.push(user),
            face => *face = Face::Block(vec![user]),
        }
    }

    /// Whether nobody has files of the volume open, or not any more.
    fn view_closes(&self, volume: &Volume) -> bool {
        let deadline = Instant::now() + CLOSE_GRACE;
        while !self.handles.in_volume(volume.slot).is_empty() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// A user of the image as a file is gone.
    pub(super) fn end_image(&self, volume: &Volume, user: ImageUser) {
        let disk = self.disks.of(volume.slot);
        let mut face = disk.face.lock();
        let Face::Block(users) = &mut *face else {
            return;
        };
        if let Some(at) = users.iter().position(|other| *other == user) {
            users.swap_remove(at);
        }
        if users.is_empty() {
            *face = Face::Resting;
            drop(face);
            self.forget_contents(volume);
        }
    }

    /// What the kernel has cached of the volume's files may be wrong.
    fn forget_contents(&self, volume: &Volume) {
        self.disks.views.lock().remove(&volume.slot);
        self.distrust_cache(volume.slot);
        self.kernel
            .entry_changed(NodeId::ROOT, volume.name().as_str());
        if let Some(root) = NodeId::new(volume.slot, HostIno(ROOT_INODE)) {
            self.kernel.attr_changed_later(root);
        }
    }

    /// Takes the image from everybody until the result is dropped.
    ///
    /// # Errors
    /// Who uses it.
    pub(super) fn take_image(self: &Arc<Self>, volume: &Volume) -> Result<ImageGuard, Vec<Holder>> {
        let disk = self.disks.of(volume.slot);
        {
            let mut face = disk.lock();
            face.put_away(CLOSE_GRACE);
            match &*face {
                Face::Resting => *face = Face::Taken,
                Face::Block(_) => {
                    drop(face);
                    return Err(holders::of_image(self, volume));
                }
                Face::Taken => return Err(vec![COMMAND]),
                _ => {
                    drop(face);
                    return Err(holders::of_volume(self, volume));
                }
            }
        }
        Ok(Box::new(TakenImage {
            disk,
            slot: volume.slot,
            fs: Arc::downgrade(self),
        }))
    }

    /// The name of the volume, where its image must not be mounted.
    pub(super) fn untrusted(&self, volume: &Volume) -> Option<VolumeName> {
        (volume.kind == Kind::Disk && !self.may_mount(volume)).then(|| volume.name())
    }
}

/// Another command has the image.
const COMMAND: Holder = Holder {
    pid: None,
    command: None,
    how: Hold::Command,
};

/// An image that a command has.
struct TakenImage {
    disk: Arc<Disk>,
    slot: Slot,
    fs: Weak<FileSystem>,
}

impl Drop for TakenImage {
    fn drop(&mut self) {
        *self.disk.face.lock() = Face::Resting;
        self.disk.given_back.notify_all();
        // It may have been mended, or grown.
        if let Some(fs) = self.fs.upgrade()
            && let Some(volume) = fs.store.volume_in(self.slot)
        {
            fs.forget_contents(&volume);
        }
    }
}
