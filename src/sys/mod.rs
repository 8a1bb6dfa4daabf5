//! Safe wrappers of the system calls that the standard library and `nix` do
//! not offer. The only place with `unsafe` code; knows nothing of volumes.

pub mod acl;
pub mod allocation;
pub mod apart;
pub mod backing;
pub mod clone;
pub mod confine;
pub mod cpu_latency;
pub mod creds;
pub mod descent;
pub mod dir;
pub mod ext4;
pub mod file_flags;
pub mod filesystem;
pub mod halted;
pub mod handle;
pub mod idle;
pub mod lease;
pub mod loopdev;
pub mod memory;
pub mod mount;
pub mod mount_ns;
pub mod mountinfo;
pub mod named_file;
pub mod node;
pub mod null;
pub mod pages;
pub mod process;
pub mod procfs;
pub mod shared;
pub mod sqlite;
pub mod user_ns;
pub mod xattr;

use nix::errno::Errno;

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Errno>;

/// `Err(errno)` when a system call returned -1.
fn check<T: Copy + PartialEq + From<i8>>(value: T) -> Result<T> {
    if value == T::from(-1) {
        Err(Errno::last())
    } else {
        Ok(value)
    }
}
