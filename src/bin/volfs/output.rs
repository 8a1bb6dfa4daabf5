//! What a command prints: text or JSON, never both, and never a panic because
//! the reader has gone (`volfs ls | head`).

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use serde::Serialize;

use crate::failure::{Failure, Outcome};

/// How this command prints.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    quiet: bool,
}

/// The first error of a write to stdout that is not a closed pipe; 0 is none.
static WRITE_ERROR: AtomicI32 = AtomicI32::new(0);

/// Whether stdout cannot be written to any more.
static GONE: AtomicBool = AtomicBool::new(false);

impl Output {
    /// As the command line asks.
    pub const fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether programs read it.
    pub const fn is_json(self) -> bool {
        self.json
    }

    /// Whether only what was asked for is printed.
    pub const fn is_quiet(self) -> bool {
        self.quiet
    }

    /// What was asked for, as it is.
    pub fn raw(self, text: impl AsRef<str>) {
        write_out(text.as_ref());
    }

    /// What was asked for, for people.
    pub fn text(self, text: impl std::fmt::Display) {
        write_out(&format!("{text}\n"));
    }

    /// A confirmation, for people; not when quiet.
    pub fn confirm(self, text: impl std::fmt::Display) {
        if !self.json && !self.quiet {
            self.text(text);
        }
    }

    /// What whoever gave the command has to know although it was done; to stderr,
    /// also when quiet. JSON has it in the value.
    pub fn warn(self, text: impl std::fmt::Display) {
        if !self.json {
            // Nobody is left to be told when stderr is closed.
            let _ = writeln!(io::stderr(), "volfs: warning: {text}");
        }
    }

    /// A value for programs.
    pub fn value(self, value: &impl Serialize) -> Outcome {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new("json", format!("cannot be written as JSON: {error}")))?;
        write_out(&format!("{text}\n"));
        Ok(())
    }

    /// A value for programs, on one line: one of a stream.
    pub fn line(self, value: &impl Serialize) -> Outcome {
        let text = serde_json::to_string(value)
            .map_err(|error| Failure::new("json", format!("cannot be written as JSON: {error}")))?;
        write_out(&format!("{text}\n"));
        Ok(())
    }

    /// What somebody should know of what was done, to stderr; not for programs,
    /// which have the figures, and not when quiet.
    pub fn note(self, text: impl std::fmt::Display) {
        if !self.json && !self.quiet {
            let _ = writeln!(io::stderr(), "volfs: note: {text}");
        }
    }

    /// A failure, to stderr.
    pub fn failure(self, failure: &Failure) {
        let Some(report) = failure.report() else {
            return;
        };
        let text = if self.json {
            serde_json::json!({ "error": report }).to_string()
        } else {
            format!("volfs: {}", report.message)
        };
        // Nobody is left to be told when stderr is closed.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// A failure with one of several names: told now, and remembered by the
    /// caller.
    pub fn one_failed(self, error: impl Into<Failure>) {
        self.failure(&error.into());
    }
}

fn write_out(text: &str) {
    let mut out = io::stdout().lock();
    let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) else {
        return;
    };
    GONE.store(true, Ordering::Relaxed);
    if error.kind() != io::ErrorKind::BrokenPipe {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        let _ = WRITE_ERROR.compare_exchange(0, errno, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Whether nobody reads what is printed any more, so that a command that goes
/// on and on is to end.
pub fn is_gone() -> bool {
    GONE.load(Ordering::Relaxed)
}

/// Whether all that was printed has arrived; a reader that has seen enough is
/// no error, a full disk is.
pub fn check_written() -> Outcome {
    match WRITE_ERROR.load(Ordering::Relaxed) {
        0 => Ok(()),
        errno => Err(Failure::io(
            "write to",
            "standard output",
            &io::Error::from_raw_os_error(errno),
        )),
    }
}
