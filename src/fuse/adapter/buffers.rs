//! Memory for replies: no request that is common allocates, and little is kept for
//! that.

use std::cell::RefCell;
use std::num::NonZero;

use parking_lot::Mutex;

use crate::fuse::init;
use crate::sys::pages::Pages;

/// The largest reply.
const LARGEST: usize = init::MAX_WRITE as usize;

/// Up to here each thread has memory of its own: the largest extended attribute
/// (XATTR_SIZE_MAX, linux/limits.h), and a symbolic link.
const OWN: usize = 64 << 10;

thread_local! {
    static SMALL: RefCell<Vec<u8>> = RefCell::new(vec![0; OWN]);
}

/// Memory for large replies, shared by the threads that serve.
///
/// As many pieces are kept as processors can fill at the same time. Threads that
/// wait for the disk, and are more, get pages from the kernel and give them back:
/// the allocator would keep them, for each thread its own.
pub(super) struct Buffers {
    kept: Mutex<Vec<Pages>>,
    most: usize,
}

impl Buffers {
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            kept: Mutex::default(),
            most: processors.min(8),
        }
    }

    /// Runs `run` with `size` bytes, or as many as the largest reply has.
    pub(super) fn with<T>(&self, size: usize, run: impl FnOnce(&mut [u8]) -> T) -> T {
        let size = size.min(LARGEST);
        if size <= OWN {
            return SMALL.with_borrow_mut(|small| run(&mut small[..size]));
        }
        let kept = self.kept.lock().pop();
        let mut pages = kept.unwrap_or_else(|| Pages::new(LARGEST));
        let result = run(&mut pages[..size]);
        let mut kept = self.kept.lock();
        if kept.len() < self.most {
            kept.push(pages);
        }
        result
    }
}
