//! Serves a text over HTTP/1.0 at a loopback address or a unix socket: as much
//! of HTTP as those who scrape need, and for none for long.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use volfs::control::socket;

use super::clients::{Client, Clients, Shared, Stream};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::serve::notify;

/// How long one client may take, for its request and for the reply each.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest request that is read.
const MOST_BYTES: usize = 8 << 10;

/// Where figures are served.
#[derive(Clone, Debug)]
pub enum Address {
    /// On the loopback interface.
    Tcp(SocketAddr),
    /// At the path of a socket, which only its owner may connect to.
    Unix(PathBuf),
}

impl Address {
    /// Reads `127.0.0.1:9464`, `[::1]:9464`, `localhost:9464`, or a path.
    pub fn parse(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix("unix:").unwrap_or(text);
        if path.contains('/') {
            return Ok(Self::Unix(path.into()));
        }
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        let address: SocketAddr = numeric.parse().map_err(|_| {
            format!("{text:?} is not an address; write 127.0.0.1:PORT, [::1]:PORT, or the path of a socket with a '/'")
        })?;
        let loopback = match address.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.is_loopback(),
        };
        if !loopback {
            return Err(format!(
                "{text:?} can be reached from other machines; use a loopback address like 127.0.0.1, and a proxy with authentication before it"
            ));
        }
        Ok(Self::Tcp(address))
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn new(address: &Address) -> Outcome<Self> {
        match address {
            Address::Tcp(address) => TcpListener::bind(address)
                .map(Self::Tcp)
                .map_err(|error| Failure::io("listen on", address.to_string(), &error)),
            Address::Unix(path) => free(path)
                .and_then(|()| socket::listen(path))
                .map(Self::Unix)
                .map_err(|error| Failure::io("listen on", path, &error)),
        }
    }

    /// Where it listens, as a client would write it.
    fn place(&self, address: &Address) -> String {
        match (self, address) {
            (Self::Tcp(listener), Address::Tcp(asked)) => {
                // Port 0 asks for any that is free.
                let address = listener.local_addr().unwrap_or(*asked);
                format!("http://{address}/metrics")
            }
            (_, Address::Unix(path)) => path.display().to_string(),
            (Self::Unix(_), Address::Tcp(address)) => address.to_string(),
        }
    }

    fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(listener) => Stream::Tcp(listener.accept()?.0),
            Self::Unix(listener) => Stream::Unix(listener.accept()?.0),
        })
    }
}

/// Only a socket that nobody listens on any more is replaced.
fn free(path: &Path) -> io::Result<()> {
    let Ok(there) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    match socket::connect(path) {
        Err(error)
            if there.file_type().is_socket()
                && error.kind() == io::ErrorKind::ConnectionRefused =>
        {
            Ok(())
        }
        _ => Err(io::Error::from_raw_os_error(libc::EADDRINUSE)),
    }
}

/// Serves what `collect` makes, until a signal ends it.
pub fn serve(
    address: &Address,
    context: &Context,
    collect: impl Fn() -> Outcome<String> + Sync,
) -> Outcome {
    let listener = Listener::new(address)?;
    end_on_signal(address).map_err(|error| Failure::io("catch", "signals", &error))?;
    let place = listener.place(address);
    context
        .output
        .confirm(format_args!("metrics are served on {place}"));
    notify::ready_as(&format!("metrics on {place}"));
    let (clients, shared) = (Clients::default(), Shared::new(&collect));
    std::thread::scope(|scope| {
        loop {
            let client = match listener.accept() {
                Ok(client) => clients.admit(client),
                // A connection that was given up, or no descriptor is left.
                Err(error) => {
                    log::warn!("cannot accept a connection: {error}");
                    crate::open::pause();
                    continue;
                }
            };
            let (clients, shared) = (&clients, &shared);
            let serve = {
                let client = Arc::clone(&client);
                move || {
                    if let Err(error) = answer(&client, shared) {
                        log::debug!("a client was not answered: {error}");
                    }
                    clients.leave(&client);
                }
            };
            if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, serve) {
                log::warn!("a client is not answered: {error}");
                clients.leave(&client);
            }
        }
    })
}

/// Removes the socket and ends the process.
fn end_on_signal(address: &Address) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let path = match address {
        Address::Unix(path) => Some(path.clone()),
        Address::Tcp(_) => None,
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.forever().next().is_some() {
                if let Some(path) = path {
                    let _ = std::fs::remove_file(path);
                }
                std::process::exit(0);
            }
        })
        .map(drop)
}

fn answer(client: &Client, shared: &Shared<'_>) -> io::Result<()> {
    let request = read_head(&client.stream)?;
    client.has_asked.store(true, Ordering::Relaxed);
    let line = request.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let path = path.split('?').next().unwrap_or_default();
    let (status, body) = match (method, path) {
        ("GET" | "HEAD", "/metrics" | "/") => match shared.figures() {
            Ok(text) => ("200 OK", text),
            Err(why) => ("503 Service Unavailable", format!("{why}\n")),
        },
        ("GET" | "HEAD", _) => ("404 Not Found", "only /metrics is here\n".to_owned()),
        _ => (
            "405 Method Not Allowed",
            "only GET is answered\n".to_owned(),
        ),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.0 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let mut text = head.into_bytes();
    if method != "HEAD" {
        text.extend(body.into_bytes());
    }
    let deadline = Instant::now() + PATIENCE;
    let mut rest = &text[..];
    while !rest.is_empty() {
        client.stream.set_timeout(left(deadline)?)?;
        match client.stream.write(rest)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => rest = &rest[written..],
        }
    }
    Ok(())
}

/// What is left until `deadline`.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::Error::other("the client is too slow"));
    }
    Ok(left)
}

/// Reads up to the empty line that ends a request's head.
fn read_head(client: &Stream) -> io::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > MOST_BYTES {
            return Err(io::Error::other("the request is too long"));
        }
        client.set_timeout(left(deadline)?)?;
        match client.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_served() {
        for good in [
            "127.0.0.1:9464",
            "[::1]:0",
            "localhost:80",
            "/run/x",
            "unix:./x",
            "a/b",
        ] {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
        for far in ["0.0.0.0:9464", "[::]:1", "192.0.2.1:80"] {
            let said = Address::parse(far).unwrap_err();
            assert!(said.contains("from other machines"), "{said}");
        }
        for bad in ["", "9464", "localhost", "example.org:80", "127.0.0.1"] {
            let said = Address::parse(bad).unwrap_err();
            assert!(said.contains("is not an address"), "{said}");
        }
    }
}
