//! Host file handles: `name_to_handle_at(2)` and `open_by_handle_at(2)`.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::fcntl::OFlag;

use super::{Result, check};

/// The most bytes of an opaque handle (`MAX_HANDLE_SZ`, `linux/exportfs.h`).
const MAX_HANDLE_BYTES: usize = 128;

/// `struct file_handle` with room for the largest handle.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawHandle {
    handle_bytes: u32,
    handle_type: i32,
    f_handle: [u8; MAX_HANDLE_BYTES],
}

/// What names an inode of one host file system without a path or descriptor.
/// It survives the process and, on most file systems, a reboot.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostHandle {
    kind: i32,
    len: u8,
    bytes: [u8; MAX_HANDLE_BYTES],
}

impl HostHandle {
    /// A handle of `kind` (`enum fid_type`, `linux/exportfs.h`) from its bytes;
    /// `None` when there are more than any handle has.
    #[must_use]
    pub fn new(kind: i32, bytes: &[u8]) -> Option<Self> {
        let len = u8::try_from(bytes.len()).ok()?;
        let mut own = [0; MAX_HANDLE_BYTES];
        own.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self {
            kind,
            len,
            bytes: own,
        })
    }

    /// Its type (`enum fid_type`).
    #[must_use]
    pub fn kind(&self) -> i32 {
        self.kind
    }

    /// Its opaque bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl std::fmt::Debug for HostHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HostHandle({:#x}, {:02x?})", self.kind, self.bytes())
    }
}

/// The handle of the inode that `fd` refers to; `fd` may be `O_PATH`.
///
/// # Errors
/// `EOPNOTSUPP` when the file system has no handles.
pub fn of_fd(fd: impl AsFd) -> Result<HostHandle> {
    let mut raw = RawHandle {
        handle_bytes: MAX_HANDLE_BYTES as u32,
        handle_type: 0,
        f_handle: [0; MAX_HANDLE_BYTES],
    };
    let empty: &CStr = c"";
    let mut mount_id: libc::c_int = 0;
    // SAFETY: the pointers are to live values of the layout that the call
    // expects, and `handle_bytes` says how much room follows the header.
    check(unsafe {
        libc::name_to_handle_at(
            fd.as_fd().as_raw_fd(),
            empty.as_ptr(),
            (&raw mut raw).cast(),
            &raw mut mount_id,
            libc::AT_EMPTY_PATH,
        )
    })?;
    let len = (raw.handle_bytes as usize).min(MAX_HANDLE_BYTES);
    Ok(HostHandle {
        kind: raw.handle_type,
        len: len as u8,
        bytes: raw.f_handle,
    })
}

/// Opens the inode that `handle` names on the file system of `mount`.
///
/// # Errors
/// `ESTALE` when it is gone; `EPERM` without CAP_DAC_READ_SEARCH.
pub fn open(mount: impl AsFd, handle: &HostHandle, flags: OFlag) -> Result<OwnedFd> {
    let mut raw = RawHandle {
        handle_bytes: u32::from(handle.len),
        handle_type: handle.kind,
        f_handle: handle.bytes,
    };
    // SAFETY: `raw` is a live `file_handle` whose `handle_bytes` are initialised.
    let fd = check(unsafe {
        libc::open_by_handle_at(
            mount.as_fd().as_raw_fd(),
            (&raw mut raw).cast(),
            (flags | OFlag::O_CLOEXEC).bits(),
        )
    })?;
    // SAFETY: the call has just given us this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
