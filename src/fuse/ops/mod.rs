//! The operations of the file system, one file per family.
//!
//! Each is a method of [`FileSystem`](super::fs::FileSystem) that takes and
//! returns the types in [`types`](super::types).

mod again;
mod attr;
mod flags;
mod io;
mod link;
mod list;
mod lookup;
mod make;
mod open;
mod release;
mod remove;
mod rename;
mod space;
mod statfs;
mod view;
mod xattr;

pub use flags::Flags;
pub(in crate::fuse) use list::dots_entry;
pub use list::{Listed, ListedPlus};
pub(in crate::fuse) use lookup::no_entry;
pub(in crate::fuse) use open::host_flags;
pub use space::FileRange;
