//! What a volume is, and its whole life.

mod alter;
mod api;
mod build;
mod check;
mod convert;
mod delete;
mod error;
mod events;
mod filter;
mod image;
mod in_memory;
mod index;
mod layout;
mod lock;
mod make;
mod manifest;
mod meta_error;
mod open;
mod rebuild;
mod reconcile;
mod reserve;
mod store;
mod trash;
mod usage;
mod walk;

pub use api::{
    Change, CheckHow, DiskCheck, DiskInfo, DiskState, Removal, TrashedVolume, Verified, VolumeInfo,
    Volumes,
};
pub use error::{Error, Hold, Holder, Result};
pub use events::{Event, EventKind};
pub use filter::{Filter, Filters, InvalidFilter};
pub use in_memory::Volume;
pub use rebuild::Rebuilt;
pub use store::{Growth, ImageGuard, Observer, Store, StoreOptions};
pub(crate) use usage::check_is_directory;

#[cfg(test)]
mod testing;
