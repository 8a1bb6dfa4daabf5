//! What every integration test needs: a store and a mount that clean up after
//! themselves, the binary under test as a command, other users, and a look at
//! what is left over. It drives the built binary and does not link the crate.

// Each test binary compiles this module and uses its own part of it.
#![allow(dead_code, unused_imports)]

pub mod busy;
pub mod cli;
pub mod dir;
pub mod facts;
pub mod fuse_device;
pub mod handle;
pub mod map;
pub mod mount;
pub mod own_fs;
pub mod proc;
pub mod random;
pub mod run;
pub mod tree;
pub mod user;
pub mod wait;

pub use cli::{Answer, Volfs};
pub use dir::TestDir;
pub use handle::Handle;
pub use map::ioctl_int;
pub use mount::{Mount, MountBuilder};
pub use own_fs::OwnFs;
pub use run::{install, install_script, output, run, run_in, when_free};
pub use user::{User, as_user};
pub use wait::{poll, wait_for};
