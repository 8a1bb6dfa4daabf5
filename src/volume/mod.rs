//! What a volume is, and its whole life.

mod api;
mod error;

pub use api::{Change, DiskInfo, Removal, TrashedVolume, VolumeInfo, Volumes};
pub use error::{Error, Hold, Holder, Result};
mod store;
pub use store::{Observer, Store, StoreOptions, Volume};
