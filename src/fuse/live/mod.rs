//! What must be known to the next process when this one dies: shared memory
//! that the supervisor keeps.
//!
//! Everything is written as it happens, with plain stores and no call, so that
//! it is right at every moment; a killed thread leaves at most one thing half
//! done, which its journal entry tells. A successor reads all of it, builds
//! shared memory of its own, and only then serves.
//!
//! `layout` is where what is, `table` the records.

mod layout;
mod past;
mod table;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use super::handshake::Negotiated;
use super::successor::Inherited;
use crate::keeper::{Keeper, Kind};
use crate::volume::Store;

use self::layout::State;
pub(super) use self::past::Past;

/// The state that outlives this process; nothing of it where no supervisor
/// keeps it.
#[derive(Debug, Default)]
pub(super) struct Live(Option<Kept>);

#[derive(Debug)]
struct Kept {
    keeper: Arc<Keeper>,
    state: State,
}

impl Live {
    /// For a process with a supervisor, and what the process before left.
    ///
    /// # Errors
    /// That cannot be read, or there is no memory.
    pub(super) fn new(inherited: Option<Inherited>) -> io::Result<(Self, Option<Past>)> {
        let Some(inherited) = inherited else {
            return Ok((Self(None), None));
        };
        let keeper = Arc::clone(inherited.keeper());
        let state = State::create(keeper.generation())?;
        let past = Past::of(inherited)?;
        Ok((Self(Some(Kept { keeper, state })), past))
    }

    /// The mount is about to be served: from here on a successor can go on.
    pub(super) fn serves(
        &self,
        device: &OwnedFd,
        negotiated: &Negotiated,
        store: &Store,
        mountpoint: &Path,
    ) -> io::Result<()> {
        let Some(Kept { keeper, state }) = &self.0 else {
            return Ok(());
        };
        state.set_negotiated(negotiated)?;
        state.seal();
        if keeper.generation() == 0 {
            keeper.keep(Kind::State, 0, state.file().as_fd())?;
            if let Some(lock) = store.lock_descriptor() {
                keeper.keep(Kind::Lock, 0, lock)?;
            }
            // Last: who has it has all.
            keeper.keep(Kind::Device, 0, device.as_fd())?;
        }
        keeper.serving(mountpoint)
    }
}
