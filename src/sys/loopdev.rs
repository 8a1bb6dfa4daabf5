//! Loop devices (loop(4)): a file as a block device.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag};

use super::{Result, check};

// linux/loop.h
const LOOP_CLR_FD: libc::Ioctl = 0x4C01 as libc::Ioctl;
const LOOP_SET_CAPACITY: libc::Ioctl = 0x4C07 as libc::Ioctl;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A as libc::Ioctl;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82 as libc::Ioctl;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
/// Major number of loop devices (`LOOP_MAJOR`, linux/major.h).
const LOOP_MAJOR: u32 = 7;

const CONTROL_PATH: &str = "/dev/loop-control";

/// How often another process may take the device that was free first.
const TRIES: usize = 64;

/// `struct loop_info64`, linux/loop.h.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`, linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// A loop device, open. It lets go of its file by itself when nobody has it
/// open or mounted any more, also when this process is killed.
#[derive(Debug)]
pub struct LoopDevice {
    file: OwnedFd,
    number: u32,
}

impl LoopDevice {
    /// Attaches the open file `image` to a free device, or to a new one when
    /// none is free. Reads and writes bypass the page cache of the file's file
    /// system where that can do so. `name` is what `losetup` shows.
    ///
    /// # Errors
    /// `ENOENT` or `EPERM` where there are no loop devices or they may not be
    /// used; as `ioctl(2)` says.
    pub fn attach(image: impl AsFd, block_bytes: u32, read_only: bool, name: &str) -> Result<Self> {
        let control = open(CONTROL_PATH, false)?;
        let mut flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
        if read_only {
            flags |= LO_FLAGS_READ_ONLY;
        }
        for _ in 0..TRIES {
            // SAFETY: the request takes no argument.
            let number = check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })?;
            let number = number.unsigned_abs();
            let file = open_device(number, read_only)?;
            // SAFETY: all-zero bytes are a valid `LoopConfig`.
            let mut config: LoopConfig = unsafe { std::mem::zeroed() };
            config.fd = image.as_fd().as_raw_fd().unsigned_abs();
            config.block_size = block_bytes;
            config.info.flags = flags;
            // The last byte stays zero.
            for (to, from) in config.info.file_name[..63].iter_mut().zip(name.bytes()) {
                *to = from;
            }
            // SAFETY: a live `loop_config`, which the kernel only reads.
            let done =
                check(unsafe { libc::ioctl(file.as_raw_fd(), LOOP_CONFIGURE, &raw const config) });
            match done {
                Ok(_) => {
                    let file = OwnedFd::from(file);
                    return Ok(Self { file, number });
                }
                // Taken by another process meanwhile.
                Err(Errno::EBUSY) => {}
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EBUSY)
    }

    /// Its number: 3 for `/dev/loop3`.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The path of the device.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        device_path(self.number)
    }

    /// Lets go of the file at once, where nobody has mounted the device.
    ///
    /// # Errors
    /// As `ioctl(2)`.
    pub fn clear(&self) -> Result<()> {
        // SAFETY: the request takes no argument.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), LOOP_CLR_FD) }).map(drop)
    }
}

/// Why no loop device can be had here, if that can be told beforehand.
///
/// # Errors
/// What the system says of `/dev/loop-control`; `ENOTTY` where that is not the
/// device that it should be.
pub fn probe() -> Result<()> {
    /// `LOOP_CTRL_MINOR`, linux/miscdevice.h.
    const CONTROL: (u32, u32) = (10, 237);
    let control = open(CONTROL_PATH, false)?;
    let stat = nix::sys::stat::fstat(&control)?;
    if stat.st_rdev == libc::makedev(CONTROL.0, CONTROL.1) {
        Ok(())
    } else {
        Err(Errno::ENOTTY)
    }
}

/// Lets device `number` see that its file has become longer.
///
/// # Errors
/// As `ioctl(2)`.
pub fn see_new_length(number: u32) -> Result<()> {
    let device = open(&device_path(number).to_string_lossy(), false)?;
    // SAFETY: the request takes no argument.
    check(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_CAPACITY, 0) }).map(drop)
}

/// Whether device `number` has a file, as the kernel shows it in sysfs.
#[must_use]
pub fn is_attached(number: u32) -> bool {
    std::path::Path::new(&format!("/sys/block/loop{number}/loop/backing_file")).exists()
}

/// The number of a device that has the file at `path`, whoever attached it.
#[must_use]
pub fn device_of(path: &Path) -> Option<u32> {
    let wanted = path.metadata().ok()?;
    let name = path.file_name()?;
    let same = |file: &Path| {
        // By name first: a device may have a file of a mount that we serve
        // ourselves, and we must not ask ourselves about that.
        file.file_name() == Some(name)
            && file
                .metadata()
                .is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()))
    };
    for entry in std::fs::read_dir("/sys/block").ok()?.flatten() {
        let name = entry.file_name();
        let Some(number) = name.to_str().and_then(|name| name.strip_prefix("loop")) else {
            continue;
        };
        let file = std::fs::read(entry.path().join("loop/backing_file"));
        if let (Ok(number), Ok(file)) = (number.parse(), file)
            && same(Path::new(std::ffi::OsStr::from_bytes(
                file.trim_ascii_end(),
            )))
        {
            return Some(number);
        }
    }
    None
}

fn device_path(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{number}"))
}

fn open_device(number: u32, read_only: bool) -> Result<File> {
    let path = device_path(number);
    match path.metadata() {
        Ok(found) if found.file_type().is_block_device() => {}
        // Where /dev is no devtmpfs nobody makes the nodes of devices beyond
        // the first eight.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mode = Mode::S_IRUSR | Mode::S_IWUSR;
            let device = libc::makedev(LOOP_MAJOR, number);
            match nix::sys::stat::mknod(&path, SFlag::S_IFBLK, mode, device) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        _ => return Err(Errno::ENOTBLK),
    }
    open(&path.to_string_lossy(), read_only)
}

fn open(path: &str, read_only: bool) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(!read_only)
        .open(path)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}
