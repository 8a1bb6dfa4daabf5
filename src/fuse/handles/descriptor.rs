//! The daemon's descriptors of open files. Handles of an inode that are open in the
//! same way share one: callers decide how many handles there are, and a process has
//! few descriptors.
//!
//! What the host keeps per open file must not be shared with it. Its offset is not
//! used (pread(2), pwrite(2)); locks and leases are the kernel's own affair above
//! this daemon; what fcntl(2) changes of the flags comes with each request. One thing
//! is left: an error of writing back is reported once through each open file
//! (fsync(2)). So [`HandleFile`] reports it once through each handle.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use parking_lot::Mutex;

use super::Share;

/// A descriptor of the host's file.
pub(in crate::fuse) struct Descriptor {
    file: OwnedFd,
    /// The host's flags by which other handles find it; `None` when they must not.
    flags: Option<OFlag>,
    failures: Mutex<Failures>,
    /// Its place among the descriptors of all open files. After `file`: free when
    /// that is closed.
    _share: Option<Share>,
}

/// What was reported to one handle and is to be reported to the others; a leaf lock.
#[derive(Clone, Copy, Default)]
struct Failures {
    count: u64,
    last: Option<Errno>,
}

impl Descriptor {
    /// For all handles that are opened with `flags` of the host.
    pub(in crate::fuse) fn shared(file: OwnedFd, flags: OFlag, share: Share) -> Arc<Self> {
        Self::new(file, Some(flags), Some(share))
    }

    /// For one handle, whose place is counted elsewhere.
    pub(in crate::fuse) fn of_one(file: OwnedFd) -> Arc<Self> {
        Self::new(file, None, None)
    }

    fn new(file: OwnedFd, flags: Option<OFlag>, share: Option<Share>) -> Arc<Self> {
        Arc::new(Self {
            file,
            flags,
            failures: Mutex::default(),
            _share: share,
        })
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The descriptors that handles of one inode share, by the host's flags.
#[derive(Default)]
pub(super) struct Descriptors(Vec<Weak<Descriptor>>);

impl Descriptors {
    /// The one that is open with `flags`.
    pub(super) fn get(&self, flags: OFlag) -> Option<Arc<Descriptor>> {
        let open = self.0.iter().filter_map(Weak::upgrade);
        open.into_iter().find(|open| open.flags == Some(flags))
    }

    /// Others may find `new` from now on, unless they find such a one already.
    pub(super) fn add(&mut self, new: &Arc<Descriptor>) {
        let Some(flags) = new.flags else { return };
        if self.get(flags).is_none() {
            self.0.retain(|open| open.strong_count() > 0);
            self.0.push(Arc::downgrade(new));
        }
    }
}

/// A handle's use of a descriptor.
pub struct HandleFile {
    descriptor: Arc<Descriptor>,
    /// How many of the descriptor's failures this handle has been told.
    told: AtomicU64,
}

impl HandleFile {
    pub(super) fn new(descriptor: Arc<Descriptor>) -> Self {
        let told = descriptor.failures.lock().count.into();
        Self { descriptor, told }
    }

    /// What this handle is told of a call that writes back what was written
    /// (fsync(2), a write with O_SYNC): the call's own error, or one that another
    /// handle was told since.
    ///
    /// # Errors
    /// Such an error.
    pub fn report<T>(&self, result: nix::Result<T>) -> nix::Result<T> {
        let mut failures = self.descriptor.failures.lock();
        if let Err(errno) = result {
            failures.count += 1;
            failures.last = Some(errno);
        }
        let told = self.told.swap(failures.count, Ordering::Relaxed);
        match failures.last {
            Some(errno) if told < failures.count && result.is_ok() => Err(errno),
            _ => result,
        }
    }
}

impl AsFd for HandleFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor() -> Arc<Descriptor> {
        let file = std::fs::File::open("/dev/null").unwrap();
        Descriptor::new(file.into(), Some(OFlag::O_RDWR), None)
    }

    #[test]
    fn each_handle_is_told_of_an_error_once() {
        let shared = descriptor();
        let [first, second] = [(); 2].map(|()| HandleFile::new(Arc::clone(&shared)));
        assert_eq!(first.report(Err::<(), _>(Errno::EIO)), Err(Errno::EIO));
        assert_eq!(first.report(Ok(1)), Ok(1));
        // As on the host, not one that was opened after it had been reported.
        let late = HandleFile::new(Arc::clone(&shared));
        assert_eq!(late.report(Ok(1)), Ok(1));
        assert_eq!(second.report(Ok(1)), Err(Errno::EIO));
        assert_eq!(second.report(Ok(1)), Ok(1));
        // Its own is what it is told.
        assert_eq!(late.report(Err::<(), _>(Errno::ENOSPC)), Err(Errno::ENOSPC));
        assert_eq!(second.report(Ok(1)), Err(Errno::ENOSPC));
    }

    #[test]
    fn a_descriptor_is_found_while_it_is_open() {
        let mut all = Descriptors::default();
        let (one, other) = (descriptor(), descriptor());
        all.add(&one);
        all.add(&other);
        let found = all.get(OFlag::O_RDWR).unwrap();
        assert!(Arc::ptr_eq(&found, &one));
        assert!(all.get(OFlag::O_RDONLY).is_none());
        drop((one, found));
        assert!(all.get(OFlag::O_RDWR).is_none());
        all.add(&other);
        assert!(all.get(OFlag::O_RDWR).is_some());
        assert_eq!(all.0.len(), 1);
    }
}
