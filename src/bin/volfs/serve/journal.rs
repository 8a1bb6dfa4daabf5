//! The journal of systemd as the log: standard error as a stream of its own
//! (`sd_journal_stream_fd(3)`), so that a panic gets there too.

use std::io::{self, Write};
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::failure::{Failure, Outcome};

/// Where journald takes streams.
const SOCKET: &str = "/run/systemd/journal/stdout";

/// Sends standard error to the journal.
pub fn redirect() -> Outcome {
    let stream = connect(Path::new(SOCKET)).map_err(|error| {
        Failure::new(
            "no-journal",
            format!("there is no journal to log to at {SOCKET:?}: {error}; leave log=journal out, and the log is daemon.log in the store"),
        )
    })?;
    nix::unistd::dup2_stderr(&stream).map_err(|errno| Failure::io("log to", SOCKET, &errno.into()))
}

/// A stream whose lines begin with their level, `<3>` to `<7>`.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    // Identifier, unit, default level, whether lines have a level, and
    // whether they go to syslog, kernel log and console as well.
    let unit = "";
    write!(stream, "volfs\n{unit}\n6\n1\n0\n0\n0\n")?;
    Ok(stream)
}

/// Whether standard error is a stream to the journal: systemd says so in
/// `JOURNAL_STREAM`, as `DEVICE:INODE`.
pub fn is_stderr() -> bool {
    let stderr = std::fs::metadata("/proc/self/fd/2");
    match (std::env::var("JOURNAL_STREAM"), stderr) {
        (Ok(said), Ok(is)) => said == format!("{}:{}", is.st_dev(), is.st_ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_journald_is_told_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout");
        let listener = UnixListener::bind(&path).unwrap();
        let mut stream = connect(&path).unwrap();
        writeln!(stream, "<4>careful").unwrap();
        drop(stream);
        let mut said = String::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_string(&mut said)
            .unwrap();
        assert_eq!(said, "volfs\n\n6\n1\n0\n0\n0\n<4>careful\n");
    }
}
