//! The catalogue of volumes, and the pure arithmetic of quotas.
//!
//! Knows the vocabulary of [`crate::model`], SQLite, and how directories of
//! file systems grow; looks into no volume, and knows nothing of images or FUSE.

mod account;
mod catalogue;
mod change;
mod crossing;
mod dir_growth;
mod error;
mod lineage;
mod load;
mod pool;
mod quota;
mod recover;
mod row;
mod schema;

pub use account::{
    Account, Change as AccountChange, Crossed, Mirror, OverLimit, Reservation, Resource,
};
pub use catalogue::Catalogue;
pub use change::UsageRow;
pub use dir_growth::DirGrowth;
pub use error::{Error, Result};
pub use lineage::Standing;
pub use pool::{Member, Pool, Taken};
pub use quota::{ATTRIBUTES_MOST, BLOCK, Inode, charge};
pub use row::{ContentsId, DiskRow, State, VolumeRow};
