//! Who uses what of a store, through its mount or by the store's own path: what
//! `/proc` says of every process, and of every mount namespace.
//!
//! Knows inodes, mounts and ids of volumes; what of the mount is which volume's
//! is the mount's business.

mod cgroup;
mod detach;
mod layers;
mod links;
mod mounts;
mod processes;
mod store_place;
mod survey;
mod surveys;

pub(crate) use self::detach::detach;
pub(crate) use self::mounts::{CONTROL_TREE, Called, Shown, Wanted};
pub(crate) use self::processes::mapped_file;
pub(crate) use self::survey::{MountSide, Namespaces, Survey, holder};
pub(super) use self::surveys::Surveys;
pub(crate) use super::holder::{Hold, Holder};
