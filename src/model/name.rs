//! The name of a volume, the rules that it keeps, and how shells write it.

use std::ffi::OsStr;
use std::fmt::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::is_plain;

/// The name of a volume: UTF-8 of 1 to 255 bytes that begins with neither `.`
/// nor `-`, begins and ends with no space, and holds neither `/` nor a
/// character that is not [plain](is_plain).
///
/// 255 is `NAME_MAX`; a name is also a directory entry under the mountpoint.
/// Two names are the same when their bytes are: nothing is normalised. Which of
/// these names a store gives to volumes is its [`NameRule`].
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
    /// No name begins so.
    #[error("the volume name {name:?} starts with {found:?}; it must start with a letter or digit")]
    Start {
        /// The refused name.
        name: String,
        /// Its first character.
        found: char,
    },
    /// Nobody would see the space.
    #[error("the volume name {name:?} starts or ends with a space; leave that out")]
    OuterSpace {
        /// The refused name.
        name: String,
    },
    /// No name has this character.
    #[error(
        "the volume name {name:?} contains {found:?}; names take no '/', control characters, line breaks or controls of the direction of text"
    )]
    Character {
        /// The refused name.
        name: String,
        /// The first such character.
        found: char,
    },
    /// The store takes portable names only.
    #[error(
        "the volume name {name:?} contains {found:?}; this store takes letters, digits, '.', '_' and '-', and a letter or digit first; 'volfs config names any' lets it take other names"
    )]
    NotPortable {
        /// The refused name.
        name: String,
        /// The first character that makes it so.
        found: char,
    },
    /// The name is not UTF-8.
    #[error("the volume name {lossy:?} is not valid UTF-8; write it in UTF-8")]
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

    /// The name as a word of a command line in bash, zsh and fish: what a shell
    /// would not take as it is has a backslash before it, as completion writes
    /// it.
    #[must_use]
    pub fn as_shell_word(&self) -> ShellWord<'_> {
        ShellWord(&self.0)
    }
}

/// A text as a word of a command line; see [`VolumeName::as_shell_word`]. What
/// is not [plain](is_plain) has no such form and stays as it is.
#[derive(Clone, Copy, Debug)]
pub struct ShellWord<'a>(pub &'a str);

impl fmt::Display for ShellWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            let is_plain = !c.is_ascii() || c.is_ascii_alphanumeric() || "._-+,@:=/".contains(c);
            if !is_plain {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        Ok(())
    }
}

/// Which names a store gives to volumes.
///
/// A name that a volume has already is good whatever the rule is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameRule {
    /// `[A-Za-z0-9][A-Za-z0-9._-]*`: names that every program takes.
    #[default]
    Portable,
    /// All that a [`VolumeName`] can be: what people type.
    Any,
}

impl NameRule {
    /// Whether a volume may get this name.
    ///
    /// # Errors
    /// [`InvalidName::NotPortable`].
    pub fn check(self, name: &VolumeName) -> Result<(), InvalidName> {
        match (self, name.first_not_portable()) {
            (Self::Portable, Some(found)) => Err(InvalidName::NotPortable {
                name: name.as_str().to_owned(),
                found,
            }),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Portable => "portable",
            Self::Any => "any",
        })
    }
}

impl FromStr for NameRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "portable" => Ok(Self::Portable),
            "any" => Ok(Self::Any),
            _ => Err(format!(
                "{text:?} is not a rule for names; it is 'portable' (letters, digits, '.', '_' and '-') or 'any' (also spaces and other characters)"
            )),
        }
    }
}

impl VolumeName {
    /// The first character that is outside the portable set; `None` when the
    /// name is portable.
    #[must_use]
    pub fn first_not_portable(&self) -> Option<char> {
        let later = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let first = self.0.chars().next();
        first
            .filter(|c| !c.is_ascii_alphanumeric())
            .or_else(|| self.0.chars().find(|&c| !later(c)))
    }
}

impl FromStr for VolumeName {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, InvalidName> {
        let own = || name.to_owned();
        let Some(first) = name.chars().next() else {
            return Err(InvalidName::Empty);
        };
        if name.len() > Self::MAX_BYTES {
            return Err(InvalidName::TooLong { bytes: name.len() });
        }
        if matches!(first, '.' | '-' | '/') {
            return Err(InvalidName::Start {
                name: own(),
                found: first,
            });
        }
        if let Some(found) = name.chars().find(|&c| c == '/' || !is_plain(c)) {
            return Err(InvalidName::Character { name: own(), found });
        }
        if first.is_whitespace() || name.ends_with(char::is_whitespace) {
            return Err(InvalidName::OuterSpace { name: own() });
        }
        Ok(Self(name.into()))
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

    fn refusal(name: &str) -> InvalidName {
        name.parse::<VolumeName>().unwrap_err()
    }

    fn name(text: &str) -> VolumeName {
        text.parse().unwrap()
    }

    #[test]
    fn what_people_type_is_a_name() {
        let longest = "ü".repeat(127) + "n";
        for good in [
            "a",
            "New Folder",
            "Entwürfe (2)",
            "日本",
            "_x",
            "a\"b\\c'd$e`f*",
            "👩\u{200d}🔧",
            "e\u{301}",
            &longest,
        ] {
            assert_eq!(name(good).as_str(), good);
        }
        // The same letter, twice: nothing is normalised.
        assert_ne!(name("\u{e9}"), name("e\u{301}"));
    }

    #[test]
    fn what_no_name_has() {
        assert_eq!(refusal(""), InvalidName::Empty);
        let bytes = "ü".repeat(128);
        assert_eq!(refusal(&bytes), InvalidName::TooLong { bytes: 256 });
        for bad in [".", "..", ".volfs", ".Trash-1000", "-rf", "/"] {
            assert!(matches!(refusal(bad), InvalidName::Start { .. }), "{bad}");
        }
        for bad in [
            "a/b",
            "a\0",
            "a\n",
            "a\tb",
            "a\u{1b}[2J",
            "a\u{9b}",
            "a\u{202e}b",
            "a\u{2028}",
        ] {
            assert!(
                matches!(refusal(bad), InvalidName::Character { .. }),
                "{bad:?}"
            );
        }
        for bad in [" ", " a", "a ", "a\u{a0}", "\u{3000}a"] {
            assert!(
                matches!(refusal(bad), InvalidName::OuterSpace { .. }),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn the_portable_rule() {
        let check = |text: &str| NameRule::Portable.check(&name(text));
        for good in ["a", "0", "A.b_c-d", "cache", "x..", &"n".repeat(255)] {
            assert_eq!(check(good), Ok(()));
        }
        for (bad, character) in [
            ("_x", '_'),
            ("a b", ' '),
            ("aé", 'é'),
            ("a:b", ':'),
            ("日", '日'),
        ] {
            assert_eq!(NameRule::Any.check(&name(bad)), Ok(()));
            let refused = check(bad).unwrap_err();
            assert!(
                matches!(refused, InvalidName::NotPortable { found, .. } if found == character),
                "{bad}"
            );
            assert!(refused.to_string().contains("volfs config names any"));
        }
        for rule in [NameRule::Portable, NameRule::Any] {
            assert_eq!(rule.to_string().parse(), Ok(rule));
        }
    }

    #[test]
    fn every_shell_reads_back_the_word() {
        let all: String = (' '..='~').filter(|&c| c != '/').collect();
        for text in ["cache", "New Folder", "Entwürfe", &format!("a{all}z")] {
            let word = name(text).as_shell_word().to_string();
            let script = format!("printf %s {word}");
            for shell in ["sh", "bash"] {
                let out = std::process::Command::new(shell)
                    .args(["-c", &script])
                    .output()
                    .unwrap();
                assert_eq!(String::from_utf8(out.stdout).unwrap(), text, "{shell}");
            }
        }
        assert_eq!(name("a-b_c.d").as_shell_word().to_string(), "a-b_c.d");
    }

    #[test]
    fn bytes_that_are_not_utf8() {
        use std::os::unix::ffi::OsStrExt;
        let error = VolumeName::from_os(OsStr::from_bytes(b"a\xff")).unwrap_err();
        assert!(matches!(error, InvalidName::NotUtf8 { .. }));
    }
}
