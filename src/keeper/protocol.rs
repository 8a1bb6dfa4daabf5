//! What supervisor and working process say to each other: datagrams of a
//! socket pair, each with at most one descriptor.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use crate::sys::process::adopt;

/// The exit code of a working process that has finished what was under way and
/// left everything to its successor.
pub const HANDED_OVER: i32 = 75;

/// The most descriptors that are kept.
pub(super) const MOST_KEPT: u32 = 1 << 16;

/// The longest path of a mountpoint.
pub(super) const PATH_BYTES: usize = 4096;

/// What a kept descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// The device that requests come from.
    Device = 1,
    /// The shared memory that says what is open and what is under way.
    State = 2,
    /// The lock of the store.
    Lock = 3,
    /// A file without a name that is open; the key is its node.
    Unnamed = 4,
    /// The mount of an image; the key is the slot of its volume.
    Image = 5,
    /// The listening control socket.
    Socket = 6,
    /// An inode without a name that is not open but known; the key is its node.
    Gone = 7,
    /// The supervisor's own program before an upgrade.
    Program = 8,
}

impl Kind {
    /// From a message; `None` for what this version does not know.
    #[must_use]
    pub fn from_raw(raw: u32) -> Option<Self> {
        [
            Self::Device,
            Self::State,
            Self::Lock,
            Self::Unnamed,
            Self::Image,
            Self::Socket,
            Self::Gone,
            Self::Program,
        ]
        .into_iter()
        .find(|kind| *kind as u32 == raw)
    }
}

/// What a message asks or tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Verb {
    /// Keep this descriptor at this place, in place of what is there.
    Keep = 1,
    /// Close what is kept at this place.
    Drop = 2,
    /// The mount is served, on the mountpoint whose path follows. With key 1:
    /// when this process dies there shall be another.
    Serving = 3,
    /// A request has been served.
    Working = 6,
    /// To the working process: this is kept at this place.
    Kept = 4,
    /// To the working process: that was all; the key says how many processes
    /// there were before.
    All = 5,
    /// To the working process: an upgrade was refused, for the reason that
    /// follows; the key says how many there have been.
    NoUpgrade = 7,
}

impl Verb {
    fn from_raw(raw: u32) -> Option<Self> {
        [
            Self::Keep,
            Self::Drop,
            Self::Serving,
            Self::Working,
            Self::Kept,
            Self::All,
            Self::NoUpgrade,
        ]
        .into_iter()
        .find(|verb| *verb as u32 == raw)
    }
}

/// A message without its descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) verb: Verb,
    pub(super) place: u32,
    pub(super) kind: u32,
    pub(super) key: u64,
}

const HEAD_BYTES: usize = 24;

impl Message {
    pub(super) fn new(verb: Verb) -> Self {
        Self {
            verb,
            place: 0,
            kind: 0,
            key: 0,
        }
    }

    fn encode(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&(self.verb as u32).to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.place.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.kind.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.key.to_ne_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        Some(Self {
            verb: Verb::from_raw(word(0)?)?,
            place: word(4)?,
            kind: word(8)?,
            key: u64::from_ne_bytes(bytes.get(16..24)?.try_into().ok()?),
        })
    }

    /// Sends it, with a descriptor or bytes that follow.
    ///
    /// # Errors
    /// `EPIPE` when the other end is gone.
    pub(super) fn send(
        self,
        socket: impl AsFd,
        fd: Option<BorrowedFd<'_>>,
        tail: &[u8],
    ) -> io::Result<()> {
        self.send_with(socket, fd, tail, MsgFlags::empty())
    }

    /// As [`send`](Self::send), but fails where that would wait: for the other end
    /// to read what it was sent before.
    pub(super) fn try_send(self, socket: impl AsFd, tail: &[u8]) -> io::Result<()> {
        self.send_with(socket, None, tail, MsgFlags::MSG_DONTWAIT)
    }

    fn send_with(
        self,
        socket: impl AsFd,
        fd: Option<BorrowedFd<'_>>,
        tail: &[u8],
        flags: MsgFlags,
    ) -> io::Result<()> {
        let flags = flags | MsgFlags::MSG_NOSIGNAL;
        let head = self.encode();
        let parts = [IoSlice::new(&head), IoSlice::new(tail)];
        let fds: [RawFd; 1] = [fd.map_or(-1, |fd| fd.as_raw_fd())];
        let control = [ControlMessage::ScmRights(&fds)];
        let control: &[_] = if fd.is_some() { &control } else { &[] };
        let socket = socket.as_fd().as_raw_fd();
        loop {
            match sendmsg::<()>(socket, &parts, control, flags, None) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Where messages are received: memory that is used again for each.
pub(super) struct Inbox {
    bytes: Box<[u8; HEAD_BYTES + PATH_BYTES]>,
    control: Vec<u8>,
}

/// What has come.
pub(super) struct Received<'a> {
    pub(super) message: Message,
    pub(super) fd: Option<OwnedFd>,
    pub(super) tail: &'a [u8],
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            bytes: Box::new([0; HEAD_BYTES + PATH_BYTES]),
            control: nix::cmsg_space!(RawFd),
        }
    }

    /// Receives the next message; `None` when the other end is gone, or there
    /// is none and `wait` is not set.
    pub(super) fn receive(
        &mut self,
        socket: impl AsFd,
        wait: bool,
    ) -> io::Result<Option<Received<'_>>> {
        let socket = socket.as_fd().as_raw_fd();
        let mut flags = MsgFlags::MSG_CMSG_CLOEXEC;
        if !wait {
            flags |= MsgFlags::MSG_DONTWAIT;
        }
        let (len, fd) = loop {
            let mut parts = [IoSliceMut::new(&mut self.bytes[..])];
            match recvmsg::<()>(socket, &mut parts, Some(&mut self.control), flags) {
                Ok(message) => {
                    let fd = message.cmsgs().ok().and_then(|mut all| {
                        all.find_map(|part| match part {
                            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
                            _ => None,
                        })
                    });
                    break (message.bytes, fd.map(adopt));
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ECONNRESET) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        };
        if len == 0 {
            return Ok(None);
        }
        let message = Message::decode(&self.bytes[..len])
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Some(Received {
            message,
            fd,
            tail: &self.bytes[HEAD_BYTES..len],
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    #[test]
    fn a_message_arrives_with_its_descriptor() {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let file = tempfile::tempfile().unwrap();
        let sent = Message {
            verb: Verb::Keep,
            place: 7,
            kind: Kind::Unnamed as u32,
            key: u64::MAX - 1,
        };
        sent.send(&ours, Some(file.as_fd()), b"tail").unwrap();
        Message::new(Verb::Drop).send(&ours, None, b"").unwrap();
        let mut inbox = Inbox::new();
        let got = inbox.receive(&theirs, true).unwrap().unwrap();
        assert_eq!((got.message, got.tail), (sent, &b"tail"[..]));
        let inode = |fd: BorrowedFd<'_>| nix::sys::stat::fstat(fd).unwrap().st_ino;
        assert_eq!(inode(got.fd.unwrap().as_fd()), inode(file.as_fd()));
        let got = inbox.receive(&theirs, true).unwrap().unwrap();
        assert_eq!(got.message.verb, Verb::Drop);
        assert!(got.fd.is_none());
        assert!(inbox.receive(&theirs, false).unwrap().is_none());
        drop(ours);
        assert!(inbox.receive(&theirs, true).unwrap().is_none());
    }
}
