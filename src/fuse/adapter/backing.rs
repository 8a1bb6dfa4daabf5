//! Numbers of host files in replies, and closing them.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use fuser::BackingId;

use crate::fuse::passthrough::{BackingFiles, Register};
use crate::fuse::types::{DataPath, Opened};
use crate::sys::backing;

/// The files that the kernel at the other end of the device has been given.
#[derive(Debug)]
pub(in crate::fuse) struct DeviceFiles(OwnedFd);

impl DeviceFiles {
    pub(in crate::fuse) fn new(device: OwnedFd) -> Self {
        Self(device)
    }
}

impl BackingFiles for DeviceFiles {
    fn close(&self, id: u32) {
        if let Err(errno) = backing::close(&self.0, id) {
            // After the end of the mount there is nothing left to close.
            log::debug!("the kernel's file {id} is not closed: {}", errno.desc());
        }
    }
}

/// The number of the host's file that an open's reply tells.
pub(super) fn backing_of(opened: &Opened) -> Option<u32> {
    match &opened.path {
        DataPath::Passthrough(backing) | DataPath::Direct(Some(backing)) => Some(backing.id()),
        DataPath::Cached { .. } | DataPath::Direct(None) => None,
    }
}

/// Registers files through the reply that they are opened for.
pub(super) struct ByReply<F>(pub(super) F);

impl<F: Fn(BorrowedFd<'_>) -> io::Result<BackingId>> Register for ByReply<F> {
    fn register(&self, file: BorrowedFd<'_>) -> io::Result<u32> {
        Ok((self.0)(file)?.into_raw())
    }
}
