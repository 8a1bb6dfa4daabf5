//! One connection: read a line, call, write a line, until the client has no
//! more, or takes too long.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::link::{Link, time_left};
use super::{Place, Shared};
use crate::control::audit::{self, Who};
use crate::control::protocol::{Call, Failure, MAX_REQUEST_BYTES, Refusal, Reply, Request};
use crate::control::socket;

/// How long the next request may take to arrive, from its first wait to its
/// newline.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the connection to its end.
pub(super) fn serve(place: &Place, link: &Link) {
    let mut lines = Lines {
        stream: &link.stream,
        buffer: Vec::new(),
    };
    loop {
        link.set_owes(false);
        let outcome = match lines.next() {
            Ok(Some(_)) if place.is_stopping() => {
                let _ = refuse(link, Refusal::Ending);
                return;
            }
            // Whoever asked has given up, and been told so. What it wanted
            // long ago may be wrong by now.
            Ok(Some(_)) if socket::is_hung_up(&link.stream) => return,
            Ok(Some(line)) => {
                link.set_owes(true);
                link.reply(&answer(&place.shared, link, &line))
            }
            Ok(None) => return,
            Err(Stop::Refused(refusal)) => {
                let _ = refuse(link, refusal);
                return;
            }
            Err(Stop::Broken(error)) => Err(error),
        };
        if let Err(error) = outcome {
            log::debug!("a control connection broke: {error}");
            return;
        }
    }
}

/// Says why, and is done with the connection.
pub(super) fn refuse(link: &Link, refusal: Refusal) -> io::Result<()> {
    link.reply(&line_of(Err::<(), _>(refusal)))
}

/// The reply line to a request line.
fn answer(shared: &Shared, link: &Link, line: &[u8]) -> Vec<u8> {
    let call = match Request::parse(line) {
        Ok(request) => request.call,
        Err(refusal) => return line_of(Err::<(), _>(refusal)),
    };
    if !call.changes() {
        return made(shared, call);
    }
    // Before: who asks may be gone when it is done.
    let (who, change) = (Who::of(link.peer), audit::described(&call));
    let reply = made(shared, call);
    let refused = why_refused(&reply);
    audit::note(&who, &change, refused.as_deref());
    reply
}

/// The message of a reply line that is an error.
fn why_refused(reply: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Refused {
        error: Message,
    }
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    let refused: Refused = serde_json::from_slice(reply).ok()?;
    Some(refused.error.message)
}

/// Makes the call.
fn made(shared: &Shared, call: Call) -> Vec<u8> {
    let volumes = &*shared.volumes;
    match call {
        Call::Create { spec } => line_of(volumes.create(&spec)),
        Call::Get { name } => line_of(volumes.get(&name)),
        Call::List => line_of(volumes.list()),
        Call::Rename { from, to } => line_of(volumes.rename(&from, &to)),
        Call::Remove { name, how } => line_of(volumes.remove(&name, how)),
        Call::Change { name, change } => line_of(volumes.change(&name, &change)),
        Call::Check { name, how } => line_of(volumes.check(&name, how)),
        Call::Holders { name } => line_of(volumes.holders(&name)),
        Call::AllHolders => line_of(volumes.all_holders()),
        Call::Events => line_of(volumes.events()),
        Call::Verify { name, repair } => line_of(volumes.verify(&name, repair)),
        Call::Trash => line_of(volumes.trash()),
        Call::Restore { which, new_name } => line_of(volumes.restore(&which, new_name.as_ref())),
        Call::EmptyTrash { which } => line_of(volumes.empty_trash(which.as_deref())),
        Call::Purges => line_of(volumes.purges()),
        Call::Settings => line_of(volumes.settings()),
        Call::Set { setting } => line_of(volumes.set(&setting)),
        Call::Adopt { staged } => line_of(volumes.adopt(&staged)),
        Call::Detach { name } => line_of(volumes.detach(&name)),
        Call::Status => line_of(Ok::<_, Refusal>(shared.daemon.status())),
        Call::Unmount { lazy } => line_of(shared.daemon.unmount(lazy)),
        Call::Stats => line_of(Ok::<_, Refusal>(shared.daemon.stats())),
    }
}

fn line_of<T: Serialize>(result: Result<T, impl Into<Failure>>) -> Vec<u8> {
    let reply = match result {
        Ok(value) => Reply::Ok(value),
        Err(failure) => Reply::Error(failure.into().into()),
    };
    let mut line = serde_json::to_vec(&reply).unwrap_or_else(|error| {
        let why = error.to_string();
        let failure = Failure::from(Refusal::BadReply { why });
        // A code, a text and a sentence: always JSON.
        serde_json::to_vec(&Reply::<()>::Error(failure.into())).unwrap_or_default()
    });
    line.push(b'\n');
    line
}

enum Stop {
    Refused(Refusal),
    Broken(io::Error),
}

/// The request lines of a connection.
struct Lines<'a> {
    stream: &'a UnixStream,
    /// What has been read of the next line, and perhaps of later ones.
    buffer: Vec<u8>,
}

impl Lines<'_> {
    /// The next line without its newline; `None` when the client has no more.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Stop> {
        let deadline = Instant::now() + READ_TIMEOUT;
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|&b| b == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=searched + at).collect();
                line.pop();
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            if searched >= MAX_REQUEST_BYTES {
                return Err(Stop::Refused(Refusal::TooLong {
                    limit: MAX_REQUEST_BYTES,
                }));
            }
            match self.read_more(deadline) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if is_timeout(&error) && self.buffer.is_empty() => return Ok(None),
                Err(error) if is_timeout(&error) => {
                    return Err(Stop::Refused(Refusal::TooSlow {
                        seconds: READ_TIMEOUT.as_secs(),
                    }));
                }
                Err(error) => return Err(Stop::Broken(error)),
            }
        }
    }

    fn read_more(&mut self, deadline: Instant) -> io::Result<usize> {
        let mut chunk = [0; 8192];
        loop {
            self.stream.set_read_timeout(Some(time_left(deadline)?))?;
            let mut stream = self.stream;
            match stream.read(&mut chunk) {
                Ok(count) => {
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}
