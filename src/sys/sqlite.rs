//! What the system said to SQLite when a call of it failed.

use rusqlite::{Connection, ffi};

/// The system's error number that belongs to the last failure of this
/// connection to open, read or write a file; `None` when there is none.
#[must_use]
pub fn last_errno(connection: &Connection) -> Option<i32> {
    // SAFETY: the handle is that of an open connection, which the reference
    // keeps open, and which no other thread uses meanwhile: `Connection` is not
    // `Sync`. The call reads a field of it.
    let errno = unsafe { ffi::sqlite3_system_errno(connection.handle()) };
    (errno != 0).then_some(errno)
}
