//! What is said on the control socket: one JSON value per line each way.
//!
//! A request is `{"protocol":1,"call":{"method":"get","name":"cache"}}`, a
//! reply `{"ok":VALUE}` or `{"error":{"code":…,"detail":…,"message":…}}`.
//! Pure data; knows nothing of sockets.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{Timestamp, VolumeName, VolumeSpec};
use crate::volume::{self, Change, CheckHow, Hold, Holder, Removal, Setting, Staged};

/// The version of the protocol. It grows when a call changes its meaning; a
/// new call alone does not change it.
pub const PROTOCOL: u32 = 1;

/// The longest request line, its newline included: 1 MiB.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;

/// A request line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The version that the caller speaks.
    pub protocol: u32,
    /// What is asked for.
    pub call: Call,
}

/// Everything that can be asked of a daemon: each method of
/// [`Volumes`](volume::Volumes), and what concerns its mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Call {
    /// [`Volumes::create`](volume::Volumes::create); replies with the volume.
    Create {
        /// The volume as it shall be.
        spec: Box<VolumeSpec>,
    },
    /// [`Volumes::get`](volume::Volumes::get); replies with the volume.
    Get {
        /// Its name.
        name: VolumeName,
    },
    /// [`Volumes::list`](volume::Volumes::list); replies with an array.
    List,
    /// [`Volumes::rename`](volume::Volumes::rename); replies with the volume.
    Rename {
        /// The name now.
        from: VolumeName,
        /// The name to be.
        to: VolumeName,
    },
    /// [`Volumes::remove`](volume::Volumes::remove); replies with null.
    Remove {
        /// Its name.
        name: VolumeName,
        /// How it is removed.
        how: Removal,
    },
    /// [`Volumes::change`](volume::Volumes::change); replies with the volume.
    Change {
        /// Its name.
        name: VolumeName,
        /// What to change.
        change: Change,
    },
    /// [`Volumes::check`](volume::Volumes::check); replies with what was found.
    Check {
        /// Its name.
        name: VolumeName,
        /// How it is checked.
        how: CheckHow,
    },
    /// [`Volumes::holders`](volume::Volumes::holders); replies with an array.
    Holders {
        /// Its name.
        name: VolumeName,
    },
    /// [`Volumes::all_holders`](volume::Volumes::all_holders); replies with an
    /// object of arrays.
    AllHolders,
    /// [`Volumes::events`](volume::Volumes::events); replies with an array.
    Events,
    /// [`Volumes::verify`](volume::Volumes::verify); replies with
    /// [`Verified`](volume::Verified).
    Verify {
        /// Its name.
        name: VolumeName,
        /// Set the account to what was found.
        repair: bool,
    },
    /// [`Volumes::trash`](volume::Volumes::trash); replies with an array.
    Trash,
    /// [`Volumes::restore`](volume::Volumes::restore); replies with the volume.
    Restore {
        /// A name or an id.
        which: String,
        /// The name to be, when the old one is taken.
        new_name: Option<VolumeName>,
    },
    /// [`Volumes::empty_trash`](volume::Volumes::empty_trash); replies with a number.
    EmptyTrash {
        /// A name or an id; everything when absent.
        which: Option<String>,
    },
    /// [`Volumes::purges`](volume::Volumes::purges); replies with an array.
    Purges,
    /// [`Volumes::settings`](volume::Volumes::settings); replies with an object.
    Settings,
    /// [`Volumes::set`](volume::Volumes::set); replies with all settings.
    Set {
        /// What to set.
        setting: Setting,
    },
    /// [`Volumes::adopt`](volume::Volumes::adopt); replies with the volume.
    Adopt {
        /// What was built in the store.
        staged: Box<Staged>,
    },
    /// [`Volumes::detach`](volume::Volumes::detach); replies with an array.
    Detach {
        /// The volume's name.
        name: VolumeName,
    },
    /// What the daemon is; replies with [`Status`].
    Status,
    /// Unmount and end the daemon; replies with null once it is unmounted.
    Unmount {
        /// Detach at once and let who uses the mount finish.
        lazy: bool,
    },
    /// Figures of the running daemon; replies with an object.
    Stats,
}

impl Call {
    /// Whether it changes nothing, so that it can be made twice.
    #[must_use]
    pub const fn only_looks(&self) -> bool {
        matches!(
            self,
            Self::Get { .. }
                | Self::List
                | Self::Holders { .. }
                | Self::AllHolders
                | Self::Events
                | Self::Trash
                | Self::Purges
                | Self::Settings
                | Self::Status
                | Self::Stats
        )
    }

    /// Whether it changes something that a record of changes should have.
    #[must_use]
    pub const fn changes(&self) -> bool {
        match self {
            Self::Verify { repair, .. } => *repair,
            Self::Check { how, .. } => !matches!(how, CheckHow::Look),
            _ => !self.only_looks(),
        }
    }
}

/// What a daemon says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The process id, in its own pid namespace, of the process that signals
    /// are for: its supervisor's, if it has one.
    pub pid: u32,
    /// The version of volfs that it runs.
    pub version: String,
    /// The protocol that it speaks.
    pub protocol: u32,
    /// The store that it serves.
    pub store: PathBuf,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Since when.
    pub since: Timestamp,
    /// Its mount options as `-o` takes them.
    pub options: Vec<String>,
    /// What it found the kernel and the store's file system able to do.
    pub features: Vec<Feature>,
    /// The last upgrade that was not made, of those since the last that was.
    #[serde(default)]
    pub no_upgrade: Option<NoUpgrade>,
}

/// An upgrade that was not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoUpgrade {
    /// How many were not, this one included.
    pub count: u64,
    /// Why.
    pub why: String,
}

/// Something that is used where it can be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Whether it is in use.
    pub on: bool,
    /// Why it is or is not.
    pub why: String,
}

/// Why a daemon did not unmount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "code", content = "detail", rename_all = "kebab-case")]
pub enum UnmountRefused {
    /// Somebody uses the mount.
    #[error("{mountpoint:?} is in use by {}; {}, or use --lazy", holders_text(.holders), advice(.holders))]
    MountBusy {
        /// The mountpoint.
        mountpoint: PathBuf,
        /// Who uses it, as far as it can be seen.
        holders: Vec<Holder>,
    },
    /// The system refused.
    #[error("cannot unmount {mountpoint:?}: {why}")]
    UnmountFailed {
        /// The mountpoint.
        mountpoint: PathBuf,
        /// What the system said.
        why: String,
    },
}

fn advice(holders: &[Holder]) -> &'static str {
    let inside = |holder: &&Holder| holder.how == Hold::MountInside;
    match holders.iter().filter(inside).count() {
        0 => "end that first",
        all if all == holders.len() => "unmount that first",
        _ => "end and unmount that first",
    }
}

fn holders_text(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return "a process that cannot be seen from here".to_owned();
    }
    let text: Vec<String> = holders.iter().map(ToString::to_string).collect();
    text.join("; ")
}

/// Why a request was not even looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "code", content = "detail", rename_all = "kebab-case")]
pub enum Refusal {
    /// Another version of the protocol.
    #[error(
        "it is volfs {version} and speaks control protocol {daemon}, not {asked}; mount again with this version of volfs, or use the command of that version"
    )]
    ProtocolVersion {
        /// The daemon's version of volfs.
        version: String,
        /// The daemon's protocol.
        daemon: u32,
        /// The protocol of the request.
        asked: u64,
    },
    /// Not a request, or a call that this daemon does not have.
    #[error("it does not understand the request: {why}")]
    BadRequest {
        /// What is wrong with it.
        why: String,
    },
    /// The line did not end.
    #[error("the request is longer than {limit} bytes")]
    TooLong {
        /// [`MAX_REQUEST_BYTES`].
        limit: usize,
    },
    /// The line did not come in time.
    #[error("the request was not complete within {seconds} seconds")]
    TooSlow {
        /// How long the daemon waited.
        seconds: u64,
    },
    /// Neither root nor the daemon's own user.
    #[error("user id {uid} may not control it; only root and the user who mounted the store may")]
    Forbidden {
        /// The caller.
        uid: u32,
    },
    /// The daemon takes no more requests.
    #[error("it is ending")]
    Ending,
    /// Too many connections at once.
    #[error("it already serves {connections} connections; try again")]
    TooManyConnections {
        /// Connections open now.
        connections: usize,
    },
    /// The reply cannot be written as JSON (a path that is not UTF-8).
    #[error("its reply cannot be written as JSON: {why}")]
    BadReply {
        /// What JSON cannot hold.
        why: String,
    },
}

/// Every `error` that a reply can hold; their codes differ.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Failure {
    /// What was asked of a volume was not done.
    #[error(transparent)]
    Volume(#[from] volume::Error),
    /// The daemon did not unmount.
    #[error(transparent)]
    Unmount(#[from] UnmountRefused),
    /// The request was not looked at.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// An error with the sentence that people read, for programs in other languages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Described<E> {
    /// The error: `code` and `detail`.
    #[serde(flatten)]
    pub error: E,
    /// The same in words.
    pub message: String,
}

impl<E: std::fmt::Display> From<E> for Described<E> {
    fn from(error: E) -> Self {
        let message = error.to_string();
        Self { error, message }
    }
}

/// A reply line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply<T> {
    /// The value that the call has.
    Ok(T),
    /// Why there is none.
    Error(Described<Failure>),
}

impl Request {
    /// A request in the current version.
    #[must_use]
    pub const fn new(call: Call) -> Self {
        Self {
            protocol: PROTOCOL,
            call,
        }
    }

    /// Reads a request line. The version is looked at before the call: a later
    /// version may have calls that this one cannot read.
    ///
    /// # Errors
    /// [`Refusal::ProtocolVersion`] or [`Refusal::BadRequest`].
    pub fn parse(line: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Envelope {
            protocol: u64,
            call: serde_json::Value,
        }
        let bad = |error: serde_json::Error| Refusal::BadRequest {
            why: error.to_string(),
        };
        let envelope: Envelope = serde_json::from_slice(line).map_err(bad)?;
        if envelope.protocol != u64::from(PROTOCOL) {
            return Err(Refusal::ProtocolVersion {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                daemon: PROTOCOL,
                asked: envelope.protocol,
            });
        }
        let call = serde_json::from_value(envelope.call).map_err(bad)?;
        Ok(Self::new(call))
    }
}

#[cfg(test)]
mod tests;
