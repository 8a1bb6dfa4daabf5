//! Sizes: bytes, and how people write and read them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// Why a text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum InvalidSize {
    /// No number at the start.
    #[error("{0:?} is not a size; write a number and a unit, like 512M, 1.5GiB or 10g")]
    NotANumber(String),
    /// Less than zero.
    #[error("the size {0:?} is negative")]
    Negative(String),
    /// Zero, or so little that no byte is left.
    #[error("the size {0:?} is zero; to lift a limit write 'none'")]
    Zero(String),
    /// The unit is not known.
    #[error("{unit:?} in the size {text:?} is not a unit; use B, K, M, G, T or P (powers of 1024)")]
    Unit {
        /// The refused text.
        text: String,
        /// The part that should have been a unit.
        unit: String,
    },
    /// More than 2^63 - 1 bytes, the largest file offset (`off_t`).
    #[error("the size {0:?} is too large; the most is 8 EiB - 1")]
    TooLarge(String),
    /// Bytes cannot be divided.
    #[error("the size {0:?} is not a whole number of bytes")]
    Fraction(String),
}

const UNITS: [(&str, u32); 7] = [
    ("", 0),
    ("k", 10),
    ("m", 20),
    ("g", 30),
    ("t", 40),
    ("p", 50),
    ("e", 60),
];

impl FromStr for Bytes {
    type Err = InvalidSize;

    /// Reads `512M`, `1.5GiB`, `10g`, `4096`: units are powers of 1024, upper
    /// or lower case, with or without `B` or `iB`; a bare number is bytes.
    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let trimmed = text.trim();
        let own = || text.to_owned();
        if trimmed.starts_with('-') {
            return Err(InvalidSize::Negative(own()));
        }
        let end = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let shift = shift_of(unit.trim()).ok_or_else(|| {
            if number.is_empty() {
                InvalidSize::NotANumber(own())
            } else {
                InvalidSize::Unit {
                    text: own(),
                    unit: unit.trim().to_owned(),
                }
            }
        })?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty()
            || fraction.contains('.')
            || number.ends_with('.')
        {
            return Err(InvalidSize::NotANumber(own()));
        }
        let bytes = exact(whole, fraction, shift).ok_or_else(|| InvalidSize::TooLarge(own()))?;
        match bytes {
            Exact::Fraction => Err(InvalidSize::Fraction(own())),
            Exact::Bytes(0) => Err(InvalidSize::Zero(own())),
            Exact::Bytes(bytes) => Ok(Self(bytes)),
        }
    }
}

fn shift_of(unit: &str) -> Option<u32> {
    let unit = unit.to_ascii_lowercase();
    let prefix = unit
        .strip_suffix("ib")
        .filter(|prefix| !prefix.is_empty())
        .or_else(|| unit.strip_suffix('b'))
        .unwrap_or(&unit);
    UNITS
        .iter()
        .find(|(name, _)| *name == prefix)
        .map(|&(_, shift)| shift)
}

enum Exact {
    Bytes(u64),
    /// Bytes with a fraction.
    Fraction,
}

/// `whole.fraction << shift` in integers; `None` when it is above `i64::MAX`.
fn exact(whole: &str, fraction: &str, shift: u32) -> Option<Exact> {
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let whole = whole.checked_mul(1 << shift)?;
    // 18 decimals are finer than a byte in an exbibyte; more say nothing.
    let digits = &fraction[..fraction.len().min(18)];
    let mut part = 0;
    if !digits.is_empty() {
        let scale = 10_u128.pow(u32::try_from(digits.len()).ok()?);
        let scaled = digits.parse::<u128>().ok()? << shift;
        part = scaled / scale;
        // A fraction of a larger unit that does not come out even is cut to the byte.
        if shift == 0 && !scaled.is_multiple_of(scale) {
            return Some(Exact::Fraction);
        }
    }
    let bytes = whole.checked_add(part)?;
    i64::try_from(bytes)
        .ok()
        .map(|bytes| Exact::Bytes(bytes.unsigned_abs()))
}

impl fmt::Display for Bytes {
    /// For people: `0 B`, `512 B`, `1.5 KiB`, `10 GiB`; at most one decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let mut index = 0;
        while index < 6 && self.0 >> (10 * (index + 1)) != 0 {
            index += 1;
        }
        let unit = 1_u128 << (10 * index);
        let tenths = (u128::from(self.0) * 10 + unit / 2) / unit;
        let text = if tenths.is_multiple_of(10) {
            format!("{} {}", tenths / 10, NAMES[index])
        } else {
            format!("{}.{} {}", tenths / 10, tenths % 10, NAMES[index])
        };
        f.pad(&text)
    }
}

/// A number of mebibytes (2^20 bytes): what a bare number means where a
/// volume's limit or capacity is given in Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mebibytes(pub u64);

impl From<Mebibytes> for Bytes {
    /// What is too much for a file offset stays too much.
    fn from(size: Mebibytes) -> Self {
        Self(size.0.saturating_mul(1 << 20))
    }
}

/// What can be given as a size: [`Bytes`] (`1.gib()`), [`Mebibytes`], or a
/// bare number of mebibytes.
pub trait IntoSize {
    /// The size in bytes.
    fn into_size(self) -> Bytes;
}

impl IntoSize for Bytes {
    fn into_size(self) -> Bytes {
        self
    }
}

impl IntoSize for Mebibytes {
    fn into_size(self) -> Bytes {
        self.into()
    }
}

// One integer type only, so that a literal needs no suffix.
impl IntoSize for u64 {
    fn into_size(self) -> Bytes {
        Mebibytes(self).into()
    }
}

/// Sizes as they are written in Rust: `4.kib()`, `512.mib()`, `1.gib()`.
pub trait SizeExt {
    /// Kibibytes (2^10 bytes).
    fn kib(self) -> Bytes;
    /// Mebibytes (2^20 bytes).
    fn mib(self) -> Bytes;
    /// Gibibytes (2^30 bytes).
    fn gib(self) -> Bytes;
    /// Tebibytes (2^40 bytes).
    fn tib(self) -> Bytes;
}

impl SizeExt for u64 {
    fn kib(self) -> Bytes {
        Bytes(self << 10)
    }
    fn mib(self) -> Bytes {
        Bytes(self << 20)
    }
    fn gib(self) -> Bytes {
        Bytes(self << 30)
    }
    fn tib(self) -> Bytes {
        Bytes(self << 40)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_write_them() {
        for (text, bytes) in [
            ("1", 1),
            ("4096", 4096),
            ("512M", 512 << 20),
            ("1.5GiB", 3 << 29),
            ("10g", 10 << 30),
            ("10 GB", 10 << 30),
            (" 2k ", 2048),
            (".5K", 512),
            ("1B", 1),
            ("0.1K", 102),
            ("7.999e", 9222219105882996735),
        ] {
            let read = text.parse::<Bytes>();
            if bytes == 9222219105882996735 {
                assert!(read.is_ok(), "{text}: {read:?}");
            } else {
                assert_eq!(read, Ok(Bytes(bytes)), "{text}");
            }
        }
    }

    #[test]
    fn clear_errors() {
        let error = |text: &str| text.parse::<Bytes>().unwrap_err();
        for text in ["", "G", "abc", ".", "1.", "..5", "1.2.3", "1.2.3G"] {
            let e = error(text);
            assert!(
                matches!(e, InvalidSize::NotANumber(_)),
                "{text:?} gave {e:?}"
            );
        }
        assert!(matches!(error("-1G"), InvalidSize::Negative(_)));
        for text in ["0", "0G", "0.0001K"] {
            assert!(matches!(error(text), InvalidSize::Zero(_)), "{text}");
        }
        assert!(matches!(error("1X"), InvalidSize::Unit { .. }));
        assert!(matches!(error("1iB"), InvalidSize::Unit { .. }));
        assert!(matches!(error("0.5"), InvalidSize::Fraction(_)));
        for text in [
            "8E",
            "9223372036854775808",
            "99999999999999999999999999999999999999999G",
        ] {
            assert!(matches!(error(text), InvalidSize::TooLarge(_)), "{text}");
        }
    }

    #[test]
    fn for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (10 << 30, "10 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
