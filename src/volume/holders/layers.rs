//! The layers of an overlay, as its options name them: by the paths of the
//! moment when it was mounted, and of whoever mounted it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::sys::mountinfo::unescape;

/// The directories that an overlay is made of.
pub(super) fn of(options: &OsStr) -> Vec<PathBuf> {
    let mut layers = Vec::new();
    for option in options.as_bytes().split(|&byte| byte == b',') {
        let Some(equals) = option.iter().position(|&byte| byte == b'=') else {
            continue;
        };
        let value = unescape(&option[equals + 1..]);
        match &option[..equals] {
            b"upperdir" | b"workdir" | b"lowerdir+" | b"datadir+" => layers.push(value.into()),
            b"lowerdir" => layers.extend(split(value.as_bytes())),
            _ => {}
        }
    }
    layers
}

/// Paths between colons; a colon in a path has a backslash before it.
fn split(paths: &[u8]) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut path = Vec::new();
    let mut bytes = paths.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b':' => all.push(std::mem::take(&mut path)),
            b'\\' => path.extend(bytes.next()),
            _ => path.push(byte),
        }
    }
    all.push(path);
    all.retain(|path| !path.is_empty());
    all.into_iter()
        .map(|path| OsString::from_vec(path).into())
        .collect()
}

/// What of `path` comes after one of `mountpoints`. A jail that mounts an
/// overlay names its layers by where it has put the host's root for that
/// moment (`/oldroot/mnt/vol/…`).
pub(super) fn below_any(path: &Path, mountpoints: &[PathBuf]) -> Option<PathBuf> {
    let names: Vec<_> = path.components().skip(1).collect();
    let below = |mountpoint: &PathBuf| {
        let place: Vec<_> = mountpoint.components().skip(1).collect();
        let starts = |&at: &usize| !place.is_empty() && names[at..].starts_with(&place);
        let at = (0..names.len()).find(starts)?;
        Some(names[at + place.len()..].iter().collect())
    };
    mountpoints.iter().find_map(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_with_odd_names() {
        let options = br"rw,lowerdir=/a\040b:/c\134:d::/e,upperdir=/up\054x,metacopy=on,lowerdir+=/f:g,workdir=/w";
        let wanted = ["/a b", "/c:d", "/e", "/up,x", "/f:g", "/w"];
        assert_eq!(of(OsStr::from_bytes(options)), wanted.map(PathBuf::from));
    }

    #[test]
    fn below_a_mountpoint_wherever_that_is() {
        let places = [PathBuf::from("/"), PathBuf::from("/mnt/vol")];
        let below = |path: &str| below_any(Path::new(path), &places);
        assert_eq!(below("/mnt/vol/a/low"), Some("a/low".into()));
        assert_eq!(below("/oldroot/mnt/vol/a"), Some("a".into()));
        assert_eq!(below("/mnt/volume/a"), None);
        assert_eq!(below("/mnt"), None);
    }
}
