//! Why there is no room: which limit, and how much of it is taken.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Bytes;

/// What a limit is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Charged bytes.
    Bytes,
    /// Inodes.
    Inodes,
    /// Volumes of a user.
    Volumes,
}

/// Why a reservation was refused (ENOSPC for whoever asked).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverLimit {
    /// The limit that would have been exceeded, bytes before inodes.
    pub resource: Resource,
    /// The limit.
    pub limit: u64,
    /// Used and reserved at that moment.
    pub taken: u64,
    /// What was asked for on top.
    pub asked: u64,
    /// Whose limit it is, if it is one on all volumes of a user.
    pub user: Option<u32>,
}

impl fmt::Display for OverLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let amount = |number: u64| match self.resource {
            Resource::Bytes => Bytes(number).to_string(),
            Resource::Inodes => format!("{number} inodes"),
            Resource::Volumes => format!("{number} volumes"),
        };
        match self.user {
            None => write!(f, "the quota of {} is reached", amount(self.limit))?,
            Some(user) => write!(
                f,
                "the limit of {} on all volumes of user {user} is reached",
                amount(self.limit)
            )?,
        }
        let plain = |number: u64| match self.resource {
            Resource::Bytes => Bytes(number).to_string(),
            Resource::Inodes | Resource::Volumes => number.to_string(),
        };
        let (taken, asked) = (plain(self.taken), plain(self.asked));
        write!(f, ": {taken} in use, {asked} more asked for")
    }
}

impl std::error::Error for OverLimit {}
