//! File handles: `name_to_handle_at(2)` and `open_by_handle_at(2)`, which the
//! safe wrappers do not have.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `MAX_HANDLE_SZ`, linux/exportfs.h.
const MOST: usize = 128;
/// `FILEID_INO64_GEN`, linux/exportfs.h: what FUSE makes.
const FUSE_KIND: i32 = 0x81;

#[repr(C)]
struct Raw {
    handle_bytes: u32,
    handle_type: i32,
    f_handle: [u8; MOST],
}

/// A file handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    kind: i32,
    bytes: Vec<u8>,
}

impl Handle {
    /// Of what is at `path`, a symbolic link itself.
    ///
    /// # Errors
    /// What `name_to_handle_at` says.
    pub fn of(path: &Path) -> nix::Result<Self> {
        let mut raw = Raw {
            handle_bytes: MOST as u32,
            handle_type: 0,
            f_handle: [0; MOST],
        };
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        let mut mount_id = 0;
        // SAFETY: the pointers are to live values of the layout that the call
        // expects, and `handle_bytes` says how much room follows the header.
        nix::Error::result(unsafe {
            libc::name_to_handle_at(
                libc::AT_FDCWD,
                path.as_ptr(),
                (&raw mut raw).cast(),
                &raw mut mount_id,
                0,
            )
        })?;
        Ok(Self {
            kind: raw.handle_type,
            bytes: raw.f_handle[..raw.handle_bytes as usize].to_vec(),
        })
    }

    /// One that a FUSE file system would make for this node.
    pub fn of_node(node: u64, generation: u32) -> Self {
        let words = [(node >> 32) as u32, node as u32, generation];
        Self {
            kind: FUSE_KIND,
            bytes: words.into_iter().flat_map(u32::to_ne_bytes).collect(),
        }
    }

    /// The generation in a handle of ext4, XFS, tmpfs, btrfs or FUSE.
    pub fn generation(&self) -> u32 {
        let at = match (self.kind, self.bytes.len()) {
            (1, 8) => 4,
            (1, 12) => 0,
            (0x4d, 20) => 16,
            _ => 8,
        };
        u32::from_ne_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    /// Opens the file on the file system that the directory `mount` is on.
    ///
    /// # Errors
    /// What `open_by_handle_at` says.
    pub fn open(&self, mount: &File, flags: i32) -> nix::Result<File> {
        let mut raw = Raw {
            handle_bytes: self.bytes.len() as u32,
            handle_type: self.kind,
            f_handle: [0; MOST],
        };
        raw.f_handle[..self.bytes.len()].copy_from_slice(&self.bytes);
        // SAFETY: `raw` is a live `file_handle` whose `handle_bytes` are set.
        let fd = nix::Error::result(unsafe {
            libc::open_by_handle_at(
                mount.as_raw_fd(),
                (&raw mut raw).cast(),
                flags | libc::O_CLOEXEC,
            )
        })?;
        // SAFETY: the call has just given us this descriptor; nobody else has it.
        Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}
