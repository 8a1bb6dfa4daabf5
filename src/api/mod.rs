//! Volumes for programs: find, make, fill and remove them, whether a daemon
//! serves the store or not.
//!
//! Everything here is a convenience over [`Volumes`](crate::volume::Volumes),
//! the one interface that the store itself and the client of its daemon have.

mod builder;
mod handle;
mod reach;
mod volume;

pub use builder::{VolumeBuilder, VolumeConfig};
pub use handle::VolumeHandle;
pub use reach::{Access, PATIENCE, open, open_as};
pub use volume::{BackendKind, Volume};
