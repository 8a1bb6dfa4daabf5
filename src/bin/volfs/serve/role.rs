//! What a process was started as: by a person, as the daemon in the background
//! that owes its word, or by a supervisor.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use volfs::fuse::Inherited;
use volfs::keeper::Keeper;

use super::ready::Ready;
use crate::failure::{Failure, Outcome};

/// The argument that says where relative paths are from: the supervisor itself
/// is in no directory that it would keep from being unmounted.
const FROM: &str = "--from-directory=";

/// That argument, of this process.
pub fn from_here() -> Option<OsString> {
    let mut argument = OsString::from(FROM);
    argument.push(std::env::current_dir().ok()?);
    Some(argument)
}

fn take_from_directory(argv: &mut Vec<OsString>) -> Option<PathBuf> {
    let first = argv.get(1)?.as_bytes().strip_prefix(FROM.as_bytes())?;
    let directory = PathBuf::from(OsStr::from_bytes(first));
    argv.remove(1);
    Some(directory)
}

/// What this process was started as.
#[derive(Debug)]
pub struct Role {
    /// It is in the background, and owes its word.
    pub ready: Option<Ready>,
    /// It has a supervisor, and what the process before it has left.
    pub inherited: Option<Inherited>,
}

impl Role {
    /// Takes what only volfs itself says off the arguments.
    pub fn take_from(argv: &mut Vec<OsString>) -> Outcome<Self> {
        let kept = Keeper::take_from(argv)
            .map_err(|error| Failure::io("speak with", "the supervisor", &error))?;
        if let Some(directory) = take_from_directory(argv) {
            // Gone since: paths that need it are said not to be there.
            let _ = std::env::set_current_dir(directory);
        }
        Ok(Self {
            ready: Ready::take_from(argv),
            inherited: kept.map(|(keeper, kept)| Inherited::new(keeper, kept)),
        })
    }

    /// Whether it is a daemon, whatever its arguments say.
    pub fn is_daemon(&self) -> bool {
        self.ready.is_some() || self.inherited.is_some()
    }
}
