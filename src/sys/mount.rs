//! Mounts that are in no mount table: `fsopen(2)`, `fsconfig(2)`, `fsmount(2)`.

use std::ffi::{CStr, CString};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::node::proc_path;
use super::{Result, check, user_ns};

// linux/mount.h
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_SET_FLAG: libc::c_uint = 0;
const FSCONFIG_SET_STRING: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const MOUNT_ATTR_RDONLY: libc::c_uint = 1;
const MOUNT_ATTR_NOSUID: libc::c_uint = 2;
const MOUNT_ATTR_NODEV: libc::c_uint = 4;
const MOUNT_ATTR_NOATIME: libc::c_uint = 0x10;
const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
/// All settings of access times, of which a mount has one.
const MOUNT_ATTR_ATIME: u64 = 0x70;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC.cast_unsigned();

/// `struct mount_attr`, linux/mount.h.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// An id that is higher than those of all mounts that there have been, and lower
/// than those of all that will be made; see
/// [`unique_mount_of`](super::node::unique_mount_of).
///
/// It is that of a mount which is made for this, and gone again.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN; `ENOSYS` before Linux 6.8.
pub fn mark() -> Result<u64> {
    super::node::unique_mount_of(clone(c"/")?).ok_or(Errno::ENOSYS)
}

/// Opens (`O_PATH`) the directory `path` on a mount of its own, in which reading
/// changes no access times. It is in no mount table, has nothing of what is
/// mounted below, and is gone when its last file is closed.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN, or where a container has fixed the setting;
/// `ENOSYS` before Linux 5.12.
pub fn without_access_times(path: &Path) -> Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let clone = clone(&path)?;
    let attributes = MountAttr {
        attr_set: MOUNT_ATTR_NOATIME.into(),
        attr_clr: MOUNT_ATTR_ATIME,
        // Nothing that is mounted later appears in it.
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    set_attributes(&clone, &attributes)?;
    Ok(clone)
}

/// Opens (`O_PATH`) the inode of `fd` on a mount of its own, on which it belongs
/// to the user and the group `id` and to nobody else, in place of who owns it.
/// Nothing of that is stored, or seen elsewhere; the mount is gone when its last
/// file is closed.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN where the file system was mounted; `EINVAL`
/// where it cannot do that (`FS_ALLOW_IDMAP`); `ENOSYS` before Linux 5.12; those
/// of [`user_ns::with`].
pub fn owned_by(fd: impl AsFd, id: u32) -> Result<OwnedFd> {
    let fd = fd.as_fd();
    let owner = nix::sys::stat::fstat(fd)?;
    let to = |inside| user_ns::Mapped {
        inside,
        outside: id,
    };
    let table = user_ns::with(to(owner.st_uid), to(owner.st_gid))?;
    let path = proc_path(fd);
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let clone = clone(&path)?;
    let attributes = MountAttr {
        attr_set: MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: libc::MS_PRIVATE,
        userns_fd: u64::try_from(table.as_raw_fd()).map_err(|_| Errno::EBADF)?,
    };
    set_attributes(&clone, &attributes)?;
    Ok(clone)
}

/// Makes what is mounted on `path` `nosuid`, `nodev`, or both; its other settings
/// stay. Bind mounts that were made of it before keep theirs.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN; `EINVAL` where nothing is mounted on `path`;
/// `ENOSYS` before Linux 5.12.
pub fn restrict(path: &Path, nosuid: bool, nodev: bool) -> Result<()> {
    let flag = |set: bool, flag: libc::c_uint| if set { u64::from(flag) } else { 0 };
    let attributes = MountAttr {
        attr_set: flag(nosuid, MOUNT_ATTR_NOSUID) | flag(nodev, MOUNT_ATTR_NODEV),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let how = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mount = nix::fcntl::open(path, how, Mode::empty())?;
    set_attributes(&mount, &attributes)
}

fn set_attributes(mount: &OwnedFd, attributes: &MountAttr) -> Result<()> {
    // SAFETY: a live descriptor, a C string, and a live `mount_attr` of the size
    // that is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Another mount of what is mounted where `path` leads to, in no mount table.
fn clone(path: &CStr) -> Result<OwnedFd> {
    // SAFETY: a C string and numbers.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            path.as_ptr(),
            OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC,
        )
    })?;
    // SAFETY: the call has just given us this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// How a file system is mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Nothing in it is changed.
    pub read_only: bool,
    /// Reading changes no access times.
    pub noatime: bool,
}

/// A file system that is being set up.
#[derive(Debug)]
pub struct Context(OwnedFd);

impl Context {
    /// Begins with a file system of type `kind`.
    ///
    /// # Errors
    /// `ENODEV` when the kernel has no such type; `EPERM`.
    pub fn open(kind: &str) -> Result<Self> {
        let kind = CString::new(kind).map_err(|_| Errno::EINVAL)?;
        // SAFETY: a C string and a number.
        let fd = check(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })?;
        // SAFETY: the call has just given us this descriptor; nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Sets option `key` to `value`.
    ///
    /// # Errors
    /// `EINVAL` when the file system does not know it.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        self.config(FSCONFIG_SET_STRING, Some(key), Some(value))
    }

    /// Sets the option `key`, which takes no value.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_flag(&self, key: &str) -> Result<()> {
        self.config(FSCONFIG_SET_FLAG, Some(key), None)
    }

    /// Brings the file system up, and mounts it nowhere, `nosuid,nodev`. It is
    /// unmounted when the descriptor is closed, and with that when this
    /// process is killed.
    ///
    /// # Errors
    /// What the file system says; [`messages`](Self::messages) has more.
    pub fn mount(&self, how: How) -> Result<OwnedFd> {
        self.config(FSCONFIG_CMD_CREATE, None, None)?;
        let mut attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
        if how.read_only {
            attributes |= MOUNT_ATTR_RDONLY;
        }
        if how.noatime {
            attributes |= MOUNT_ATTR_NOATIME;
        }
        // SAFETY: a live descriptor and numbers.
        let fd = check(unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attributes,
            )
        })?;
        // SAFETY: the call has just given us this descriptor; nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
    }

    /// What the kernel has said about this file system so far, in words.
    #[must_use]
    pub fn messages(self) -> String {
        let mut file = std::fs::File::from(self.0);
        let mut text = String::new();
        let mut buffer = [0; 1024];
        // One message a read; ENODATA when there is none left.
        while let Ok(len @ 1..) = file.read(&mut buffer) {
            let message = String::from_utf8_lossy(&buffer[..len]);
            // "e " is an error, "w " a warning, "i " a remark.
            let message = message.trim_end().get(2..).unwrap_or_default().to_owned();
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(&message);
        }
        text
    }

    fn config(&self, command: libc::c_uint, key: Option<&str>, value: Option<&str>) -> Result<()> {
        let text = |text: Option<&str>| {
            text.map(CString::new)
                .transpose()
                .map_err(|_| Errno::EINVAL)
        };
        let (key, value) = (text(key)?, text(value)?);
        let pointer =
            |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
        // SAFETY: a live descriptor, and C strings or null pointers.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                pointer(&key),
                pointer(&value),
                0,
            )
        })
        .map(drop)
    }
}
