//! tar archives in the POSIX (PAX) format as GNU tar, star and bsdtar read and
//! write it: with holes (GNU sparse format 1.0), extended attributes
//! (`SCHILY.xattr.*`) and ACLs (`SCHILY.acl.*`).
//!
//! Knows nothing of volumes. Headers are those of the `tar` crate; the records
//! of extended headers are read and written here, as that crate splits them at
//! line feeds, which values may hold, and reads headers of any length into
//! memory.

mod pax;
mod read;
mod write;

pub(super) use read::{Broken, Content, Entry, Kind, Reader};
pub(super) use write::{Header, Writer};

/// tar's unit.
const BLOCK: u64 = 512;

/// Bytes from `len` to the end of its last block.
const fn padding(len: u64) -> u64 {
    len.wrapping_neg() % BLOCK
}
