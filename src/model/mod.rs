//! The vocabulary that every layer shares: names, ids, sizes, kinds, limits.
//!
//! Pure values with their rules. Nothing in here does I/O, and nothing knows
//! the catalogue, the store or FUSE.

mod age;
mod id;
mod name;
mod retention;
mod shown;
mod size;
mod spec;
mod text;
mod time;
mod unit;
mod user;

pub use age::{Age, InvalidAge};
pub use id::{Serial, Slot, VolumeId};
pub use name::{InvalidName, NameRule, ShellWord, VolumeName};
pub use retention::Retention;
pub(crate) use shown::shown;
pub use size::{Bytes, IntoSize, InvalidSize, Mebibytes, SizeExt};
pub use spec::{
    DiskFormat, DiskFsType, InvalidSpec, Kind, Labels, Limits, Owner, Usage, VolumeSpec,
};
pub use text::{Plain, is_plain};
pub use time::Timestamp;
pub use unit::AllocationUnit;
pub use user::UserLimits;
