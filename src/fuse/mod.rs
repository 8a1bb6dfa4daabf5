//! The mounted file system.
//!
//! `session` mounts and serves; it, `adapter`, `convert` and `init` are the
//! only files that know `fuser`; `fs` and `ops` are the file system itself, on
//! the project's own types.

mod adapter;
mod announce;
mod awake;
mod by_handle;
mod charge;
mod control_tree;
mod convert;
mod counting;
mod dir_cache;
mod disks;
pub mod error;
mod explain;
mod former_names;
pub mod fs;
mod going;
mod ground;
mod handles;
mod handshake;
mod holders;
mod host;
mod housekeeping;
mod image_file;
mod init;
pub mod kernel;
mod last_error;
mod live;
pub mod mount;
mod mounted_volumes;
mod naming;
pub mod node;
mod nodes;
mod observer;
mod open_texts;
pub mod ops;
mod options;
pub mod passthrough;
mod property;
mod readers;
mod reclaim;
mod resting;
mod rewrite;
mod root;
mod session;
pub mod stats;
mod successor;
pub mod types;
mod verify;
mod view;
mod volume_stats;

pub use crate::sys::mountinfo;
pub use image_file::path_below as image_below;
pub use live::why_not_outlives;
pub use options::{MountOptions, RmdirPolicy};
pub use session::{MountError, Mounted, UnmountError, why_unfit_numbers};
pub use successor::Inherited;
