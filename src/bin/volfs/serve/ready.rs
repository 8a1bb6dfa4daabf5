//! The word that a daemon in the background gives to the command that started
//! it: mounted, or why not. One line of JSON on its standard output, which is
//! then closed.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Report};

/// The first argument of a process that was started as a daemon.
pub const MARK: &str = "--ready-on-stdout";

/// What is mounted where, and by whom.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MountedAs {
    /// The store's directory.
    pub store: PathBuf,
    /// The mountpoint.
    pub mountpoint: PathBuf,
    /// The daemon's process id.
    pub pid: u32,
    /// What was amiss in the store, and what was done about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

/// The word.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// The mount can be used.
    Mounted(MountedAs),
    /// Nothing is mounted.
    Failed(Report),
}

impl Word {
    /// Reads the line; `None` when it is not one.
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

/// This process is a daemon in the background, and owes its word.
#[derive(Debug)]
pub struct Ready(());

impl Ready {
    /// Takes [`MARK`] off the arguments.
    pub fn take_from(argv: &mut Vec<OsString>) -> Option<Self> {
        if argv.get(1).is_some_and(|first| first == MARK) {
            argv.remove(1);
            return Some(Self(()));
        }
        None
    }

    /// The mount can be used.
    ///
    /// # Errors
    /// The command that started this one is gone.
    pub fn mounted(self, mounted: MountedAs) -> io::Result<()> {
        say(&Word::Mounted(mounted))
    }

    /// Nothing is mounted. What remains to be told when nobody is listening is
    /// the failure itself.
    pub fn failed(self, failure: Failure) -> Failure {
        match failure.report() {
            Some(report) if say(&Word::Failed(report.clone())).is_ok() => Failure::Reported,
            _ => failure,
        }
    }
}

/// Says it, and lets go of the pipe: from here on standard output is where the
/// log is.
fn say(word: &Word) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()?;
    let_go_of_stdout()
}

/// Makes standard output what standard error is.
pub fn let_go_of_stdout() -> io::Result<()> {
    Ok(nix::unistd::dup2_stdout(io::stderr())?)
}
