//! What a process that serves a mount gets from the one before it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::live;
use crate::keeper::{Keeper, Kept, Kind};

/// What the supervisor has given this process.
#[derive(Debug)]
pub struct Inherited {
    keeper: Arc<Keeper>,
    kept: Vec<Kept>,
}

impl Inherited {
    /// From what was taken at the start of the process.
    #[must_use]
    pub fn new(keeper: Keeper, kept: Vec<Kept>) -> Self {
        Self {
            keeper: Arc::new(keeper),
            kept,
        }
    }

    /// The supervisor.
    #[must_use]
    pub fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    /// Whether a process before this one served the mount.
    #[must_use]
    pub fn is_successor(&self) -> bool {
        self.kept.iter().any(|kept| kept.kind == Kind::Device)
    }

    /// A copy of the lock of the store, if the process before had it.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn lock(&self) -> std::io::Result<Option<OwnedFd>> {
        let lock = self.kept.iter().find(|kept| kept.kind == Kind::Lock);
        lock.map(|lock| lock.fd.try_clone()).transpose()
    }

    /// Whether this program understands what the process before has left. To be
    /// asked before anything is changed on disk: the one before may have to go on.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> std::io::Result<()> {
        match self.kept.iter().find(|kept| kept.kind == Kind::State) {
            Some(state) => live::check(state.fd.try_clone()?),
            None => Ok(()),
        }
    }

    /// Takes what is kept of this kind.
    pub(super) fn take(&mut self, kind: Kind) -> Vec<Kept> {
        self.kept.extract_if(.., |kept| kept.kind == kind).collect()
    }
}
