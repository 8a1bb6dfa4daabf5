//! The directory face: attaching an image for its files, or showing what is in
//! it without the kernel.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::MutexGuard;

use super::{Disk, Face};
use crate::diskimg::{AttachError, Ways};
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::FileSystem;
use crate::fuse::ground::Ground;
use crate::fuse::node::NodeId;
use crate::fuse::view::View;
use crate::fuse::{holders, image_file};
use crate::model::Kind;
use crate::sys::creds::Acting;
use crate::sys::mount::How;
use crate::volume::Volume;

/// How long an image that could not be mounted is shown read-only before it is
/// tried again.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Why a volume's directory cannot be written.
#[derive(Clone, Debug)]
pub(in crate::fuse) enum ReadOnly {
    /// A guest has written the image.
    GuestWritten,
    /// This machine cannot mount it.
    NoWay(Arc<str>),
}

impl ReadOnly {
    /// What somebody is told who wants to write.
    pub(in crate::fuse) fn error(self, volume: &Volume) -> OpError {
        let name = volume.name();
        match self {
            Self::GuestWritten => OpError::Untrusted(name),
            Self::NoWay(why) => OpError::NoWay { name, why },
        }
    }
}

/// An attempt to mount an image that this machine could not.
pub(super) struct NoWay {
    tried: Instant,
    why: Arc<str>,
}

impl FileSystem {
    /// By what images are mounted here.
    #[must_use]
    pub fn image_ways(&self) -> Arc<Ways> {
        Arc::clone(&self.disks.ways().ways)
    }

    /// What the volume's files stand on. The image of a disk volume is
    /// attached for it.
    ///
    /// # Errors
    /// The image is in use as such, is not trusted, or cannot be attached.
    pub(in crate::fuse) fn ground(&self, volume: &Volume) -> OpResult<Arc<Ground>> {
        if volume.kind == Kind::Directory {
            return Ok(Arc::clone(self.store_ground()));
        }
        let disk = self.disks.of(volume.slot);
        let mut face = disk.lock();
        self.disks.touch(&disk);
        if let Some(why) = face.is_gone() {
            // Nobody writes the image any more: it can be mounted anew while
            // files are still open that lead nowhere.
            log::error!("volume {}: {why}", volume.name());
            *face = Face::Resting;
        }
        let refused = match &*face {
            Face::Directory(ground) => return Ok(Arc::clone(ground)),
            Face::Resting => match self.read_only_because(volume) {
                None => {
                    *face = Face::Taken;
                    let attach = || self.attach(volume, &disk);
                    let ground = MutexGuard::unlocked(&mut face, attach);
                    *face = match &ground {
                        Ok(ground) => Face::Directory(Arc::clone(ground)),
                        Err(_) => Face::Resting,
                    };
                    disk.given_back.notify_all();
                    return ground;
                }
                Some(why) => why.error(volume),
            },
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

    /// Why the image is not mounted, and shown read-only, if so.
    pub(in crate::fuse) fn read_only_because(&self, volume: &Volume) -> Option<ReadOnly> {
        if volume.kind != Kind::Disk {
            return None;
        }
        if !self.options.trust_guest_images && volume.is_guest_written() {
            return Some(ReadOnly::GuestWritten);
        }
        if let Some(why) = &self.disks.ways().none {
            return Some(ReadOnly::NoWay(Arc::clone(why)));
        }
        if !self.disks.any_without_way.load(Ordering::Relaxed) {
            return None;
        }
        let disk = self.disks.of(volume.slot);
        let no_way = disk.no_way.lock();
        let recent = no_way.as_ref().filter(|it| it.tried.elapsed() < TRY_AGAIN);
        recent.map(|it| ReadOnly::NoWay(Arc::clone(&it.why)))
    }

    fn attach(&self, volume: &Volume, disk: &Disk) -> OpResult<Arc<Ground>> {
        let _as = Acting::daemon();
        let start = Instant::now();
        let path = self.store.image_path(volume);
        let read_only = self.options.read_only;
        let how = How {
            read_only,
            noatime: self.options.noatime,
        };
        let mounted = self.disks.ways().ways.mount(&path, how);
        if let Err(error @ AttachError::NoWay { .. }) = &mounted {
            *disk.no_way.lock() = Some(NoWay {
                tried: Instant::now(),
                why: error.to_string().into(),
            });
            self.disks.any_without_way.store(true, Ordering::Relaxed);
        }
        let ground = mounted
            .map_err(|error| match error {
                AttachError::NoWay { .. } => {
                    ReadOnly::NoWay(error.to_string().into()).error(volume)
                }
                _ => OpError::Attach {
                    name: volume.name(),
                    errno: error.errno(),
                    why: error.to_string(),
                },
            })
            .and_then(|image| {
                let kept = self.live.keep_image(volume.slot, &image);
                Ground::of_image(image, path, kept)
            });
        match ground {
            Ok(ground) => {
                if !read_only && ground.is_read_only() {
                    let damaged = OpError::DamagedImage(volume.name());
                    log::error!("{damaged}");
                    self.last_errors.set_for_all(damaged.to_string());
                }
                *disk.no_way.lock() = None;
                disk.told_errors.store(0, Ordering::Relaxed);
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

    /// Goes on with an image that an earlier process has attached.
    pub(in crate::fuse) fn go_on_with_ground(&self, volume: &Volume, ground: Ground) {
        let disk = self.disks.of(volume.slot);
        self.disks.touch(&disk);
        *disk.face.lock() = Face::Directory(Arc::new(ground));
    }

    /// What is shown of an image that is not mounted.
    ///
    /// # Errors
    /// It is in use, or cannot be read.
    pub(in crate::fuse) fn view(&self, volume: &Volume) -> OpResult<Option<Arc<View>>> {
        if volume.kind != Kind::Disk {
            return Ok(None);
        }
        if self.read_only_because(volume).is_none() {
            // A use of it attaches it; where it turns out now that this cannot
            // be done it is shown nevertheless.
            match self.ground(volume) {
                Ok(_) => return Ok(None),
                Err(OpError::NoWay { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let disk = self.disks.of(volume.slot);
        let face = disk.lock();
        self.disks.touch(&disk);
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
        let path = self.store.image_path(volume);
        let view = Arc::new(View::open(&path, volume.id, volume.slot)?);
        let mut views = self.disks.views.lock();
        views.insert(volume.slot, Arc::clone(&view));
        Ok(Some(view))
    }

    /// Whether a request about `node` waits for nothing but the host's file
    /// system: what it is about is not of a disk volume, or the kernel has the
    /// image mounted, or it is the image, and is open.
    pub(in crate::fuse) fn answers_at_once(&self, node: NodeId) -> bool {
        if node == NodeId::ROOT {
            // A list of all volumes looks at each.
            return !self.disks.are_served_by_processes();
        }
        let image = image_file::slot_of(node);
        let slot = image.or_else(|| node.slot());
        let volume = slot.and_then(|slot| self.store.volume_in(slot));
        let Some(volume) = volume.filter(|volume| volume.kind == Kind::Disk) else {
            return true;
        };
        let disk = self.disks.of(volume.slot);
        let face = disk.face.try_lock();
        face.is_some_and(|face| match &*face {
            Face::Directory(ground) => image.is_none() && !ground.may_vanish(),
            Face::Block(_) => image.is_some(),
            Face::Resting | Face::Taken | Face::Leaving(_) => false,
        })
    }

    /// The ground of a disk volume if its image is attached now. Nothing is
    /// attached for it.
    pub(in crate::fuse) fn attached_ground(&self, volume: &Volume) -> Option<Arc<Ground>> {
        match &*self.disks.of(volume.slot).face.lock() {
            Face::Directory(ground) => Some(Arc::clone(ground)),
            _ => None,
        }
    }
}
