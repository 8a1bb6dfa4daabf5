//! The control socket of a running daemon: what is said on it (`protocol`),
//! the daemon's end (`server`) and the command's end (`client`).
//!
//! Knows volumes. Knows neither FUSE nor the command line: what a daemon can
//! tell about its mount comes through [`Daemon`].

pub mod answering;
pub mod audit;
mod client;
mod protocol;
mod server;
pub mod socket;

pub use client::Client;
pub use protocol::{
    Call, Described, Failure, Feature, MAX_REQUEST_BYTES, NoUpgrade, PROTOCOL, Refusal, Reply,
    Request, Status, UnmountRefused,
};
pub use server::{Daemon, MAX_CONNECTIONS, Server};

/// What a supervisor of serving processes is called, in `ps` and elsewhere.
pub const SUPERVISOR: &str = "volfs-keeper";

/// The name of the socket in the store's directory.
pub const SOCKET_NAME: &str = "control.sock";
