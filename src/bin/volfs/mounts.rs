//! What is mounted where, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

/// The type under which a mount of volfs appears.
pub const FSTYPE: &str = "fuse.volfs";

/// A mount in this process's mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// Its file system type, with the subtype.
    pub fstype: String,
    /// Its source; of a mount of volfs the store's directory.
    pub source: OsString,
}

impl Mount {
    /// Whether it is a mount of volfs.
    pub fn is_volfs(&self) -> bool {
        self.fstype == FSTYPE
    }
}

/// All mounts, in the order in which they were mounted.
pub fn all() -> Outcome<Vec<Mount>> {
    let path = "/proc/self/mountinfo";
    let text = std::fs::read(path).map_err(|error| Failure::io("read", path, &error))?;
    Ok(text.split(|&b| b == b'\n').filter_map(parse).collect())
}

/// What is mounted exactly on `mountpoint`; the topmost of several.
pub fn on(mountpoint: &Path) -> Outcome<Option<Mount>> {
    Ok(all()?
        .into_iter()
        .rfind(|mount| mount.mountpoint == mountpoint))
}

/// One line: `ID PARENT DEV ROOT MOUNTPOINT OPTIONS [TAG…] - TYPE SOURCE SUPEROPTIONS`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&b| b == b' ');
    let mountpoint = unescape(fields.nth(4)?);
    fields.by_ref().find(|field| *field == b"-")?;
    let fstype = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = unescape(fields.next()?);
    Some(Mount {
        mountpoint: PathBuf::from(mountpoint),
        fstype,
        source,
    })
}

/// Space, tab, newline and backslash are written `\ooo`.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// Whether a file system is mounted there whose daemon has died (ENOTCONN).
/// Asked by `statfs`: the kernel may remember the attributes of its root.
pub fn is_stale(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_err_and(|errno| errno == nix::errno::Errno::ENOTCONN)
}

/// `path` without symbolic links and dots, also when it is the root of a stale
/// mount. What does not exist is only made absolute.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Ok(resolved) => Ok(resolved),
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::path::absolute(path),
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            let absolute = std::path::absolute(path)?;
            match (absolute.parent(), absolute.file_name()) {
                (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
                _ => Ok(absolute),
            }
        }
        Err(error) => Err(error),
    }
}

/// The mount that `path` lies in: the one with the longest mountpoint.
pub fn around(path: &Path) -> Outcome<Option<Mount>> {
    Ok(all()?
        .into_iter()
        .filter(|mount| path.starts_with(&mount.mountpoint))
        .max_by_key(|mount| mount.mountpoint.as_os_str().len()))
}

/// A mountpoint or source for people.
pub fn shown(path: impl AsRef<OsStr>) -> String {
    String::from_utf8_lossy(path.as_ref().as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_blanks_and_tags() {
        let line = br"36 35 0:41 / /mnt/my\040vol rw,nosuid shared:1 master:2 - fuse.volfs /srv/a\134b rw,user_id=0";
        assert_eq!(
            parse(line).unwrap(),
            Mount {
                mountpoint: "/mnt/my vol".into(),
                fstype: "fuse.volfs".into(),
                source: r"/srv/a\b".into(),
            }
        );
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"1 2 3"), None);
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(on(Path::new("/")).unwrap().is_some());
        assert!(around(Path::new("/proc/self")).unwrap().unwrap().fstype == "proc");
    }
}
