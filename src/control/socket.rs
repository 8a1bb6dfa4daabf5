//! Making and finding a unix socket by path: never open to others for a
//! moment, and at any depth of directories.
//!
//! Knows nothing of what is said on it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

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

/// Connects to the socket at `path`.
///
/// # Errors
/// I/O, as `connect(2)` has it.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    UnixStream::connect(short(path)?.path)
}

/// The user id and process id at the other end. The process id is 0 when it
/// cannot be seen from this pid namespace.
pub fn peer(stream: &UnixStream) -> io::Result<(u32, i32)> {
    let peer = socket::getsockopt(stream, socket::sockopt::PeerCredentials)?;
    Ok((peer.uid(), peer.pid()))
}
