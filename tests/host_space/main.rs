//! What volumes with a limit take of the host, by the host's own figures, on
//! every file system that a store can be made on here.

#[path = "../support/mod.rs"]
mod support;

mod overwritten;
mod places;
mod units;
