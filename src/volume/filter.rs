//! Which volumes are meant: `kind=disk`, `name=build-*`, `label=team=ci`,
//! `used>90%`, `in-use`. One language for every command that takes filters.

use std::str::FromStr;

use globset::{GlobBuilder, GlobMatcher};

use super::api::{VolumeInfo, Volumes};
use super::error::Result;
use crate::model::{Age, Bytes, Kind, Timestamp};

/// One condition on a volume.
#[derive(Clone, Debug)]
pub struct Filter(Test);

#[derive(Clone, Debug)]
enum Test {
    /// The label is there, with this value when one is named.
    Label(String, Option<String>),
    Kind(Kind),
    Name(GlobMatcher),
    Used(Order, Amount),
    InUse(bool),
    Pinned(bool),
    ReadOnly(bool),
    /// Made at least so long before the point in time.
    Older(Age, Timestamp),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Less,
    AtMost,
    AtLeast,
    More,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Amount {
    /// Of the limit or capacity; a volume without one never matches.
    Percent(u64),
    Bytes(u64),
}

/// Why a text is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// None of the conditions that there are.
    #[error(
        "{0:?} is not a filter; write label=KEY, label=KEY=VALUE, kind=directory, kind=disk, name=GLOB, used>90%, used<1G, in-use, unused, pinned, unpinned, read-only or writable"
    )]
    Unknown(String),
    /// A label without a key.
    #[error("the filter {0:?} names no label; write label=KEY or label=KEY=VALUE")]
    Label(String),
    /// Not a kind of volume.
    #[error("the filter {0:?} names no kind of volume; write kind=directory or kind=disk")]
    Kind(String),
    /// Not a pattern of the shell.
    #[error("the filter {filter:?} has no pattern as a shell has it: {why}")]
    Name {
        /// The refused text.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not an amount.
    #[error(
        "the filter {0:?} compares with no amount; write a share of the limit or a size, like used>90%, used>=1.5G or used<512M"
    )]
    Used(String),
}

impl Filter {
    /// Volumes that were made at least `age` before `now`.
    #[must_use]
    pub const fn older_than(age: Age, now: Timestamp) -> Self {
        Self(Test::Older(age, now))
    }

    /// Whether the volume shall be in use, if the condition is about that.
    const fn in_use(&self) -> Option<bool> {
        match self.0 {
            Test::InUse(wanted) => Some(wanted),
            _ => None,
        }
    }

    /// What the volume's own metadata say; `None` when it needs to be known
    /// who uses it.
    fn by_metadata(&self, info: &VolumeInfo) -> Option<bool> {
        Some(match &self.0 {
            Test::Label(key, value) => match (info.labels.get(key), value) {
                (Some(found), Some(wanted)) => found == wanted,
                (found, _) => found.is_some(),
            },
            Test::Kind(kind) => info.kind == *kind,
            Test::Name(glob) => glob.is_match(info.name.as_str()),
            Test::Used(order, amount) => amount
                .of(info)
                .is_some_and(|(used, amount)| order.holds(used, amount)),
            Test::Pinned(pinned) => info.pinned == *pinned,
            Test::ReadOnly(read_only) => info.read_only == *read_only,
            Test::Older(age, now) => age.has_passed(info.created, *now),
            Test::InUse(_) => return None,
        })
    }
}

impl Amount {
    /// What the volume uses and what that is compared with, in one unit.
    fn of(self, info: &VolumeInfo) -> Option<(u128, u128)> {
        let used = u128::from(info.used.bytes.0);
        match self {
            Self::Bytes(bytes) => Some((used, u128::from(bytes))),
            Self::Percent(percent) => {
                let limit = info.capacity()?;
                Some((used * 100, u128::from(limit.0) * u128::from(percent)))
            }
        }
    }
}

impl Order {
    fn holds(self, used: u128, amount: u128) -> bool {
        match self {
            Self::Less => used < amount,
            Self::AtMost => used <= amount,
            Self::AtLeast => used >= amount,
            Self::More => used > amount,
        }
    }
}

impl FromStr for Filter {
    type Err = InvalidFilter;

    fn from_str(text: &str) -> std::result::Result<Self, InvalidFilter> {
        let text = text.trim();
        let own = || text.to_owned();
        let test = match text {
            "in-use" => Test::InUse(true),
            "unused" => Test::InUse(false),
            "pinned" => Test::Pinned(true),
            "unpinned" => Test::Pinned(false),
            "read-only" => Test::ReadOnly(true),
            "writable" => Test::ReadOnly(false),
            _ => match text.split_once('=') {
                Some(("label", label)) => {
                    let (key, value) = match label.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (label, None),
                    };
                    if key.is_empty() {
                        return Err(InvalidFilter::Label(own()));
                    }
                    Test::Label(key.to_owned(), value)
                }
                Some(("kind", kind)) => {
                    Test::Kind(kind.parse().map_err(|_| InvalidFilter::Kind(own()))?)
                }
                Some(("name", glob)) => Test::Name(pattern(text, glob)?),
                _ => {
                    let rest = text
                        .strip_prefix("used")
                        .ok_or_else(|| InvalidFilter::Unknown(own()))?;
                    let (order, amount) =
                        comparison(rest).ok_or_else(|| InvalidFilter::Used(own()))?;
                    Test::Used(order, amount)
                }
            },
        };
        Ok(Self(test))
    }
}

fn pattern(filter: &str, glob: &str) -> std::result::Result<GlobMatcher, InvalidFilter> {
    let invalid = |why: String| InvalidFilter::Name {
        filter: filter.to_owned(),
        why,
    };
    if glob.is_empty() {
        return Err(invalid("it is empty".to_owned()));
    }
    GlobBuilder::new(glob)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| invalid(error.kind().to_string()))
}

/// Reads `>90%`, `>=1.5G`, `<512M`.
fn comparison(text: &str) -> Option<(Order, Amount)> {
    let text = text.trim_start();
    let (order, rest) = [
        ("<=", Order::AtMost),
        (">=", Order::AtLeast),
        ("<", Order::Less),
        (">", Order::More),
    ]
    .iter()
    .find_map(|(sign, order)| Some((*order, text.strip_prefix(sign)?.trim())))?;
    let amount = match rest.strip_suffix('%') {
        Some(percent) => Amount::Percent(percent.trim_end().parse().ok()?),
        // A size is never zero, what is used may be.
        None if rest == "0" => Amount::Bytes(0),
        None => Amount::Bytes(rest.parse::<Bytes>().ok()?.0),
    };
    Some((order, amount))
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default)]
pub struct Filters(Vec<Filter>);

impl Filters {
    /// These, all of which must hold; none lets every volume through.
    #[must_use]
    pub const fn new(filters: Vec<Filter>) -> Self {
        Self(filters)
    }

    /// Whether every volume gets through.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The volumes for which all conditions hold, newest first. Who uses a
    /// volume is looked for last, and only where it matters: it costs a walk
    /// over all processes.
    ///
    /// # Errors
    /// Those of [`Volumes::list`] and [`Volumes::all_holders`].
    pub fn select(&self, volumes: &dyn Volumes) -> Result<Vec<VolumeInfo>> {
        let mut selected = volumes.list()?;
        selected.retain(|info| self.holds_by_metadata(info));
        let in_use: Vec<bool> = self.0.iter().filter_map(Filter::in_use).collect();
        if !in_use.is_empty() && !selected.is_empty() {
            let used = volumes.all_holders()?;
            selected.retain(|info| {
                let is_used = used.contains_key(&info.name);
                in_use.iter().all(|&wanted| wanted == is_used)
            });
        }
        Ok(selected)
    }

    fn holds_by_metadata(&self, info: &VolumeInfo) -> bool {
        let mut conditions = self.0.iter().map(|filter| filter.by_metadata(info));
        conditions.all(|holds| holds != Some(false))
    }
}

#[cfg(test)]
mod tests;
