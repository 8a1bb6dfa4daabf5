//! The daemon's end of the control socket: a thread per connection, bounded in
//! number and in time, so that no client can keep the others out.
//!
//! Answers by asking [`Volumes`] and [`Daemon`]; knows nothing of how they work.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::protocol::{Refusal, Status, UnmountRefused};
use super::socket;
use crate::volume::Volumes;

use self::link::Link;

mod connection;
mod link;

/// The most connections at once; further ones wait for their turn.
pub const MAX_CONNECTIONS: usize = 32;

/// The most connections that wait for their turn; further ones are refused at
/// once.
const MAX_WAITING: usize = 256;

/// How long a connection waits for its turn before it is refused: longer than one
/// that says nothing may take.
const TURN_TIMEOUT: Duration = Duration::from_secs(20);

/// How often those who wait get a sign of life.
const BEAT: Duration = Duration::from_secs(1);

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
    beating: Option<JoinHandle<()>>,
}

struct Shared {
    listener: UnixListener,
    volumes: Arc<dyn Volumes>,
    daemon: Arc<dyn Daemon>,
    /// A leaf lock: nothing else is locked and nothing is waited for under it,
    /// except by `changed`.
    connections: Mutex<Connections>,
    /// A connection has ended.
    changed: Condvar,
    /// There is nobody left who could wait for a sign of life.
    ended: Condvar,
}

#[derive(Default)]
struct Connections {
    stopping: bool,
    ended: bool,
    last_key: u64,
    /// Those that have a thread.
    open: HashMap<u64, Arc<Link>>,
    /// Those that wait for one, and until when.
    waiting: VecDeque<(Instant, Link)>,
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
            ended: Condvar::new(),
        });
        let mut server = Self {
            socket: path.to_owned(),
            shared: Arc::clone(&shared),
            accepting: None,
            beating: None,
        };
        let thread = |name: &str| std::thread::Builder::new().name(name.into());
        server.beating = Some(thread("control-beat").spawn({
            let shared = Arc::clone(&shared);
            move || beat(&shared)
        })?);
        server.accepting = Some(thread("control").spawn(move || accept(&shared))?);
        Ok(server)
    }
}

impl Drop for Server {
    /// Takes no new request, lets the replies under way out, and removes the
    /// socket.
    fn drop(&mut self) {
        let mut connections = self.shared.connections.lock();
        connections.stopping = true;
        for link in connections.open.values() {
            // Fails only when the other end is gone already.
            let _ = link.stream.shutdown(Shutdown::Read);
        }
        let waiting = std::mem::take(&mut connections.waiting);
        drop(connections);
        for (_, link) in waiting {
            let _ = connection::refuse(&link, Refusal::Ending);
        }
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
        connections.ended = true;
        drop(connections);
        self.shared.ended.notify_all();
        if let Some(thread) = self.beating.take() {
            let _ = thread.join();
        }
    }
}

/// Gives those who wait for a reply or for their turn a sign of life, and
/// refuses those who have waited for their turn too long.
fn beat(shared: &Shared) {
    loop {
        let next = Instant::now() + BEAT;
        let mut connections = shared.connections.lock();
        while !connections.ended && Instant::now() < next {
            shared.ended.wait_until(&mut connections, next);
        }
        if connections.ended {
            return;
        }
        let open: Vec<_> = connections.open.values().cloned().collect();
        let now = Instant::now();
        let mut late = Vec::new();
        while connections
            .waiting
            .front()
            .is_some_and(|(until, _)| *until < now)
        {
            late.extend(connections.waiting.pop_front());
        }
        for (_, link) in &connections.waiting {
            link.beat();
        }
        let refusal = Refusal::TooManyConnections {
            connections: connections.open.len(),
        };
        drop(connections);
        for (_, link) in late {
            let _ = connection::refuse(&link, refusal.clone());
        }
        for link in open {
            link.beat();
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

/// Gives the connection a thread of its own, or a place among those that wait
/// for one.
fn admit(shared: &Arc<Shared>, stream: std::os::unix::net::UnixStream) -> io::Result<()> {
    let link = Link::new(stream)?;
    let uid = link.peer.uid;
    if !may_control(uid, nix::unistd::geteuid().as_raw()) {
        log::warn!("user id {uid} tried to use the control socket");
        return connection::refuse(&link, Refusal::Forbidden { uid });
    }
    let mut connections = shared.connections.lock();
    let refusal = if connections.stopping {
        Refusal::Ending
    } else if connections.open.len() < MAX_CONNECTIONS {
        return serve(shared, &mut connections, link);
    } else if connections.waiting.len() < MAX_WAITING {
        let until = Instant::now() + TURN_TIMEOUT;
        connections.waiting.push_back((until, link));
        return Ok(());
    } else {
        Refusal::TooManyConnections {
            connections: connections.open.len(),
        }
    };
    drop(connections);
    connection::refuse(&link, refusal)
}

/// Starts the thread of a connection.
fn serve(shared: &Arc<Shared>, connections: &mut Connections, link: Link) -> io::Result<()> {
    connections.last_key += 1;
    let key = connections.last_key;
    let link = Arc::new(link);
    connections.open.insert(key, Arc::clone(&link));
    let shared = Arc::clone(shared);
    let started = std::thread::Builder::new()
        .name(format!("control-{key}"))
        // Made there: dropped here, it would wait for the lock that is held.
        .spawn(move || connection::serve(&Place { shared, key }, &link));
    if started.is_err() {
        connections.open.remove(&key);
    }
    started.map(|_| ())
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
    /// The next that waits gets it.
    fn drop(&mut self) {
        let mut connections = self.shared.connections.lock();
        connections.open.remove(&self.key);
        if !connections.stopping
            && connections.open.len() < MAX_CONNECTIONS
            && let Some((_, next)) = connections.waiting.pop_front()
            && let Err(error) = serve(&self.shared, &mut connections, next)
        {
            log::warn!("a control connection could not be served: {error}");
        }
        drop(connections);
        self.shared.changed.notify_all();
    }
}
