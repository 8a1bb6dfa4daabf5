//! How long something is kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Age, InvalidAge, Timestamp};

/// How long something is kept; written `30d`, or `none` for as long as nobody
/// deletes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Retention {
    /// Until somebody deletes it.
    #[default]
    Forever,
    /// So long.
    For(Age),
}

impl Retention {
    /// Whether what has been there since `since` is to go.
    #[must_use]
    pub fn is_over(self, since: Timestamp, now: Timestamp) -> bool {
        match self {
            Self::Forever => false,
            Self::For(age) => age.has_passed(since, now),
        }
    }
}

impl FromStr for Retention {
    type Err = InvalidAge;

    fn from_str(text: &str) -> Result<Self, InvalidAge> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self::Forever);
        }
        text.parse().map(Self::For)
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.pad("none"),
            Self::For(age) => age.fmt(f),
        }
    }
}

impl TryFrom<String> for Retention {
    type Error = InvalidAge;

    fn try_from(text: String) -> Result<Self, InvalidAge> {
        text.parse()
    }
}

impl From<Retention> for String {
    fn from(retention: Retention) -> Self {
        retention.to_string()
    }
}
