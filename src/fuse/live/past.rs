//! What an earlier process left, and how this one goes on with it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::layout::State;
use crate::fuse::fs::FileSystem;
use crate::fuse::handshake::Negotiated;
use crate::fuse::successor::Inherited;
use crate::keeper::{Kept, Kind};
use crate::sys::shared::SharedFile;

/// What an earlier process left.
pub(in crate::fuse) struct Past {
    device: OwnedFd,
    state: State,
}

impl Past {
    /// `None` for the first process.
    pub(super) fn of(mut inherited: Inherited) -> io::Result<Option<Self>> {
        let mut one = |kind| inherited.take(kind).pop().map(|kept: Kept| kept.fd);
        let (Some(device), Some(state)) = (one(Kind::Device), one(Kind::State)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            device,
            state: State::read(SharedFile::open(state)?)?,
        }))
    }

    /// Goes on with it.
    pub(in crate::fuse) fn restore(
        self,
        _fs: &Arc<FileSystem>,
    ) -> io::Result<(OwnedFd, Negotiated)> {
        let negotiated = self.state.negotiated()?;
        Ok((self.device, negotiated))
    }
}
