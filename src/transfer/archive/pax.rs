//! Records of extended headers: `LENGTH KEY=VALUE\n` (POSIX.1-2001, pax).

/// Records in their order; a key may stand several times. Kept as they are
/// written, so that none takes more memory than it has bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Records(Vec<u8>);

impl Records {
    pub(super) fn push(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        let (key, value) = (key.as_ref(), value.as_ref());
        // The space, '=' and the line feed; the length counts itself.
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while rest + len.to_string().len() != len {
            len = rest + len.to_string().len();
        }
        let bytes = &mut self.0;
        bytes.extend(len.to_string().bytes());
        bytes.push(b' ');
        bytes.extend(key);
        bytes.push(b'=');
        bytes.extend(value);
        bytes.push(b'\n');
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut left = &*self.0;
        std::iter::from_fn(move || {
            let (key, value, rest) = split(left)?;
            left = rest;
            Some((key, value))
        })
    }

    /// The last value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        self.iter()
            .filter(|(found, _)| *found == key.as_bytes())
            .map(|(_, value)| value)
            .last()
    }

    /// A decimal number.
    pub(super) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, String> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok())
            .map(Some)
            .ok_or_else(|| format!("{key} is {:?}", String::from_utf8_lossy(value)))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads records.
    ///
    /// # Errors
    /// They are none.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let mut left = &*bytes;
        while !left.is_empty() {
            let (_, _, rest) = split(left).ok_or("an extended header is damaged")?;
            left = rest;
        }
        Ok(Self(bytes))
    }
}

/// Key, value, and what comes after the first record.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    // A length has at most 20 digits.
    let space = bytes.iter().take(21).position(|&byte| byte == b' ')?;
    let len: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..len)?;
    let record = record.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &bytes[len..]))
}

/// The name of an attribute in a key: GNU tar writes `%` and `=` in it as
/// `%25` and `%3D`.
pub(super) fn escape(name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'%' => key.extend(b"%25"),
            b'=' => key.extend(b"%3D"),
            byte => key.push(byte),
        }
    }
    key
}

/// The opposite of [`escape`]; what is no code is left as it is.
pub(super) fn unescape(key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(key.len());
    let mut rest = key;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = match tail.get(..2) {
            Some(b"25") if byte == b'%' => Some(b'%'),
            Some(b"3D") if byte == b'%' => Some(b'='),
            _ => None,
        };
        name.push(code.unwrap_or(byte));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    name
}

/// Seconds with a fraction, also before the epoch: `-1.25` is a quarter of a
/// second before the second -1.
pub(super) fn time_to_text((seconds, nanos): (i64, u32)) -> String {
    if nanos == 0 {
        return seconds.to_string();
    }
    // What the kernel has counts up from the second; the text counts from 0.
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let sign = if total < 0 { "-" } else { "" };
    let total = total.unsigned_abs();
    let text = format!(
        "{sign}{}.{:09}",
        total / 1_000_000_000,
        total % 1_000_000_000
    );
    text.trim_end_matches('0').to_owned()
}

/// The opposite of [`time_to_text`]; more than nine decimals are cut.
pub(super) fn time_from_text(text: &str) -> Option<(i64, u32)> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || whole.starts_with(['-', '+']) {
        return None;
    }
    let padded = format!("{:0<9}", &fraction[..fraction.len().min(9)]);
    let nanos: i128 = padded.parse().ok()?;
    let total = i128::from(whole.parse::<i64>().ok()?) * 1_000_000_000 + nanos;
    let total = if negative { -total } else { total };
    let seconds = i64::try_from(total.div_euclid(1_000_000_000)).ok()?;
    // A remainder of division by 10^9 fits.
    let nanos = u32::try_from(total.rem_euclid(1_000_000_000)).ok()?;
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_back(pairs in proptest::collection::vec(
            ("[a-zA-Z.%]{1,20}", proptest::collection::vec(any::<u8>(), 0..1200)), 0..8)
        ) {
            let mut records = Records::default();
            for (key, value) in &pairs {
                records.push(key, value);
            }
            prop_assert_eq!(Records::parse(records.as_bytes().to_vec()), Ok(records));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Records::parse(bytes);
        }

        #[test]
        fn names_come_back(name in proptest::collection::vec(any::<u8>(), 0..50)) {
            let key = escape(&name);
            prop_assert!(!key.contains(&b'='));
            prop_assert_eq!(unescape(&key), name);
        }

        #[test]
        fn times_come_back(seconds in -1_i64 << 40..1_i64 << 40, nanos in 0_u32..1_000_000_000) {
            let text = time_to_text((seconds, nanos));
            prop_assert_eq!(time_from_text(&text), Some((seconds, nanos)));
        }
    }

    #[test]
    fn lengths_that_do_not_fit() {
        for bad in [
            "5 a=b",
            "99 a=b\n",
            "x a=b\n",
            "6 a=b\n9",
            "4 ab\n",
            "18446744073709551615 a=b\n",
        ] {
            assert!(Records::parse(bad.as_bytes().to_vec()).is_err(), "{bad:?}");
        }
        assert_eq!(time_from_text("-0.5"), Some((-1, 500_000_000)));
        assert_eq!(time_to_text((-1, 500_000_000)), "-0.5");
        assert_eq!(time_from_text("1.1234567899"), Some((1, 123_456_789)));
        assert_eq!(time_from_text("1.x"), None);
    }
}
