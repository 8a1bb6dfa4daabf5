//! What a case has seen, in words that can be compared: results, errnos,
//! attributes and contents, without anything that differs between two
//! directories of one machine (inode numbers, devices, absolute times).

use std::os::fd::OwnedFd;

use rustix::io::Errno;

/// The observations of one case, in order.
#[derive(Default)]
pub struct Trace {
    /// Label and observation.
    pub lines: Vec<(String, String)>,
}

impl Trace {
    /// Notes an observation.
    pub fn note(&mut self, label: impl AsRef<str>, seen: impl Seen) {
        self.lines.push((label.as_ref().to_owned(), seen.seen()));
    }

    /// Notes an observation and gives the value to go on with.
    pub fn get<T>(&mut self, label: impl AsRef<str>, result: Result<T, Errno>) -> Option<T>
    where
        for<'a> &'a T: Seen,
    {
        let text = match &result {
            Ok(value) => value.seen(),
            Err(errno) => errno.seen(),
        };
        self.lines.push((label.as_ref().to_owned(), text));
        result.ok()
    }
}

/// Something that a case can observe.
pub trait Seen {
    /// The observation in words.
    fn seen(&self) -> String;
}

impl<T: Seen + ?Sized> Seen for &T {
    fn seen(&self) -> String {
        (**self).seen()
    }
}

impl Seen for Errno {
    fn seen(&self) -> String {
        format!("{:?}", nix::errno::Errno::from_raw(self.raw_os_error()))
    }
}

impl Seen for nix::errno::Errno {
    fn seen(&self) -> String {
        format!("{self:?}")
    }
}

impl Seen for std::io::Error {
    fn seen(&self) -> String {
        match self.raw_os_error() {
            Some(raw) => nix::errno::Errno::from_raw(raw).seen(),
            None => self.to_string(),
        }
    }
}

impl<T: Seen, E: Seen> Seen for Result<T, E> {
    fn seen(&self) -> String {
        match self {
            Ok(value) => value.seen(),
            Err(error) => error.seen(),
        }
    }
}

impl<T: Seen> Seen for Option<T> {
    fn seen(&self) -> String {
        self.as_ref().map_or_else(|| "none".into(), Seen::seen)
    }
}

impl Seen for () {
    fn seen(&self) -> String {
        "done".into()
    }
}

impl Seen for OwnedFd {
    fn seen(&self) -> String {
        "opened".into()
    }
}

impl Seen for Vec<u8> {
    fn seen(&self) -> String {
        if self.len() <= 96 {
            return format!("{} bytes {:?}", self.len(), String::from_utf8_lossy(self));
        }
        // FNV-1a: enough to tell two contents apart.
        let hash = self.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{} bytes with hash {hash:016x}", self.len())
    }
}

impl Seen for Vec<String> {
    fn seen(&self) -> String {
        self.join(" ")
    }
}

impl Seen for String {
    fn seen(&self) -> String {
        self.clone()
    }
}

impl Seen for str {
    fn seen(&self) -> String {
        self.to_owned()
    }
}

macro_rules! seen_by_display {
    ($($kind:ty),*) => {
        $(impl Seen for $kind {
            fn seen(&self) -> String {
                self.to_string()
            }
        })*
    };
}
seen_by_display!(bool, i32, u32, i64, u64, usize);

impl<A: Seen, B: Seen> Seen for (A, B) {
    fn seen(&self) -> String {
        format!("{}, {}", self.0.seen(), self.1.seen())
    }
}
