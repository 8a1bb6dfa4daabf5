//! The name of a volume, and the rule that it keeps.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a volume: `[A-Za-z0-9][A-Za-z0-9._-]*`, 1 to 255 bytes.
///
/// 255 is `NAME_MAX`; a name is also a directory entry under the mountpoint.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(Box<str>);

/// Why a text is not the name of a volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum InvalidName {
    /// The name has no bytes.
    #[error("a volume name cannot be empty")]
    Empty,
    /// The name has more than [`VolumeName::MAX_BYTES`] bytes.
    #[error("the volume name has {bytes} bytes; the most is 255")]
    TooLong {
        /// Bytes in the refused name.
        bytes: usize,
    },
    /// The first character is not a letter or digit.
    #[error("the volume name {name:?} starts with {found:?}; it must start with a letter or digit")]
    Start {
        /// The refused name.
        name: String,
        /// Its first character.
        found: char,
    },
    /// A later character is outside the set.
    #[error(
        "the volume name {name:?} contains {found:?}; use only letters, digits, '.', '_' and '-'"
    )]
    Character {
        /// The refused name.
        name: String,
        /// The first character that is outside the set.
        found: char,
    },
    /// The name is not UTF-8.
    #[error(
        "the volume name {lossy:?} is not valid UTF-8; use only letters, digits, '.', '_' and '-'"
    )]
    NotUtf8 {
        /// The name with its bad bytes replaced.
        lossy: String,
    },
}

impl VolumeName {
    /// The most bytes that a name may have (`NAME_MAX` of every Linux file system).
    pub const MAX_BYTES: usize = 255;

    /// Checks a name that came from the kernel or the command line as bytes.
    ///
    /// # Errors
    /// [`InvalidName`], which says what is wrong with it.
    pub fn from_os(name: &OsStr) -> Result<Self, InvalidName> {
        match name.to_str() {
            Some(text) => text.parse(),
            None => Err(InvalidName::NotUtf8 {
                lossy: name.to_string_lossy().into_owned(),
            }),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let Some(first) = name.chars().next() else {
            return Err(InvalidName::Empty);
        };
        if name.len() > Self::MAX_BYTES {
            return Err(InvalidName::TooLong { bytes: name.len() });
        }
        if !first.is_ascii_alphanumeric() {
            return Err(InvalidName::Start {
                name: name.to_owned(),
                found: first,
            });
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match name.chars().find(|&c| !allowed(c)) {
            Some(found) => Err(InvalidName::Character {
                name: name.to_owned(),
                found,
            }),
            None => Ok(Self(name.into())),
        }
    }
}

impl TryFrom<String> for VolumeName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        name.parse()
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.0.into()
    }
}

impl AsRef<str> for VolumeName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule() {
        for good in ["a", "0", "A.b_c-d", "cache", "x..", &"n".repeat(255)] {
            assert_eq!(good.parse::<VolumeName>().unwrap().as_str(), good);
        }
        let kind = |name: &str| name.parse::<VolumeName>().unwrap_err();
        assert_eq!(kind(""), InvalidName::Empty);
        assert_eq!(kind(&"n".repeat(256)), InvalidName::TooLong { bytes: 256 });
        for bad in [".", "..", ".volfs", "-rf", "_x", "/"] {
            assert!(matches!(kind(bad), InvalidName::Start { .. }), "{bad}");
        }
        for bad in ["a b", "a/b", "a\0", "aé", "a\n"] {
            assert!(matches!(kind(bad), InvalidName::Character { .. }), "{bad}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf8() {
        use std::os::unix::ffi::OsStrExt;
        let error = VolumeName::from_os(OsStr::from_bytes(b"a\xff")).unwrap_err();
        assert!(matches!(error, InvalidName::NotUtf8 { .. }));
    }
}
