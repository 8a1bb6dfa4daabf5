//! A connection as two threads have it: the one that serves it, and the one that
//! shows its client that this process runs.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, send};
use parking_lot::Mutex;

use crate::control::socket::{self, Peer};

/// What a client hears while it waits: a space, which JSON allows before a value.
const SIGN_OF_LIFE: &[u8] = b" ";

/// How long a client may take to read a whole reply. The list of 100,000
/// volumes is some 50 MB.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection.
pub(super) struct Link {
    pub(super) stream: UnixStream,
    pub(super) peer: Peer,
    /// Whether the client waits for something. Locked while anything is
    /// written: a sign of life falls between two replies, never into one. A
    /// leaf lock.
    owes: Mutex<bool>,
}

impl Link {
    /// Of a stream that was accepted; its client waits for its turn.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self {
            peer: socket::peer(&stream)?,
            stream,
            owes: Mutex::new(true),
        })
    }

    /// Whether the client waits from now on.
    pub(super) fn set_owes(&self, owes: bool) {
        *self.owes.lock() = owes;
    }

    /// Shows a client that waits that this process runs.
    pub(super) fn beat(&self) {
        // Who has it is writing, which is more than a sign.
        if let Some(owes) = self.owes.try_lock().filter(|owes| **owes) {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            // A client that does not read needs no sign.
            let _ = send(self.stream.as_raw_fd(), SIGN_OF_LIFE, flags);
            drop(owes);
        }
    }

    /// Writes a reply within [`WRITE_TIMEOUT`], however little the client takes
    /// at a time.
    pub(super) fn reply(&self, mut rest: &[u8]) -> io::Result<()> {
        let mut owes = self.owes.lock();
        *owes = false;
        let deadline = Instant::now() + WRITE_TIMEOUT;
        let mut stream = &self.stream;
        while !rest.is_empty() {
            stream.set_write_timeout(Some(time_left(deadline)?))?;
            match stream.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What is left until `deadline`; an error when nothing is.
pub(super) fn time_left(deadline: Instant) -> io::Result<Duration> {
    match deadline.checked_duration_since(Instant::now()) {
        // A time-out of zero would mean none at all.
        Some(left) if !left.is_zero() => Ok(left),
        _ => Err(io::ErrorKind::TimedOut.into()),
    }
}
