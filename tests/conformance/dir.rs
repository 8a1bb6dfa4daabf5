//! The directory that a case works in, with the calls it makes there. Names
//! are relative to it; nothing here knows whether it is in a volume.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid};
use rustix::io::{Errno, Result};

use crate::trace::Seen;

/// An empty directory for one case, mode 0755, owned by root.
pub struct Dir {
    path: PathBuf,
}

/// Attributes that must be the same in two directories of one machine.
#[derive(Clone, Copy)]
pub struct Meta(pub Stat);

/// Two looks at one file, with nothing changed between them.
impl PartialEq for Meta {
    fn eq(&self, other: &Self) -> bool {
        let identity = |m: &Self| (m.0.st_dev, m.0.st_ino);
        identity(self) == identity(other)
            && self.seen() == other.seen()
            && (self.mtime(), self.ctime()) == (other.mtime(), other.ctime())
    }
}

impl Seen for Meta {
    fn seen(&self) -> String {
        let stat = &self.0;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mode = stat.st_mode & 0o7777;
        let mut text = format!(
            "{kind:?} {mode:04o} {}:{} links {}",
            stat.st_uid, stat.st_gid, stat.st_nlink
        );
        if kind != FileType::Directory {
            text += &format!(" size {}", stat.st_size);
        }
        if matches!(kind, FileType::BlockDevice | FileType::CharacterDevice) {
            let (major, minor) = (fs::major(stat.st_rdev), fs::minor(stat.st_rdev));
            text += &format!(" device {major}:{minor}");
        }
        text
    }
}

impl Meta {
    /// Access time in seconds and nanoseconds.
    pub fn atime(&self) -> (i64, i64) {
        (self.0.st_atime, self.0.st_atime_nsec.cast_signed())
    }

    /// Modification time in seconds and nanoseconds.
    pub fn mtime(&self) -> (i64, i64) {
        (self.0.st_mtime, self.0.st_mtime_nsec.cast_signed())
    }

    /// Change time in seconds and nanoseconds.
    pub fn ctime(&self) -> (i64, i64) {
        (self.0.st_ctime, self.0.st_ctime_nsec.cast_signed())
    }

    /// Which times differ from those of `before`.
    pub fn times_changed(&self, before: &Self) -> String {
        let mark = |name, changed| if changed { name } else { "-" };
        format!(
            "{} {} {}",
            mark("atime", self.atime() != before.atime()),
            mark("mtime", self.mtime() != before.mtime()),
            mark("ctime", self.ctime() != before.ctime()),
        )
    }
}

/// Opens for reading and writing, creating.
pub const CREATE: OFlags = OFlags::CREATE.union(OFlags::RDWR);

impl Dir {
    /// On an existing directory.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a name in it; an absolute path stays what it is.
    pub fn at(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let name = name.as_ref();
        if name.is_empty() {
            return self.path.clone();
        }
        // Not Path::join, which would drop nothing but is lost on "a/" and
        // "a/." when it is compared; the bytes go to the kernel as they are.
        if name.as_bytes().starts_with(b"/") {
            return PathBuf::from(name);
        }
        let mut bytes = self.path.as_os_str().as_bytes().to_vec();
        bytes.push(b'/');
        bytes.extend_from_slice(name.as_bytes());
        PathBuf::from(OsStr::from_bytes(&bytes))
    }

    /// Opens a name.
    pub fn open(&self, name: impl AsRef<OsStr>, flags: OFlags, mode: u32) -> Result<OwnedFd> {
        let mode = Mode::from_raw_mode(mode);
        fs::openat(CWD, self.at(name), flags | OFlags::CLOEXEC, mode)
    }

    /// Makes a regular file with a content, mode 0644 whatever the umask.
    pub fn file(&self, name: impl AsRef<OsStr>, content: &[u8]) -> OwnedFd {
        let file = self
            .open(name, CREATE | OFlags::TRUNC, 0o644)
            .expect("a case can make its files");
        write_all(&file, content).expect("a case can fill its files");
        fs::fchmod(&file, Mode::from_raw_mode(0o644)).expect("the file is its own");
        file
    }

    /// Makes a directory with this mode, whatever the umask.
    pub fn subdir(&self, name: impl AsRef<OsStr>, mode: u32) -> Self {
        let path = self.at(name);
        fs::mkdir(&path, Mode::from_raw_mode(0o700)).expect("a case can make directories");
        fs::chmod(&path, Mode::from_raw_mode(mode)).expect("the directory is its own");
        Self { path }
    }

    /// `mkdir`.
    pub fn mkdir(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<()> {
        fs::mkdir(self.at(name), Mode::from_raw_mode(mode))
    }

    /// `rmdir`.
    pub fn rmdir(&self, name: impl AsRef<OsStr>) -> Result<()> {
        fs::rmdir(self.at(name))
    }

    /// `unlink`.
    pub fn unlink(&self, name: impl AsRef<OsStr>) -> Result<()> {
        fs::unlink(self.at(name))
    }

    /// `mknod`.
    pub fn mknod(
        &self,
        name: impl AsRef<OsStr>,
        kind: FileType,
        mode: u32,
        device: u64,
    ) -> Result<()> {
        let mode = Mode::from_raw_mode(mode);
        fs::mknodat(CWD, self.at(name), kind, mode, device)
    }

    /// `symlink`; the target is stored as it is.
    pub fn symlink(&self, target: impl AsRef<OsStr>, name: impl AsRef<OsStr>) -> Result<()> {
        fs::symlink(target.as_ref(), self.at(name))
    }

    /// `readlink`.
    pub fn readlink(&self, name: impl AsRef<OsStr>) -> Result<Vec<u8>> {
        Ok(fs::readlink(self.at(name), Vec::new())?.into_bytes())
    }

    /// `link`; a symlink is linked itself.
    pub fn link(&self, old: impl AsRef<OsStr>, new: impl AsRef<OsStr>) -> Result<()> {
        fs::link(self.at(old), self.at(new))
    }

    /// `rename`.
    pub fn rename(&self, old: impl AsRef<OsStr>, new: impl AsRef<OsStr>) -> Result<()> {
        fs::rename(self.at(old), self.at(new))
    }

    /// `renameat2`.
    pub fn rename_with(
        &self,
        old: impl AsRef<OsStr>,
        new: impl AsRef<OsStr>,
        flags: RenameFlags,
    ) -> Result<()> {
        fs::renameat_with(CWD, self.at(old), CWD, self.at(new), flags)
    }

    /// `chmod`.
    pub fn chmod(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<()> {
        fs::chmod(self.at(name), Mode::from_raw_mode(mode))
    }

    /// `lchown`; `None` leaves an id as it is.
    pub fn chown(&self, name: impl AsRef<OsStr>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let uid = uid.map(Uid::from_raw);
        let gid = gid.map(Gid::from_raw);
        fs::chownat(CWD, self.at(name), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// `truncate` by path.
    pub fn truncate(&self, name: impl AsRef<OsStr>, size: i64) -> Result<()> {
        nix::unistd::truncate(&self.at(name), size).map_err(from_nix)
    }

    /// `access`.
    pub fn access(&self, name: impl AsRef<OsStr>, access: fs::Access) -> Result<()> {
        fs::accessat(CWD, self.at(name), access, AtFlags::EACCESS)
    }

    /// `lstat`.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Result<Meta> {
        fs::lstat(self.at(name)).map(Meta)
    }

    /// `stat`, following symlinks.
    pub fn stat_target(&self, name: impl AsRef<OsStr>) -> Result<Meta> {
        fs::stat(self.at(name)).map(Meta)
    }

    /// A file's content.
    pub fn content(&self, name: impl AsRef<OsStr>) -> Result<Vec<u8>> {
        let file = self.open(name, OFlags::RDONLY | OFlags::NONBLOCK, 0)?;
        read_from(&file, 0, 64 << 20)
    }

    /// The names in a directory, sorted, without `.` and `..`.
    pub fn names(&self, name: impl AsRef<OsStr>) -> Result<Vec<String>> {
        let file = self.open(name, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
        let mut names = Vec::new();
        for entry in fs::Dir::new(file)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// `fstat`.
pub fn fstat(file: impl AsFd) -> Result<Meta> {
    fs::fstat(file).map(Meta)
}

/// Writes at the file's position until all is written.
pub fn write_all(file: impl AsFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let n = rustix::io::write(&file, bytes)?;
        bytes = &bytes[n..];
    }
    Ok(())
}

/// Writes at an offset until all is written.
pub fn write_at(file: impl AsFd, bytes: &[u8], offset: u64) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        done += rustix::io::pwrite(&file, &bytes[done..], offset + done as u64)?;
    }
    Ok(())
}

/// Reads up to `limit` bytes from an offset to the end of the file.
pub fn read_from(file: impl AsFd, offset: u64, limit: usize) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut buffer = vec![0; limit.min(1 << 20)];
    while content.len() < limit {
        let want = buffer.len().min(limit - content.len());
        let n = rustix::io::pread(&file, &mut buffer[..want], offset + content.len() as u64)?;
        if n == 0 {
            break;
        }
        content.extend_from_slice(&buffer[..n]);
    }
    Ok(content)
}

/// The same number as `nix` gives it.
pub fn from_nix(errno: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(errno as i32)
}
