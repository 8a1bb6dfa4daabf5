//! Memory that goes back to the system when it is dropped, whatever its size.

use std::alloc::{Layout, handle_alloc_error};
use std::num::NonZeroUsize;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Private memory, mapped from the kernel.
#[derive(Debug)]
pub struct Pages {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory is this value's alone.
unsafe impl Send for Pages {}

impl Pages {
    /// `len` bytes, all zero; not 0 bytes. Without memory for them the program ends,
    /// as with every allocation.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let bytes = NonZeroUsize::new(len).expect("not nothing");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice.
        let mapped = unsafe { mmap_anonymous(None, bytes, access, MapFlags::MAP_PRIVATE) };
        match mapped {
            Ok(start) => Self {
                start: start.cast(),
                len,
            },
            Err(_) => handle_alloc_error(Layout::array::<u8>(len).unwrap_or(Layout::new::<u8>())),
        }
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped for `len` bytes, initialised by the kernel, while this lives.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody else has it.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: what was mapped for this value, which nothing uses any more.
        let _ = unsafe { munmap(self.start.cast(), self.len) };
    }
}
