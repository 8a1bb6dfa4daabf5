//! The working process's end: what its predecessor left, and what it leaves.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{SigSet, Signal};
use parking_lot::Mutex;

use super::protocol::{Inbox, Kind, MOST_KEPT, Message, Verb};
use crate::sys::process::adopt;

/// The first argument of a working process: the number of its socket and its
/// parent's process id follow.
const MARK: &str = "--kept-by=";

/// The signals that a supervisor passes on.
pub(super) const PASSED_ON: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// Lets signals in that were passed on so far: they are caught from here on.
///
/// # Errors
/// As `pthread_sigmask(3)`.
pub fn let_signals_in() -> nix::Result<()> {
    SigSet::from_iter(PASSED_ON).thread_unblock()
}

/// A descriptor that a predecessor left.
#[derive(Debug)]
pub struct Kept {
    /// What it is.
    pub kind: Kind,
    /// Which of its kind.
    pub key: u64,
    /// The descriptor.
    pub fd: OwnedFd,
    /// Where the supervisor has it.
    pub place: Place,
}

/// Where the supervisor keeps a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place(u32);

/// The supervisor, as its working process sees it.
#[derive(Debug)]
pub struct Keeper {
    socket: OwnedFd,
    /// A leaf lock, not held while something is sent.
    places: Mutex<Places>,
    generation: u64,
    /// What the supervisor has said since the start. A leaf lock.
    heard: Mutex<Option<(u64, String)>>,
}

#[derive(Debug, Default)]
struct Places {
    free: Vec<u32>,
    next: u32,
}

/// The argument that tells a process of its supervisor.
pub(super) fn mark(socket: i32, parent: u32) -> OsString {
    format!("{MARK}{socket}:{parent}").into()
}

impl Keeper {
    /// Takes the supervisor's mark off the arguments, and what is kept from
    /// the supervisor; `None` in a process that has none. From here on this
    /// process is killed when the supervisor dies.
    ///
    /// # Errors
    /// The supervisor is gone, or says what this version does not understand.
    pub fn take_from(argv: &mut Vec<OsString>) -> io::Result<Option<(Self, Vec<Kept>)>> {
        let Some(said) = argv
            .get(1)
            .and_then(|first| first.as_bytes().strip_prefix(MARK.as_bytes()))
        else {
            return Ok(None);
        };
        let text = OsString::from_vec(said.to_vec());
        argv.remove(1);
        let (socket, parent) = text
            .to_str()
            .and_then(|text| text.split_once(':'))
            .and_then(|(fd, pid)| Some((fd.parse().ok()?, pid.parse::<u32>().ok()?)))
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        if std::os::unix::process::parent_id() != parent {
            // It died before it could be asked for.
            return Err(io::ErrorKind::NotConnected.into());
        }
        // The supervisor has blocked those that it waits for. Those that it passes
        // on stay so until there is somebody who acts on them.
        let mut unblocked = SigSet::all();
        for signal in PASSED_ON {
            unblocked.remove(signal);
        }
        unblocked.thread_unblock()?;
        // A program's own file is executed through /proc and would be "exe".
        let _ = nix::sys::prctl::set_name(c"volfs");
        let socket = adopt(socket);
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        Self::connect(socket).map(Some)
    }

    fn connect(socket: OwnedFd) -> io::Result<(Self, Vec<Kept>)> {
        let mut inbox = Inbox::new();
        let mut kept = Vec::new();
        let mut taken = std::collections::HashSet::new();
        let generation = loop {
            let Some(received) = inbox.receive(&socket, true)? else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            let message = received.message;
            match (message.verb, received.fd) {
                (Verb::All, _) => break message.key,
                (Verb::Kept, Some(fd)) => {
                    taken.insert(message.place);
                    match Kind::from_raw(message.kind) {
                        Some(kind) => kept.push(Kept {
                            kind,
                            key: message.key,
                            fd,
                            place: Place(message.place),
                        }),
                        None => log::warn!("a descriptor of kind {} is not known", message.kind),
                    }
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        };
        let next = taken.iter().max().map_or(0, |most| most + 1);
        let free = (0..next).filter(|place| !taken.contains(place)).collect();
        let keeper = Self {
            socket,
            places: Mutex::new(Places { free, next }),
            generation,
            heard: Mutex::default(),
        };
        Ok((keeper, kept))
    }

    /// How many upgrades have been refused since the last that was made, and why
    /// the last of them was.
    pub fn no_upgrade(&self) -> Option<(u64, String)> {
        let mut heard = self.heard.lock();
        let mut inbox = Inbox::new();
        // A supervisor that is gone takes this process with it.
        while let Ok(Some(received)) = inbox.receive(&self.socket, false) {
            if received.message.verb == Verb::NoUpgrade {
                let why = String::from_utf8_lossy(received.tail).into_owned();
                *heard = Some((received.message.key, why));
            }
        }
        heard.clone()
    }

    /// How many processes there were before this one.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Has a descriptor kept.
    ///
    /// # Errors
    /// The supervisor is gone, or keeps too many already.
    pub fn keep(&self, kind: Kind, key: u64, fd: BorrowedFd<'_>) -> io::Result<Place> {
        let place = {
            let mut places = self.places.lock();
            match places.free.pop() {
                Some(place) => place,
                None if places.next >= MOST_KEPT => {
                    return Err(io::Error::from_raw_os_error(libc::EMFILE));
                }
                None => {
                    places.next += 1;
                    places.next - 1
                }
            }
        };
        let place = Place(place);
        match self.replace(place, kind, key, fd) {
            Ok(()) => Ok(place),
            Err(error) => {
                self.places.lock().free.push(place.0);
                Err(error)
            }
        }
    }

    /// Has another descriptor kept in place of one: a successor gets the one
    /// or the other.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn replace(
        &self,
        place: Place,
        kind: Kind,
        key: u64,
        fd: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let message = Message {
            verb: Verb::Keep,
            place: place.0,
            kind: kind as u32,
            key,
        };
        message.send(&self.socket, Some(fd), b"")
    }

    /// Has a descriptor closed.
    pub fn drop_kept(&self, place: Place) {
        let message = Message {
            place: place.0,
            ..Message::new(Verb::Drop)
        };
        // A supervisor that is gone keeps nothing; this process goes too.
        let _ = message.send(&self.socket, None, b"");
        self.places.lock().free.push(place.0);
    }

    /// The mount on `mountpoint` is served. With `successor`, there shall be
    /// another process when this one dies.
    ///
    /// # Errors
    /// The supervisor is gone.
    pub fn serving(&self, mountpoint: &Path, successor: bool) -> io::Result<()> {
        let path = mountpoint.as_os_str().as_bytes();
        let message = Message {
            key: successor.into(),
            ..Message::new(Verb::Serving)
        };
        message.send(&self.socket, None, path)
    }
}

impl Keeper {
    /// A request has been served: whatever this process dies of, it is not its
    /// start.
    pub fn works(&self) {
        // A supervisor that is gone takes this process with it.
        let _ = Message::new(Verb::Working).send(&self.socket, None, b"");
    }
}

impl AsFd for Keeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
