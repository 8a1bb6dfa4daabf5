//! `/proc/PID/mountinfo` (proc(5)).

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// The device number (`st_dev`) of files on it.
    pub device: u64,
    /// What of the file system is mounted: its root, or a directory below it.
    pub root: PathBuf,
    /// Where.
    pub mountpoint: PathBuf,
    /// File system type, `fuse.volfs` for ours.
    pub fs_type: String,
    /// Source, for ours the store.
    pub source: PathBuf,
    /// Options of the file system itself, as it shows them.
    pub options: String,
}

impl MountInfo {
    /// The first component of [`root`](Self::root) below the file system's
    /// root: for a bind mount out of a mount of ours, the volume's name.
    #[must_use]
    pub fn first_of_root(&self) -> Option<String> {
        let first = self.root.components().nth(1)?;
        Some(first.as_os_str().to_string_lossy().into_owned())
    }
}

/// The mounts in a mountinfo file, in its order: a later one on the same
/// mountpoint hides an earlier one.
///
/// # Errors
/// The file cannot be read.
pub fn read(file: &Path) -> std::io::Result<Vec<MountInfo>> {
    let text = std::fs::read(file)?;
    Ok(text
        .split(|&byte| byte == b'\n')
        .filter_map(parse)
        .collect())
}

fn parse(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let root = unescape(fields.next()?);
    let mountpoint = unescape(fields.next()?);
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    Some(MountInfo {
        device: libc::makedev(major.parse().ok()?, minor.parse().ok()?),
        root: root.into(),
        mountpoint: mountpoint.into(),
        fs_type: String::from_utf8_lossy(rest.next()?).into_owned(),
        source: unescape(rest.next()?).into(),
        options: unescape(rest.next().unwrap_or_default())
            .to_string_lossy()
            .into_owned(),
    })
}

/// Space, tab, line feed and backslash stand as three octal digits.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(bytes)
}

/// The topmost mount whose mountpoint is `path`, in this process's namespace.
#[must_use]
pub fn mounted_on(path: &Path) -> Option<MountInfo> {
    read(Path::new("/proc/self/mountinfo"))
        .ok()?
        .into_iter()
        .rev()
        .find(|mount| mount.mountpoint.as_os_str().as_bytes() == path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_escapes_and_optional_fields() {
        let line = br"36 35 0:45 /cache/sub /mnt/a\040b\134c rw,noatime master:1 shared:2 - fuse.volfs /var/lib/my\040store rw,user_id=0";
        let mount = parse(line).unwrap();
        assert_eq!(mount.device, libc::makedev(0, 45));
        assert_eq!(mount.first_of_root().as_deref(), Some("cache"));
        assert_eq!(mount.mountpoint, Path::new("/mnt/a b\\c"));
        assert_eq!(mount.fs_type, "fuse.volfs");
        assert_eq!(mount.source, Path::new("/var/lib/my store"));
        assert_eq!(mount.options, "rw,user_id=0");
        assert!(parse(b"").is_none());
    }
}
