//! What a process was started as: by a person, as the daemon in the background
//! that owes its word, or by a supervisor.

use std::ffi::OsString;

use volfs::fuse::Inherited;
use volfs::keeper::Keeper;

use super::ready::Ready;
use crate::failure::{Failure, Outcome};

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
