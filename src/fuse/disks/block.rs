//! The block face: the image itself, for those who open it as a file and for
//! commands that work on it.

use std::fs::OpenOptions;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use parking_lot::MutexGuard;

use super::{BlockUse, CLOSE_GRACE, Disk, Face, ImageUser};
use crate::diskimg::{ROOT_INODE, wait_until_free};
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::FileSystem;
use crate::fuse::node::{HostIno, NodeId};
use crate::fuse::{holders, image_file};
use crate::model::Slot;
use crate::sys::creds::Acting;
use crate::sys::node;
use crate::volume::{Hold, Holder, ImageGuard, Volume};

impl FileSystem {
    /// Whether an image is open as a file.
    pub(in crate::fuse) fn is_open_as_image(&self, volume: &Volume) -> bool {
        matches!(&*self.disks.of(volume.slot).face.lock(), Face::Block(_))
    }

    /// A user of the image as a file has it from an earlier process; `length`
    /// is how many bytes it has now.
    pub(in crate::fuse) fn go_on_with_image(&self, volume: &Volume, user: ImageUser, length: u64) {
        let disk = self.disks.of(volume.slot);
        let mut face = disk.lock();
        match &mut *face {
            Face::Block(open) => open.users.push(user),
            // Not the size in the catalogue, which may be behind: what a guest
            // has in a part that was just added must not be cut off.
            face => {
                *face = Face::Block(BlockUse {
                    users: vec![user],
                    length,
                });
            }
        }
    }

    /// One more user of the image as a file; writers are alone.
    pub(in crate::fuse) fn begin_image(&self, volume: &Volume, user: ImageUser) -> OpResult<()> {
        let disk = self.disks.of(volume.slot);
        let mut face = disk.lock();
        let in_use = || {
            OpError::Volume(crate::volume::Error::InUse {
                name: volume.name(),
                holders: holders::of_volume(self, volume),
            })
        };
        match &mut *face {
            Face::Block(open) if open.users.iter().all(|other| other.goes_with(user)) => {
                open.users.push(user);
                return Ok(());
            }
            Face::Directory(_) => {
                disk.put_away(&mut face, CLOSE_GRACE);
            }
            _ => {}
        }
        match &*face {
            Face::Resting => {}
            Face::Directory(_) => {
                drop(face);
                return Err(in_use());
            }
            Face::Block(_) => {
                drop(face);
                return Err(OpError::DiskAttached {
                    name: volume.name(),
                    holders: holders::of_image(self, volume),
                });
            }
            Face::Taken | Face::Leaving(_) => return Err(OpError::DiskTaken(volume.name())),
        }
        // Both may wait for others.
        *face = Face::Taken;
        let prepare = || {
            // What is shown without the kernel is open as handles only.
            if self.read_only_because(volume).is_some() && !self.view_closes(volume) {
                return Err(in_use());
            }
            self.length_of_free_image(volume)
        };
        let prepared = MutexGuard::unlocked(&mut face, prepare);
        let begun = prepared.map(|length| BlockUse {
            users: vec![user],
            length,
        });
        let (now, result) = match begun {
            Ok(open) => (Face::Block(open), Ok(())),
            Err(error) => (Face::Resting, Err(error)),
        };
        *face = now;
        disk.given_back.notify_all();
        drop(face);
        if result.is_ok() {
            self.forget_contents(volume);
        }
        result
    }

    /// How many bytes the image has, when nobody has it mounted: a daemon that
    /// was killed may have left it so, and the kernel lets go of it late.
    fn length_of_free_image(&self, volume: &Volume) -> OpResult<u64> {
        let path = self.store.image_path(volume);
        wait_until_free(&path).map_err(|error| OpError::Attach {
            name: volume.name(),
            errno: error.errno(),
            why: error.to_string(),
        })?;
        Ok(path.metadata().map_err(|_| Errno::EIO)?.len())
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

    /// Cuts off what has been written past the end of an image: the kernel,
    /// which writes to it by itself, knows no end. Says whether there was any.
    pub(in crate::fuse) fn cut_image(&self, volume: &Volume) -> bool {
        let disk = self.disks.of(volume.slot);
        // Locked meanwhile, so that what is made longer on purpose stays.
        let face = disk.face.lock();
        match &*face {
            Face::Block(open) if open.users.iter().any(|user| user.writes) => {
                self.cut(volume, open.length)
            }
            _ => false,
        }
    }

    fn cut(&self, volume: &Volume, length: u64) -> bool {
        let _as = Acting::daemon();
        let path = self.store.image_path(volume);
        let found = nix::fcntl::open(&path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
            .and_then(node::shape);
        if !found.is_ok_and(|found| found.size > length) {
            return false;
        }
        let cut = OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|image| image.set_len(length));
        let error = OpError::PastImage(volume.name());
        log::warn!("{error}");
        if let Err(error) = cut {
            log::error!("{path:?} stays longer than it should be: {error}");
        }
        self.last_errors.set_for_all(error.to_string());
        self.kernel.attr_changed(image_file::node_of(volume.slot));
        true
    }

    /// A user of the image as a file is gone.
    pub(in crate::fuse) fn end_image(&self, volume: &Volume, user: ImageUser) {
        let disk = self.disks.of(volume.slot);
        let mut face = disk.face.lock();
        let Face::Block(open) = &mut *face else {
            return;
        };
        if user.writes {
            self.cut(volume, open.length);
        }
        if let Some(at) = open.users.iter().position(|other| *other == user) {
            open.users.swap_remove(at);
        }
        if open.users.is_empty() {
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
    pub(in crate::fuse) fn take_image(
        self: &Arc<Self>,
        volume: &Volume,
    ) -> Result<ImageGuard, Vec<Holder>> {
        let disk = self.disks.of(volume.slot);
        {
            let mut face = disk.lock();
            disk.put_away(&mut face, CLOSE_GRACE);
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
}

/// Another command has the image.
const COMMAND: Holder = Holder::unseen(Hold::Command);

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
