//! Memory that outlives the process which writes it: an anonymous file
//! (memfd_create(2)), mapped and used as words that are each written at once.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use parking_lot::Mutex;

/// Bytes of a word.
pub const WORD: usize = size_of::<AtomicU64>();

/// An anonymous file that only grows.
#[derive(Debug)]
pub struct SharedFile {
    fd: OwnedFd,
    /// Its length in bytes. Held while it grows.
    len: Mutex<u64>,
}

/// A part of a shared file, mapped.
#[derive(Debug)]
pub struct Words {
    start: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: the memory is mapped for as long as this lives, and is only seen as
// atomic words, which any thread may use.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl SharedFile {
    /// A new, empty one; `name` is what `/proc/PID/maps` shows.
    ///
    /// # Errors
    /// As `memfd_create(2)`.
    pub fn create(name: &str) -> io::Result<Self> {
        let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        // Nobody can take mapped memory away.
        fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK))?;
        Ok(Self {
            fd,
            len: Mutex::new(0),
        })
    }

    /// One that another process made and has left.
    ///
    /// # Errors
    /// `InvalidData` for a descriptor of anything else.
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        let seals = fcntl(&fd, FcntlArg::F_GET_SEALS)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        if !SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let len = nix::sys::stat::fstat(&fd)?.st_size.unsigned_abs();
        Ok(Self {
            fd,
            len: Mutex::new(len),
        })
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        *self.len.lock()
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds `words` words of zeros at its end, on pages of their own, and maps
    /// them. Also returns where they start, in bytes.
    ///
    /// # Errors
    /// No memory, or no address space.
    pub fn extend(&self, words: usize) -> io::Result<(u64, Words)> {
        let mut len = self.len.lock();
        let start = len.next_multiple_of(page_bytes());
        let end = start + (words * WORD) as u64;
        let size = i64::try_from(end).map_err(|_| Errno::EFBIG)?;
        nix::unistd::ftruncate(&self.fd, size)?;
        *len = end;
        drop(len);
        Ok((start, self.map(start, words)?))
    }

    /// Maps `words` words that start at byte `start`, on a page.
    ///
    /// # Errors
    /// `InvalidData` where the file does not reach that far.
    pub fn map(&self, start: u64, words: usize) -> io::Result<Words> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let bytes = words.checked_mul(WORD).ok_or_else(invalid)?;
        let end = start.checked_add(bytes as u64).ok_or_else(invalid)?;
        if end > self.len() || !start.is_multiple_of(page_bytes()) {
            return Err(invalid());
        }
        let length = NonZeroUsize::new(bytes).ok_or_else(invalid)?;
        let offset = i64::try_from(start).map_err(|_| invalid())?;
        // SAFETY: a new mapping at an address of the kernel's choice; the file
        // reaches to its end and cannot be made shorter.
        let address = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                &self.fd,
                offset,
            )?
        };
        Ok(Words {
            start: address.cast(),
            len: words,
        })
    }
}

impl AsFd for SharedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: mapped by `SharedFile::map` with this length, page-aligned,
        // until it is dropped; every bit pattern is an `AtomicU64`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the range is this mapping, and nothing borrows from it.
        if let Err(errno) = unsafe { munmap(self.start.cast(), self.len * WORD) } {
            log::error!("cannot unmap shared memory: {}", errno.desc());
        }
    }
}

fn page_bytes() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .map_or(4096, i64::unsigned_abs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn what_is_written_is_there_for_the_next_who_maps_it() {
        let file = SharedFile::create("test").unwrap();
        let (first, words) = file.extend(3).unwrap();
        words[2].store(42, Relaxed);
        let (second, more) = file.extend(1 << 16).unwrap();
        more[(1 << 16) - 1].store(43, Relaxed);
        let copy = SharedFile::open(file.as_fd().try_clone_to_owned().unwrap()).unwrap();
        drop((file, words, more));
        assert_eq!(copy.map(first, 3).unwrap()[2].load(Relaxed), 42);
        let more = copy.map(second, 1 << 16).unwrap();
        assert_eq!(more[(1 << 16) - 1].load(Relaxed), 43);
        assert_eq!((first, more[0].load(Relaxed)), (0, 0));
        assert!(copy.map(second, (1 << 16) + 1).is_err());
        assert!(copy.map(u64::MAX - 4095, 1).is_err());
        let other = tempfile::tempfile().unwrap();
        assert!(SharedFile::open(other.into()).is_err());
    }
}
