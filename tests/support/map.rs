//! A file mapped into memory, and ioctl. The only unsafe code of the tests: the
//! standard library and the safe wrappers have neither.

use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

/// How a mapping relates to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Writes reach the file.
    Shared,
    /// Writes stay in this process.
    Private,
}

/// A mapping of a file's first bytes.
pub struct Map {
    address: NonNull<libc::c_void>,
    len: usize,
}

impl Map {
    /// Maps `len` bytes from the start, readable and, if `writable`, writable.
    ///
    /// # Errors
    /// What `mmap` says.
    pub fn new(file: impl AsFd, len: usize, sharing: Sharing, writable: bool) -> nix::Result<Self> {
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        let flags = match sharing {
            Sharing::Shared => libc::MAP_SHARED,
            Sharing::Private => libc::MAP_PRIVATE,
        };
        // SAFETY: a new mapping at an address of the kernel's choice touches no
        // memory of this process.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                flags,
                file.as_fd().as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(nix::Error::last());
        }
        let address = NonNull::new(address).ok_or(nix::Error::EINVAL)?;
        Ok(Self { address, len })
    }

    /// Copies bytes out. The file must reach to `offset + len`.
    pub fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.len);
        (offset..offset + len)
            // SAFETY: in the mapping by the assertion above; volatile, because
            // the file's other users may change it at any time.
            .map(|i| unsafe { self.address.cast::<u8>().add(i).read_volatile() })
            .collect()
    }

    /// Copies bytes in. The mapping must be writable and the file reach there.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len);
        for (i, &byte) in bytes.iter().enumerate() {
            // SAFETY: in the mapping by the assertion above.
            unsafe {
                self.address
                    .cast::<u8>()
                    .add(offset + i)
                    .write_volatile(byte)
            };
        }
    }

    /// Writes changes of a shared mapping to the file.
    ///
    /// # Errors
    /// What `msync` says.
    pub fn sync(&self) -> nix::Result<()> {
        // SAFETY: the range is this mapping.
        let result = unsafe { libc::msync(self.address.as_ptr(), self.len, libc::MS_SYNC) };
        nix::Error::result(result).map(drop)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping, and nothing borrows from it.
        unsafe { libc::munmap(self.address.as_ptr(), self.len) };
    }
}

/// An ioctl that takes a number.
///
/// # Errors
/// What `ioctl` says.
pub fn ioctl_int(file: impl AsFd, request: libc::c_ulong, value: i32) -> nix::Result<i32> {
    // SAFETY: a request of that kind reads no memory of this process.
    nix::Error::result(unsafe { libc::ioctl(file.as_fd().as_raw_fd(), request, value) })
}
