//! `/proc/PID/mountinfo` (proc(5)).

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    /// Its id; of all mounts that there are, no two have the same.
    pub id: u64,
    /// The id of the mount that it is mounted on.
    pub parent: u64,
    /// The device number (`st_dev`) of files on it.
    pub device: u64,
    /// What of the file system is mounted: its root, or a directory below it.
    pub root: PathBuf,
    /// Where.
    pub mountpoint: PathBuf,
    /// Options of this mount alone, `rw,nosuid,…`.
    pub flags: String,
    /// File system type, `fuse.volfs` for ours.
    pub fs_type: String,
    /// Source, for ours the store.
    pub source: PathBuf,
    /// Options of the file system itself, separated by commas; one in a value
    /// is escaped, for [`unescape`].
    pub options: OsString,
}

impl MountInfo {
    /// Whether this mount has an option like `nosuid`.
    #[must_use]
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.split(',').any(|set| set == flag)
    }
}

/// The mounts in a mountinfo file, in its order: a later one on the same
/// mountpoint hides an earlier one.
///
/// # Errors
/// The file cannot be read.
pub fn read(file: &Path) -> std::io::Result<Vec<MountInfo>> {
    Ok(parse_all(&std::fs::read(file)?))
}

/// Those that the calling thread sees; `proc` is a `/proc`, which its mount
/// namespace need not have.
///
/// # Errors
/// They cannot be read.
pub fn of_this_thread(proc: impl std::os::fd::AsFd) -> std::io::Result<Vec<MountInfo>> {
    use nix::fcntl::{OFlag, openat};
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = openat(
        proc,
        "thread-self/mountinfo",
        flags,
        nix::sys::stat::Mode::empty(),
    )?;
    let mut text = Vec::new();
    std::fs::File::from(file).read_to_end(&mut text)?;
    Ok(parse_all(&text))
}

fn parse_all(text: &[u8]) -> Vec<MountInfo> {
    text.split(|&byte| byte == b'\n')
        .filter_map(parse)
        .collect()
}

fn parse(line: &[u8]) -> Option<MountInfo> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let device = std::str::from_utf8(fields.next()?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let root = unescape(fields.next()?);
    let mountpoint = unescape(fields.next()?);
    let flags = String::from_utf8_lossy(fields.next()?).into_owned();
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    Some(MountInfo {
        id,
        parent,
        device: libc::makedev(major.parse().ok()?, minor.parse().ok()?),
        root: root.into(),
        mountpoint: mountpoint.into(),
        flags,
        fs_type: String::from_utf8_lossy(rest.next()?).into_owned(),
        source: unescape(rest.next()?).into(),
        options: OsString::from_vec(rest.next().unwrap_or_default().to_vec()),
    })
}

/// What a field says: space, tab, line feed and backslash stand as three octal
/// digits, and in options the comma.
#[must_use]
pub fn unescape(field: &[u8]) -> OsString {
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
        assert_eq!((mount.id, mount.parent), (36, 35));
        assert!(mount.has_flag("noatime") && !mount.has_flag("time"));
        assert_eq!(mount.root, Path::new("/cache/sub"));
        assert_eq!(mount.mountpoint, Path::new("/mnt/a b\\c"));
        assert_eq!(mount.fs_type, "fuse.volfs");
        assert_eq!(mount.source, Path::new("/var/lib/my store"));
        assert_eq!(mount.options, "rw,user_id=0");
        assert!(parse(b"").is_none());
    }
}
