//! What a volume is, and its whole life.

mod alter;
mod api;
mod build;
mod delete;
mod error;
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
mod volume;
mod walk;

pub use api::{Change, DiskInfo, Removal, TrashedVolume, VolumeInfo, Volumes};
pub use error::{Error, Hold, Holder, Result};
pub use rebuild::Rebuilt;
pub use store::{Observer, Store, StoreOptions};
pub use volume::Volume;
