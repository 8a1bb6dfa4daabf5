//! The allocator of the program: the system's, which makes sure that a request
//! can be read when this process is just being killed.
//!
//! The kernel copies a request into memory of the thread that reads it. Where a
//! page of that is not there yet it has to be made, which fails when a SIGKILL
//! is on its way, and whoever sent the request gets EIO (`fuse_dev_do_read`,
//! fs/fuse/dev.c). `fuser` allocates its buffers zeroed and untouched; so the
//! part of them that requests reach is touched as they are allocated.

use std::alloc::{GlobalAlloc, Layout, System};

/// Buffers of `fuser` have this size and a little more (`MAX_WRITE_SIZE`).
const BUFFER_BYTES: usize = 16 << 20;
/// The largest request, with what comes before its data.
const REACHED_BYTES: usize = (1 << 20) + (16 << 10);
const PAGE_BYTES: usize = 4096;

/// The system's allocator; see the module.
pub struct Allocator;

// SAFETY: all is left to the system's allocator; the bytes that are written are
// zero already, and within what was just allocated.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: by the caller's contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by the caller's contract.
        let memory = unsafe { System.alloc_zeroed(layout) };
        let is_buffer = (BUFFER_BYTES..BUFFER_BYTES + (64 << 10)).contains(&layout.size());
        if is_buffer && !memory.is_null() {
            for page in (0..REACHED_BYTES).step_by(PAGE_BYTES) {
                // SAFETY: within the allocation, whose bytes are zero.
                unsafe { memory.add(page).write_volatile(0) };
            }
        }
        memory
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: by the caller's contract.
        unsafe { System.realloc(memory, layout, size) }
    }
}
