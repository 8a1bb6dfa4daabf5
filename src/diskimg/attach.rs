//! An image as a file system of the running kernel: on a loop device, mounted
//! in no mount table. Knows no volumes; whose images are to be trusted with
//! the kernel is the caller's decision.

use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::units::BLOCK_SIZE;
use crate::sys::loopdev::{self, LoopDevice};
use crate::sys::mount::Context;

/// How long the kernel may take to let go of a device after the unmount.
const LET_GO: Duration = Duration::from_secs(5);

/// Why an image was not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It cannot be opened.
    #[error("the image cannot be opened: {}", .errno.desc())]
    Open {
        /// What the system said.
        errno: Errno,
    },
    /// No loop device can be had.
    #[error("no loop device can be had: {}; {}", .errno.desc(), loop_advice(*.errno))]
    Loop {
        /// What the system said.
        errno: Errno,
    },
    /// It is attached already: two mounts of one image destroy it.
    #[error(
        "the image is still attached to /dev/loop{device}; whoever has files of it open, perhaps through the mount of a daemon that was killed, must close them first"
    )]
    InUse {
        /// The number of the loop device.
        device: u32,
    },
    /// The kernel does not mount it.
    #[error("the kernel does not mount the image: {}{}", .errno.desc(), said(.messages))]
    Mount {
        /// What the system said.
        errno: Errno,
        /// What the file system said, if anything.
        messages: String,
    },
}

impl AttachError {
    /// What the system said.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Open { errno } | Self::Loop { errno } | Self::Mount { errno, .. } => *errno,
            Self::InUse { .. } => Errno::EBUSY,
        }
    }
}

fn loop_advice(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT | Errno::ENXIO | Errno::ENODEV => {
            "load the module 'loop', or give the container /dev/loop-control and the loop devices"
        }
        Errno::EPERM | Errno::EACCES => "mount as root",
        _ => "'losetup -a' lists those that are in use",
    }
}

fn said(messages: &str) -> String {
    if messages.is_empty() {
        String::new()
    } else {
        format!(" ({messages})")
    }
}

/// A mounted image. Unmounted when it is dropped; also when the process is
/// killed, by the kernel.
#[derive(Debug)]
pub struct Attached {
    // Before the mount, which it would keep in use.
    dir: Option<OwnedFd>,
    mount: Option<OwnedFd>,
    device: u32,
}

impl Attached {
    /// Attaches the file at `path` and mounts it, `discard,nosuid,nodev`. The
    /// kernel replays its journal if that is needed.
    ///
    /// # Errors
    /// [`AttachError`]; nothing is left attached.
    pub fn new(path: &Path, read_only: bool) -> Result<Self, AttachError> {
        wait_until_free(path)?;
        let image = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .open(path)
            .map_err(|error| AttachError::Open {
                errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
            })?;
        let name = path.to_string_lossy();
        // 4 KiB, as the file system has it: direct I/O then needs nothing to
        // be read for a write, whatever the host's disk is like.
        let device = LoopDevice::attach(image, BLOCK_SIZE as u32, read_only, &name)
            .map_err(|errno| AttachError::Loop { errno })?;
        let mount = mount(&device, read_only)?;
        Self::from_mount(mount, device.number())
    }

    /// One that another process has mounted, by the descriptor of its
    /// [mount](Self::mount) and the number of its [device](Self::device).
    ///
    /// # Errors
    /// Its root cannot be opened.
    pub fn from_mount(mount: OwnedFd, device: u32) -> Result<Self, AttachError> {
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
            device,
        })
    }

    /// The mount. As long as any copy of this descriptor is open the image stays
    /// attached.
    #[must_use]
    pub fn mount(&self) -> Option<BorrowedFd<'_>> {
        self.mount.as_ref().map(OwnedFd::as_fd)
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

/// Waits until no loop device has the file.
///
/// # Errors
/// [`AttachError::InUse`] when it stays attached.
pub fn wait_until_free(path: &Path) -> Result<(), AttachError> {
    let deadline = Instant::now() + LET_GO;
    while let Some(device) = loopdev::device_of(path) {
        if Instant::now() > deadline {
            return Err(AttachError::InUse { device });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

fn mount(device: &LoopDevice, read_only: bool) -> Result<OwnedFd, AttachError> {
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
            if read_only {
                context.set_flag("ro")
            } else {
                Ok(())
            }
        })
        .and_then(|()| context.mount(read_only));
    mounted.map_err(|errno| failed(errno, context.messages()))
}
