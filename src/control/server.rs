//! The daemon's end of the control socket: a thread per connection, bounded in
//! number and in time, so that no client can keep the others out.
//!
//! Answers by asking [`Volumes`] and [`Daemon`]; knows nothing of how they work.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::protocol::{Refusal, Status, UnmountRefused};
use super::socket;
use crate::volume::Volumes;

mod connection;

/// The most connections at once; further ones wait for their turn.
pub const MAX_CONNECTIONS: usize = 32;

/// How long a connection waits for its turn before it is refused.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the end of the server waits for calls that are under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What a daemon can tell and do besides its volumes.
pub trait Daemon: Send + Sync {
    /// What it is.
    fn status(&self) -> Status;

    /// Unmounts; `lazy` detaches at once.
    ///
    /// # Errors
    /// [`UnmountRefused`]; everything goes on as before then.
    fn unmount(&self, lazy: bool) -> Result<(), UnmountRefused>;

    /// Figures, as an object.
    fn stats(&self) -> serde_json::Value;
}

/// A control socket that is being served. Dropped, it ends and removes the
/// socket file.
pub struct Server {
    socket: PathBuf,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    listener: UnixListener,
    volumes: Arc<dyn Volumes>,
    daemon: Arc<dyn Daemon>,
    /// A leaf lock: nothing else is locked and nothing is waited for under it,
    /// except by `changed`.
    connections: Mutex<Connections>,
    /// A connection has ended, or the server is stopping.
    changed: Condvar,
}

#[derive(Default)]
struct Connections {
    stopping: bool,
    last_key: u64,
    open: HashMap<u64, Arc<UnixStream>>,
}

impl Server {
    /// Serves `volumes` and `daemon` on a new socket at `path`, mode 0600. A
    /// socket file that a dead daemon left is replaced; the caller holds the
    /// store's lock.
    ///
    /// # Errors
    /// I/O: the socket or the thread cannot be made.
    pub fn start(
        path: &Path,
        volumes: Arc<dyn Volumes>,
        daemon: Arc<dyn Daemon>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            listener: socket::listen(path)?,
            volumes,
            daemon,
            connections: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = std::thread::Builder::new().name("control".into()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&shared)
        })?;
        Ok(Self {
            socket: path.to_owned(),
            shared,
            accepting: Some(accepting),
        })
    }
}

impl Drop for Server {
    /// Takes no new request, lets the replies under way out, and removes the
    /// socket.
    fn drop(&mut self) {
        let mut connections = self.shared.connections.lock();
        connections.stopping = true;
        for stream in connections.open.values() {
            // Fails only when the other end is gone already.
            let _ = stream.shutdown(Shutdown::Read);
        }
        self.shared.changed.notify_all();
        drop(connections);
        // Wakes accept(2), which fails when no connection is left that was
        // made before; those are told that there is no more to be had.
        let _ = nix::sys::socket::shutdown(
            self.shared.listener.as_raw_fd(),
            nix::sys::socket::Shutdown::Both,
        );
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
        if let Err(error) = std::fs::remove_file(&self.socket) {
            log::warn!("cannot remove {:?}: {error}", self.socket);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut connections = self.shared.connections.lock();
        while !connections.open.is_empty() {
            if self
                .shared
                .changed
                .wait_until(&mut connections, deadline)
                .timed_out()
            {
                log::warn!(
                    "{} control calls did not end in time",
                    connections.open.len()
                );
                break;
            }
        }
    }
}

fn accept(shared: &Arc<Shared>) {
    // Given up for a connection when there is no other descriptor.
    let mut spare = None;
    loop {
        spare = spare.or_else(|| shared.listener.as_fd().try_clone_to_owned().ok());
        let accepted = shared.listener.accept().or_else(|error| {
            match spare.take_if(|_| error.raw_os_error() == Some(libc::EMFILE)) {
                Some(last) => {
                    log::warn!("a control connection gets the last descriptor");
                    drop(last);
                    shared.listener.accept()
                }
                None => Err(error),
            }
        });
        match accepted {
            Ok((stream, _)) => {
                if let Err(error) = admit(shared, stream) {
                    log::warn!("a control connection could not be served: {error}");
                }
            }
            Err(error) => {
                if shared.connections.lock().stopping {
                    return;
                }
                log::warn!("cannot accept a control connection: {error}");
                // Out of descriptors: leave time for some to be closed.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Waits for a free place and gives the connection a thread of its own.
fn admit(shared: &Arc<Shared>, stream: UnixStream) -> io::Result<()> {
    let (uid, _) = socket::peer(&stream)?;
    if !may_control(uid, nix::unistd::geteuid().as_raw()) {
        log::warn!("user id {uid} tried to use the control socket");
        return connection::refuse(&stream, Refusal::Forbidden { uid });
    }
    let stream = Arc::new(stream);
    let deadline = Instant::now() + TURN_TIMEOUT;
    let mut connections = shared.connections.lock();
    while connections.open.len() >= MAX_CONNECTIONS && !connections.stopping {
        if shared
            .changed
            .wait_until(&mut connections, deadline)
            .timed_out()
        {
            let refusal = Refusal::TooManyConnections {
                connections: connections.open.len(),
            };
            drop(connections);
            return connection::refuse(&stream, refusal);
        }
    }
    if connections.stopping {
        drop(connections);
        return connection::refuse(&stream, Refusal::Ending);
    }
    connections.last_key += 1;
    let key = connections.last_key;
    connections.open.insert(key, Arc::clone(&stream));
    drop(connections);
    let place = Place {
        shared: Arc::clone(shared),
        key,
    };
    std::thread::Builder::new()
        .name(format!("control-{key}"))
        .spawn(move || connection::serve(&place, &stream))
        .map(|_| ())
}

fn may_control(caller: u32, own: u32) -> bool {
    caller == 0 || caller == own
}

/// A place among the connections; dropped, also by a panic, it is free again.
struct Place {
    shared: Arc<Shared>,
    key: u64,
}

impl Place {
    fn is_stopping(&self) -> bool {
        self.shared.connections.lock().stopping
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.connections.lock().open.remove(&self.key);
        self.shared.changed.notify_all();
    }
}
