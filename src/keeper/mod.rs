//! Descriptors that outlive the process which uses them.
//!
//! A small parent, the supervisor, starts the process that does the work, keeps
//! what it is given, and gives it to the next one when the first has died. It
//! knows neither volumes nor FUSE: what is kept has a kind and a key, which
//! mean something to the process that gave it.
//!
//! `protocol` is what the two say to each other, `client` the end of the
//! working process, `supervisor` the other.

mod client;
mod protocol;
pub mod supervisor;

pub use client::{Keeper, Kept, Place, let_signals_in};
pub use protocol::{HANDED_OVER, Kind};
