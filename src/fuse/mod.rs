//! The mounted file system.

mod session;

pub use session::{MountError, MountOptions, Mounted, RmdirPolicy, UnmountError};
