//! Making and finding a unix socket by path: never open to others for a
//! moment, and at any depth of directories.
//!
//! Knows nothing of what is said on it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, fchmod};

/// `sun_path` of `sockaddr_un` has 108 bytes, one of them the final NUL.
const MAX_PATH_BYTES: usize = 107;

/// A path that fits `sun_path`, and the directory that must stay open for it.
struct ShortPath {
    path: PathBuf,
    _directory: Option<File>,
}

fn short(path: &Path) -> io::Result<ShortPath> {
    if path.as_os_str().len() <= MAX_PATH_BYTES {
        return Ok(ShortPath {
            path: path.to_owned(),
            _directory: None,
        });
    }
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    let directory = File::open(directory)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    Ok(ShortPath {
        path,
        _directory: Some(directory),
    })
}

/// Listens on a new socket that only its owner can connect to (mode 0600).
///
/// A file that is there already is replaced: the caller has made sure that
/// nobody listens on it, by the store's lock or otherwise.
///
/// # Errors
/// I/O, as `bind(2)` has it.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let short = short(path)?;
    let socket: OwnedFd = socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // Linux gives the file the mode of the unbound socket less the umask, so
    // there is no moment at which it is wider, and no need to change the
    // umask of all threads.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket::bind(socket.as_raw_fd(), &UnixAddr::new(&short.path)?)?;
    socket::listen(&socket, Backlog::new(128)?)?;
    Ok(UnixListener::from(socket))
}

/// How long a connection may take to be made: where nobody accepts any more,
/// `connect(2)` waits as soon as the backlog is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the socket at `path`. The stream has a time-out for sending of
/// five seconds, until it is given another.
///
/// # Errors
/// I/O, as `connect(2)` has it; [`WouldBlock`](io::ErrorKind::WouldBlock) when
/// nobody has accepted within five seconds.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let short = short(path)?;
    let socket: OwnedFd = socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let stream = UnixStream::from(socket);
    stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
    let address = UnixAddr::new(&short.path)?;
    loop {
        match socket::connect(stream.as_raw_fd(), &address) {
            Ok(()) => return Ok(stream),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Whether the other end of `stream` is closed, so that nobody reads what is
/// said. One that has only nothing more to say is not.
pub fn is_hung_up(stream: &UnixStream) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|events| events > 0)
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The effective user id.
    pub uid: u32,
    /// The process id; 0 when it cannot be seen from this pid namespace.
    pub pid: i32,
}

/// Who is at the other end (SO_PEERCRED, unix(7)): the process that connected,
/// or the one that listens.
///
/// # Errors
/// As `getsockopt(2)`.
pub fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let peer = socket::getsockopt(stream, socket::sockopt::PeerCredentials)?;
    Ok(Peer {
        uid: peer.uid(),
        pid: peer.pid(),
    })
}
