//! Telling a damaged catalogue from one that could not be read just then.
//!
//! A read that fails while SQLite goes through its log comes out as "database
//! disk image is malformed", and stays with the connection. So what looks like
//! damage is looked at again: every byte of the files is read, which brings the
//! system's own error to light, and the catalogue is opened anew.

use std::fs::File;
use std::io;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::catalogue::Catalogue;
use super::error::{Error, Result};

impl Catalogue {
    /// Does `work`, and if that comes upon damage, once more when it is sure
    /// that the files can be read.
    pub(super) fn surely<T>(&mut self, mut work: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        let said = match work(self) {
            Err(Error::Damaged { why, .. }) => why,
            result => return result,
        };
        self.open_anew()?;
        let result = work(self);
        if result.is_ok() {
            log::warn!(
                "{:?} could not be read a moment ago ({said}), and can be now: it is not damaged, but its disk may be",
                self.path
            );
        }
        result
    }

    /// # Errors
    /// [`Error::System`]: a file cannot be read.
    fn open_anew(&mut self) -> Result<()> {
        let mut log = self.opened.as_os_str().to_owned();
        log.push("-wal");
        read_through(&self.opened)?;
        read_through(Path::new(&log))?;
        // The old connection goes first: it has the files locked.
        let nowhere = Connection::open_in_memory().map_err(|e| Error::sqlite(&self.path, &e))?;
        drop(std::mem::replace(&mut self.connection, nowhere));
        self.connection = connect(&self.opened)?;
        self.settings(self.pragmas)
    }
}

pub(super) fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).or_else(|_| {
        // There is no connection to ask for the system's reason.
        let opened = File::options().read(true).write(true).open(path);
        opened.map_err(|reason| system(path, &reason))?;
        Connection::open_with_flags(path, flags).map_err(|error| Error::sqlite(path, &error))
    })?;
    connection
        .busy_timeout(std::time::Duration::from_secs(2))
        .map_err(|e| Error::sqlite(path, &e))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn read_through(path: &Path) -> Result<()> {
    let read = File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
    match read {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(system(path, &error)),
        _ => Ok(()),
    }
}

fn system(path: &Path, error: &io::Error) -> Error {
    Error::System {
        path: path.to_owned(),
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    }
}
