//! Those who are served figures at the same time: so many at most, of whom those
//! who ask nothing give way, and one look at the daemon for all who ask at once.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::failure::Outcome;

/// The most clients at once.
const MOST: usize = 64;

/// A connection.
pub enum Stream {
    /// Over the loopback interface.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// How long reading and writing may take.
    pub fn set_timeout(&self, left: Duration) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(Some(left))?;
                stream.set_write_timeout(Some(left))
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(left))?;
                stream.set_write_timeout(Some(left))
            }
        }
    }

    /// As `read(2)`.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&mut &*stream).read(buffer),
            Self::Unix(stream) => (&mut &*stream).read(buffer),
        }
    }

    /// As `write(2)`.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => (&mut &*stream).write(bytes),
            Self::Unix(stream) => (&mut &*stream).write(bytes),
        }
    }

    /// Ends what others read and write on it.
    fn end(&self) {
        // Fails only when the other end is gone already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

/// A client.
pub struct Client {
    /// Its connection.
    pub stream: Stream,
    /// Whether its request has come.
    pub has_asked: AtomicBool,
}

/// The clients of now, the oldest first.
#[derive(Default)]
pub struct Clients {
    // A leaf lock.
    open: Mutex<Vec<Arc<Client>>>,
}

impl Clients {
    /// Takes a client in. Where there are too many, the one goes that has asked
    /// nothing for longest.
    pub fn admit(&self, stream: Stream) -> Arc<Client> {
        let client = Arc::new(Client {
            stream,
            has_asked: AtomicBool::new(false),
        });
        let mut open = self.open.lock();
        if open.len() >= MOST {
            let idle = |client: &Arc<Client>| !client.has_asked.load(Ordering::Relaxed);
            let goes = open.iter().position(idle).unwrap_or(0);
            open.remove(goes).stream.end();
        }
        open.push(Arc::clone(&client));
        client
    }

    /// A client has been served, or given up.
    pub fn leave(&self, client: &Arc<Client>) {
        client.stream.end();
        self.open.lock().retain(|other| !Arc::ptr_eq(other, client));
    }
}

/// The figures, collected once for all who ask at the same time: the daemon
/// serves commands too.
pub struct Shared<'a> {
    collect: &'a (dyn Fn() -> Outcome<String> + Sync),
    // Held while they are collected: who waits gets what was begun after it asked.
    last: Mutex<Option<(Instant, Result<String, String>)>>,
}

impl<'a> Shared<'a> {
    /// Of what `collect` makes.
    pub fn new(collect: &'a (dyn Fn() -> Outcome<String> + Sync)) -> Self {
        Self {
            collect,
            last: Mutex::default(),
        }
    }

    /// The figures as they are now, or why there are none.
    pub fn figures(&self) -> Result<String, String> {
        let asked = Instant::now();
        let mut last = self.last.lock();
        if let Some((begun, figures)) = &*last
            && *begun >= asked
        {
            return figures.clone();
        }
        let begun = Instant::now();
        let figures = (self.collect)().map_err(|failure| {
            let why = failure.report().map(|report| report.message.clone());
            why.unwrap_or_else(|| "failed".to_owned())
        });
        *last = Some((begun, figures.clone()));
        figures
    }
}
