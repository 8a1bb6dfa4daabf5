//! Spans of time, as people write and read them: `30d`, `12h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// How long something has been, or is to be kept; in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Age(u64);

/// A text that is not an [`Age`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{0:?} is not a time span; write a whole number and a unit, like 45s, 90m, 12h, 30d or 2w")]
pub struct InvalidAge(String);

/// Largest first; a bare number would be anybody's guess, so that every span
/// has a unit.
const UNITS: [(&str, u64); 5] = [
    ("w", 7 * 86_400),
    ("d", 86_400),
    ("h", 3_600),
    ("m", 60),
    ("s", 1),
];

impl Age {
    /// So many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds)
    }

    /// In seconds.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }

    /// As the standard library has it.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// Whether `then` is at least this long before `now`. What is in the
    /// future, because a clock was set back, is not.
    #[must_use]
    pub fn has_passed(self, then: Timestamp, now: Timestamp) -> bool {
        let passed = i128::from(now.as_nanos()) - i128::from(then.as_nanos());
        passed >= i128::from(self.0) * 1_000_000_000
    }
}

impl FromStr for Age {
    type Err = InvalidAge;

    fn from_str(text: &str) -> Result<Self, InvalidAge> {
        let invalid = || InvalidAge(text.to_owned());
        let trimmed = text.trim();
        let end = trimmed
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(invalid)?;
        let (number, unit) = trimmed.split_at(end);
        let unit = unit.trim();
        let (_, seconds) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(invalid)?;
        let number: u64 = number.parse().map_err(|_| invalid())?;
        number.checked_mul(*seconds).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for Age {
    /// In the largest unit that it is a whole number of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, seconds) = UNITS
            .iter()
            .find(|(_, seconds)| self.0 >= *seconds && self.0.is_multiple_of(*seconds))
            .unwrap_or(&("s", 1));
        f.pad(&format!("{}{unit}", self.0 / seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_write_them() {
        for (text, seconds, again) in [
            ("45s", 45, "45s"),
            ("90m", 5400, "90m"),
            (" 12h ", 43_200, "12h"),
            ("24h", 86_400, "1d"),
            ("30d", 2_592_000, "30d"),
            ("2w", 1_209_600, "2w"),
            ("0s", 0, "0s"),
        ] {
            let age: Age = text.parse().unwrap();
            assert_eq!(age, Age::from_secs(seconds), "{text}");
            assert_eq!(age.to_string(), again);
        }
        for bad in [
            "",
            "30",
            "d",
            "-1d",
            "1.5d",
            "1y",
            "30 D",
            "99999999999999999999d",
        ] {
            assert!(bad.parse::<Age>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_old() {
        let at = |seconds: i64| Timestamp::from_nanos(seconds * 1_000_000_000);
        let hour = Age::from_secs(3600);
        assert!(hour.has_passed(at(0), at(3600)));
        assert!(!hour.has_passed(at(1), at(3600)));
        assert!(!hour.has_passed(at(9000), at(0)));
        assert!(!Age::from_secs(u64::MAX).has_passed(at(0), at(9000)));
    }
}
