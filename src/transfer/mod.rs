//! Whole volumes on their way: copies of them in the same store, and archives.
//!
//! A new volume is built aside ([`Staging`](crate::volume::Staging)) and taken
//! over when it is complete, so that it appears whole or not at all, with
//! exact usage, whoever serves the store. What is read is read from the store
//! itself ([`Source`](crate::volume::Source)).

mod acl;
mod archive;
mod attributes;
mod budget;
mod clone;
mod data;
mod describe;
mod export;
mod filling;
mod import;
mod make;
mod unpack;
mod walk;

pub use clone::{CloneOptions, Cloned, clone};
pub use export::{ExportOptions, Exported, export};
pub use import::{ImportOptions, Imported, import};

/// Who looks on while something long goes on, and may stop it.
pub trait Watch: Sync {
    /// So many bytes more are done; holes count as the bytes that they stand
    /// for.
    fn advanced(&self, bytes: u64);
    /// Whether it is to stop: it ends with
    /// [`Interrupted`](crate::volume::Error::Interrupted), and leaves nothing.
    fn is_stopped(&self) -> bool;
}

/// Nobody looks on.
impl Watch for () {
    fn advanced(&self, _bytes: u64) {}

    fn is_stopped(&self) -> bool {
        false
    }
}
