//! The kernel's first request (FUSE_INIT), which it sends once for a mount,
//! and every process that serves the mount has to answer.
//!
//! A session of `fuser` begins by answering it. So it begins on one end of a
//! socket pair, where it finds the kernel's request, or a copy of it that an
//! earlier process has left; then the device takes the place of the socket.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use fuser::{Config, Filesystem, Session, SessionACL};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::node::NodeId;
use crate::sys::process::put_over;

/// More than FUSE_MIN_READ_BUFFER (8 KiB), the least that the kernel takes.
const BUFFER_BYTES: usize = 64 << 10;

// linux/fuse.h: `fuse_in_header` is followed by `fuse_init_in` (major, minor,
// max_readahead, flags, flags2), `fuse_out_header` by `fuse_init_out`.
const IN_FLAGS: usize = 40 + 12;
const IN_FLAGS2: usize = 40 + 16;
const OUT_FLAGS: usize = 16 + 12;
const FUSE_EXPORT_SUPPORT: u32 = 1 << 4;
const FUSE_INIT_EXT: u32 = 1 << 30;
/// FUSE_HAS_RESEND, bit 39.
const HAS_RESEND2: u32 = 1 << (39 - 32);
const FUSE_NOTIFY_RESEND: i32 = 7;

/// What was agreed with the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Negotiated {
    /// The kernel's request.
    pub(super) request: Vec<u8>,
    /// The answer.
    pub(super) reply: Vec<u8>,
}

impl Negotiated {
    /// Whether the kernel sends requests again that a process has read and not
    /// answered (Linux 6.9).
    pub(super) fn can_resend(&self) -> bool {
        let has = |at, flag| has_flag(&self.request, at, flag);
        has(IN_FLAGS, FUSE_INIT_EXT) && has(IN_FLAGS2, HAS_RESEND2)
    }

    /// Whether the kernel asks for nodes by their ids.
    pub(super) fn by_id(&self) -> bool {
        has_flag(&self.reply, OUT_FLAGS, FUSE_EXPORT_SUPPORT)
    }
}

fn has_flag(message: &[u8], at: usize, flag: u32) -> bool {
    message
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .is_some_and(|bytes| u32::from_ne_bytes(bytes) & flag != 0)
}

/// Begins a session on `device`: by the kernel's first request, or by what was
/// agreed with it before.
///
/// # Errors
/// The device is gone; `InvalidData` when this process would agree to something
/// else than the one before.
pub(super) fn begin<F: Filesystem>(
    filesystem: F,
    device: &OwnedFd,
    acl: SessionACL,
    config: Config,
    before: Option<&Negotiated>,
) -> io::Result<(Session<F>, Negotiated)> {
    let request = match before {
        Some(before) => before.request.clone(),
        None => read_request(device)?,
    };
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?;
    let mut ours = std::fs::File::from(ours);
    ours.write_all(&request)?;
    let session = Session::from_fd(filesystem, theirs, acl, config);
    let mut reply = vec![0; BUFFER_BYTES];
    // It has answered, or failed without: then there is nothing to wait for.
    if session.is_ok() {
        let len = ours.read(&mut reply)?;
        reply.truncate(len);
    }
    let session = session?;
    let negotiated = Negotiated { request, reply };
    match before {
        Some(before) if *before == negotiated => {}
        Some(_) => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the kernel was promised something else by the process before",
            ));
        }
        None => {
            nix::unistd::write(device, &negotiated.reply)?;
        }
    }
    put_over(device, session.as_fd())?;
    Ok((session, negotiated))
}

fn read_request(device: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match nix::unistd::read(device, &mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(Errno::ENOENT | Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Has the kernel send all requests again that were read and not answered.
/// Before this process reads the first: it would get that twice.
///
/// # Errors
/// The device is gone.
pub(super) fn resend(device: &OwnedFd) -> io::Result<()> {
    let mut message = [0; 16];
    message[..4].copy_from_slice(&16_u32.to_ne_bytes());
    message[4..8].copy_from_slice(&FUSE_NOTIFY_RESEND.to_ne_bytes());
    nix::unistd::write(device, &message)?;
    Ok(())
}

/// Has the kernel ask again what `name` in `parent` is; nothing mounted there
/// is taken away (FUSE_NOTIFY_INVAL_ENTRY with FUSE_EXPIRE_ONLY, Linux 6.2).
pub(super) fn expire_entry(device: &OwnedFd, parent: NodeId, name: &OsStr) {
    const FUSE_NOTIFY_INVAL_ENTRY: i32 = 3;
    const FUSE_EXPIRE_ONLY: u32 = 1;
    let name = name.as_bytes();
    let Ok(name_len) = u32::try_from(name.len()) else {
        return;
    };
    // `fuse_out_header`, `fuse_notify_inval_entry_out`, the name and a zero.
    let mut message = Vec::with_capacity(33 + name.len());
    message.extend((33 + name_len).to_ne_bytes());
    message.extend(FUSE_NOTIFY_INVAL_ENTRY.to_ne_bytes());
    message.extend(0_u64.to_ne_bytes());
    message.extend(parent.raw().to_ne_bytes());
    message.extend(name_len.to_ne_bytes());
    message.extend(FUSE_EXPIRE_ONLY.to_ne_bytes());
    message.extend(name);
    message.push(0);
    // ENOENT: the kernel does not know the name.
    let _ = nix::unistd::write(device, &message);
}
