//! An image served by fuse2fs(1), for machines and users without loop devices:
//! a child process that is watched, and ends with its file system.
//!
//! It mounts where it is told to, so that the mount is in the mount table; it
//! is taken out of it as soon as its root is open, and lives on in that
//! descriptor alone. When this process is killed the kernel closes that, and
//! fuse2fs writes what it holds and ends.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::Mode;
use parking_lot::Mutex;

use super::Health;
use super::error::AttachError;
use super::free::{self, LET_GO};

/// How long fuse2fs may take to mount; it replays the journal before.
const START: Duration = Duration::from_secs(60);
/// The most that is kept of what it says.
const MOST_SAID: u64 = 4096;
/// Where programs are, whatever the daemon's PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn find() -> Result<PathBuf, String> {
    let program =
        in_path("fuse2fs").ok_or("fuse2fs is not installed (on Debian: apt install fuse2fs)")?;
    if !nix::unistd::geteuid().is_root() && unmounter().is_none() {
        return Err("fuse2fs needs fusermount (on Debian: apt install fuse3)".to_owned());
    }
    Ok(program)
}

/// What unmounts for a user who is not root.
fn unmounter() -> Option<PathBuf> {
    in_path("fusermount3").or_else(|| in_path("fusermount"))
}

fn in_path(program: &str) -> Option<PathBuf> {
    let own = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&own)
        .chain(std::env::split_paths(PATH))
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// What the names of mountpoints begin with that fuse2fs is given.
pub const MOUNT_PREFIX: &str = "volfs-fuse2fs-";

/// An image that fuse2fs serves.
#[derive(Debug)]
pub struct Fuse2fs {
    // Closed first: then fuse2fs ends.
    dir: Option<OwnedFd>,
    child: Mutex<Option<Child>>,
    said: File,
}

impl Fuse2fs {
    /// Has `program` serve the image at `path`.
    ///
    /// # Errors
    /// [`AttachError`]; the program has ended then.
    pub(super) fn new(program: &Path, path: &Path, read_only: bool) -> Result<Self, AttachError> {
        let image = free::lock(path, read_only)?;
        let at = tempfile::Builder::new()
            .prefix(MOUNT_PREFIX)
            .tempdir()
            // Removed below, and only when it is empty: what is mounted there
            // is somebody's.
            .map(tempfile::TempDir::keep)
            .map_err(|error| failed(&error, ""))?;
        let said = tempfile::tempfile().map_err(|error| failed(&error, ""))?;
        let heard = said.try_clone().map_err(|error| failed(&error, ""))?;
        // Who may do what has been decided before it is asked: by the kernel,
        // for the mount that this one stands behind.
        let mut options = "fakeroot".to_owned();
        if read_only {
            options += ",ro";
        }
        let child = Command::new(program)
            .args(["-f", "-o", &options])
            .args([path, at.as_path()])
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", PATH)
            .current_dir("/")
            // It does not read from it, but keeps it open, and with it the lock.
            .stdin(Stdio::from(image))
            .stdout(crate::sys::null::no_output())
            .stderr(Stdio::from(heard))
            // Not ended by a key that is meant for the daemon.
            .process_group(0)
            .spawn()
            .map_err(|error| failed(&error, ""))?;
        let mut served = Self {
            dir: None,
            child: Mutex::new(Some(child)),
            said,
        };
        let opened = served.wait_until_mounted(&at).and_then(|()| {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            nix::fcntl::open(&at, flags, Mode::empty()).map_err(|errno| served.refused(errno))
        });
        // Also what came too late.
        unmount(&at);
        if let Err(error) = fs::remove_dir(&at) {
            log::warn!("{at:?} is left: {error}");
        }
        match opened {
            Ok(dir) => {
                served.dir = Some(dir);
                Ok(served)
            }
            Err(error) => {
                served.end();
                Err(error)
            }
        }
    }

    fn wait_until_mounted(&self, at: &Path) -> Result<(), AttachError> {
        let deadline = Instant::now() + START;
        while !is_mounted(at) {
            if let Some(status) = self.ended() {
                log::debug!("fuse2fs ended with {status}");
                return Err(self.refused(Errno::EIO));
            }
            if Instant::now() > deadline {
                return Err(self.refused(Errno::ETIMEDOUT));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn refused(&self, errno: Errno) -> AttachError {
        AttachError::Fuse2fs {
            errno,
            messages: self.said(),
        }
    }

    /// How it ended, if it has.
    fn ended(&self) -> Option<ExitStatus> {
        self.child.lock().as_mut()?.try_wait().ok().flatten()
    }

    /// The last that it said, without control characters.
    fn said(&self) -> String {
        let mut text = Vec::new();
        let heard = self.said.try_clone().and_then(|mut said| {
            let end = said.seek(std::io::SeekFrom::End(0))?;
            said.seek(std::io::SeekFrom::Start(end.saturating_sub(MOST_SAID)))?;
            said.take(MOST_SAID).read_to_end(&mut text)
        });
        if let Err(error) = heard {
            log::debug!("what fuse2fs said cannot be read: {error}");
        }
        String::from_utf8_lossy(&text)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .filter(|c| !c.is_control())
            .collect()
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

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.ended() {
            None => Health::Good,
            Some(status) => Health::Gone(format!("fuse2fs has ended ({status}): {}", self.said())),
        }
    }

    /// Unmounts, and waits until fuse2fs has written what it held and ended.
    /// `false` when it has not.
    #[must_use]
    pub fn detach(mut self) -> bool {
        self.dir = None;
        let deadline = Instant::now() + LET_GO;
        loop {
            match self.ended() {
                Some(status) if status.success() => return true,
                Some(status) => {
                    log::warn!("fuse2fs ended with {status}: {}", self.said());
                    return true;
                }
                None if Instant::now() > deadline => return false,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Ends one that has not mounted.
    fn end(&self) {
        if let Some(child) = self.child.lock().as_mut() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Fuse2fs {
    fn drop(&mut self) {
        self.dir = None;
        let Some(mut child) = self.child.lock().take() else {
            return;
        };
        if matches!(child.try_wait(), Ok(Some(_))) {
            return;
        }
        // It ends when it has written what it holds; somebody must wait for it.
        let waiter = std::thread::Builder::new().name("volfs-fuse2fs".into());
        if let Err(error) = waiter.spawn(move || child.wait()) {
            log::warn!("nobody waits for the end of fuse2fs: {error}");
        }
    }
}

fn failed(error: &std::io::Error, messages: &str) -> AttachError {
    AttachError::Fuse2fs {
        errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        messages: messages.to_owned(),
    }
}

/// Whether something is mounted on `at`, a directory with a name of its own.
/// Asks nobody: who has mounted may not answer yet.
fn is_mounted(at: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let name = at.to_string_lossy();
    table
        .lines()
        .any(|line| line.split(' ').nth(4).is_some_and(|on| on == name))
}

fn unmount(at: &Path) {
    if !is_mounted(at) {
        return;
    }
    let detached = umount2(at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok()
        || unmounter().is_some_and(|program| {
            Command::new(program)
                .args(["-u", "-z", "--"])
                .arg(at)
                .stdin(crate::sys::null::no_input())
                .status()
                .is_ok_and(|status| status.success())
        });
    if !detached {
        log::warn!("{at:?} cannot be unmounted; it is unmounted when the volume is");
    }
}
