//! Host files that a FUSE connection reads and writes by itself, by their
//! numbers. A number belongs to the connection, not to the process that got it.

use std::os::fd::{AsFd, AsRawFd};

use fuser::{BackingId, ReplyCreate, ReplyOpen};

use super::Result;

mod request {
    // FUSE_DEV_IOC_BACKING_CLOSE, linux/fuse.h
    nix::ioctl_write_ptr!(
        #[doc(hidden)]
        backing_close,
        229,
        2,
        u32
    );
}

/// The kernel lets go of the file; whoever has it open goes on.
///
/// # Errors
/// `ENOENT` when there is no such number.
pub fn close(device: impl AsFd, id: u32) -> Result<()> {
    // SAFETY: a live descriptor and a live number, which the kernel only reads.
    unsafe { request::backing_close(device.as_fd().as_raw_fd(), &raw const id) }.map(drop)
}

/// The number `id` for an open's reply. It must not be dropped but
/// [taken back](BackingId::into_raw): whoever has it as a number closes it.
#[must_use]
pub fn for_open(reply: &ReplyOpen, id: u32) -> BackingId {
    // SAFETY: nothing is touched; the kernel checks the number.
    unsafe { reply.wrap_backing(id) }
}

/// As [`for_open`], for a create's reply.
#[must_use]
pub fn for_create(reply: &ReplyCreate, id: u32) -> BackingId {
    // SAFETY: nothing is touched; the kernel checks the number.
    unsafe { reply.wrap_backing(id) }
}
