//! What a volume is, and its whole life.

mod access;
mod adopt;
mod alter;
mod api;
mod build;
mod check;
mod contents;
mod convert;
mod delete;
mod distrust;
mod error;
mod events;
mod examine;
mod files;
mod filter;
mod found;
mod full;
mod gather;
mod holder;
pub(crate) mod holders;
mod identity;
mod image;
mod in_memory;
mod in_use;
mod index;
mod layout;
mod lease;
mod lock;
mod make;
mod manifest;
mod meta_error;
mod observer;
mod open;
mod purge;
mod rebuild;
mod reconcile;
mod removed;
mod reserve;
mod settings;
mod source;
mod staging;
mod store;
mod trash;
mod unit;
mod unused;
mod usage;
mod users;
mod walk;

pub use api::{
    Change, CheckHow, DiskCheck, DiskInfo, DiskState, Removal, TrashedVolume, Verified, VolumeInfo,
    Volumes,
};
pub use error::{Error, Result, UserLimitReached};
pub use events::{Event, EventKind};
pub use examine::Examined;
pub use files::{Entry, FileKind, Stat, VolumeFs, VolumeReader, VolumeWriter};
pub use filter::{Filter, Filters, InvalidFilter};
pub use full::DiskSpace;
pub use holder::{Hold, Holder, Within};
pub use in_memory::Volume;
pub use observer::{Growth, ImageGuard, Observer};
pub use purge::Purge;
pub use rebuild::Rebuilt;
pub(crate) use removed::{Leaving, is_kept};
pub use removed::{RemovedFile, delete_removed_files, removed_files};
pub use settings::{Setting, Settings};
pub use source::Source;
pub use staging::{Staged, Staging};
pub use store::{Store, StoreOptions};
pub(crate) use usage::check_is_directory;

#[cfg(test)]
mod testing;
