//! An image as a file system of the running kernel: on a loop device.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::error::AttachError;
use super::free::{LET_GO, wait_until_free};
use super::{BLOCK_SIZE, Health};
use crate::sys::ext4::{self, Errors};
use crate::sys::loopdev::{self, LoopDevice};
use crate::sys::mount::{Context, How};

/// What is written to a mounted image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    None,
    /// What its journal holds.
    Recovery,
    /// Files.
    Files,
}

/// A mounted image. Unmounted when it is dropped; also when the process is
/// killed, by the kernel.
#[derive(Debug)]
pub struct Attached {
    // Before the mount, which it would keep in use.
    dir: Option<OwnedFd>,
    mount: Option<OwnedFd>,
    device: u32,
    /// Errors that the file system knew of when it was mounted.
    errors_before: u64,
}

impl Attached {
    /// Attaches the file at `path` and mounts it, `discard,nosuid,nodev`. The
    /// kernel replays its journal if that is needed and allowed. With `noatime`
    /// reading changes no access times.
    ///
    /// # Errors
    /// [`AttachError`]; nothing is left attached.
    pub fn new(path: &Path, access: Access, noatime: bool) -> Result<Self, AttachError> {
        wait_until_free(path)?;
        let read_only = access == Access::None;
        let image = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .open(path)
            .map_err(|error| AttachError::Open {
                errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
            })?;
        let name = path.to_string_lossy();
        let device = LoopDevice::attach(image, sector_bytes(path), read_only, &name)
            .map_err(|errno| AttachError::Loop { errno })?;
        let how = How {
            read_only: access != Access::Files,
            noatime,
        };
        let mount = mount(&device, how)?;
        let number = device.number();
        Self::from_mount(mount, number, errors(number).count)
    }

    /// One that another process has mounted, by the descriptor of its
    /// [mount](Self::mount), the number of its [device](Self::device) and
    /// [what it knew then](Self::errors_before).
    ///
    /// # Errors
    /// Its root cannot be opened.
    pub fn from_mount(
        mount: OwnedFd,
        device: u32,
        errors_before: u64,
    ) -> Result<Self, AttachError> {
        let dir = nix::fcntl::openat(
            &mount,
            ".",
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|errno| AttachError::Mount {
            errno,
            messages: String::new(),
        })?;
        Ok(Self {
            dir: Some(dir),
            mount: Some(mount),
            errors_before,
            device,
        })
    }

    /// The mount. As long as any copy of this descriptor is open the image stays
    /// attached.
    #[must_use]
    pub fn mount(&self) -> Option<BorrowedFd<'_>> {
        self.mount.as_ref().map(OwnedFd::as_fd)
    }

    /// Errors that the file system knew of when it was mounted.
    #[must_use]
    pub fn errors_before(&self) -> u64 {
        self.errors_before
    }

    /// The root directory, open for reading.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn root(&self) -> std::io::Result<OwnedFd> {
        match &self.dir {
            Some(dir) => dir.try_clone(),
            None => Err(std::io::ErrorKind::NotConnected.into()),
        }
    }

    /// The number of the loop device.
    #[must_use]
    pub fn device(&self) -> u32 {
        self.device
    }

    /// Unmounts, and waits until the kernel has let go of the image. `false`
    /// when it has not: something still has a file of it open.
    #[must_use]
    pub fn detach(mut self) -> bool {
        self.close();
        let deadline = Instant::now() + LET_GO;
        while loopdev::is_attached(self.device) {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        let errors = errors(self.device);
        if errors.count > self.errors_before {
            Health::Errors(errors)
        } else {
            Health::Good
        }
    }

    /// Makes the file at `path`, which is the one that is mounted, `bytes` long
    /// and the file system in it `blocks`.
    pub(super) fn grow(&self, path: &Path, bytes: u64, blocks: u64) -> Result<(), Errno> {
        let dir = self.dir.as_ref().ok_or(Errno::ENODEV)?;
        let errno =
            |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        let file = OpenOptions::new().write(true).open(path).map_err(errno)?;
        if file.metadata().map_err(errno)?.len() < bytes {
            file.set_len(bytes).map_err(errno)?;
            file.sync_all().map_err(errno)?;
        }
        loopdev::see_new_length(self.device)?;
        ext4::resize(dir, blocks)
    }

    fn close(&mut self) {
        self.dir = None;
        self.mount = None;
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.close();
    }
}

/// The sectors that the device of the image at `path` has, in bytes: the least that
/// is read and written directly (O_DIRECT), both of the image and of files in it.
/// It is the host's own where that takes such; the kernel uses no direct I/O to an
/// image with smaller sectors than its file system takes (`lo_can_use_dio`,
/// drivers/block/loop.c).
fn sector_bytes(path: &Path) -> u32 {
    // SECTOR_SIZE, linux/blk_types.h.
    const SECTOR: usize = 512;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECT | OFlag::O_CLOEXEC;
    let read = nix::fcntl::open(path, flags, Mode::empty()).and_then(|image| {
        // Memory has to be aligned, too.
        let mut memory = [0; 2 * SECTOR];
        let start = memory.as_ptr().align_offset(SECTOR).min(SECTOR);
        nix::sys::uio::pread(&image, &mut memory[start..start + SECTOR], 0)
    });
    match read {
        Ok(_) => SECTOR as u32,
        // Blocks of the file system in the image: with larger ones it could not
        // be mounted.
        Err(_) => BLOCK_SIZE as u32,
    }
}

fn errors(device: u32) -> Errors {
    ext4::errors(&format!("loop{device}")).unwrap_or_default()
}

fn mount(device: &LoopDevice, how: How) -> Result<OwnedFd, AttachError> {
    let failed = |errno, messages| AttachError::Mount { errno, messages };
    let context = Context::open("ext4").map_err(|errno| failed(errno, String::new()))?;
    let source = device.path();
    let mounted = context
        .set("source", &source.to_string_lossy())
        // What is deleted gives its space back to the host.
        .and_then(|()| context.set_flag("discard"))
        // An image that turns out to be damaged is not written any more.
        .and_then(|()| context.set("errors", "remount-ro"))
        .and_then(|()| {
            if how.read_only {
                context.set_flag("ro")
            } else {
                Ok(())
            }
        })
        .and_then(|()| context.mount(how));
    mounted.map_err(|errno| failed(errno, context.messages()))
}
