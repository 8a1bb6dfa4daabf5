//! Directories that are filled after they have got their attributes.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::sys::stat::{FileStat, Mode};
use nix::sys::time::TimeSpec;

use crate::sys::node::{chmod, set_times, stat};

/// A directory that something is made in. Its times, and its mode where that
/// keeps its owner from making something, are put back afterwards.
pub(super) struct Filling {
    pub path: PathBuf,
    pub fd: OwnedFd,
    before: FileStat,
}

impl Filling {
    /// The directory `fd` (`O_PATH`), which is at `path`.
    pub(super) fn new(fd: OwnedFd, path: &Path) -> nix::Result<Self> {
        let before = stat(&fd)?;
        let filling = Self {
            path: path.to_owned(),
            fd,
            before,
        };
        if filling.is_closed() {
            let open = Mode::from_bits_truncate(before.st_mode) | Mode::S_IRWXU;
            chmod(&filling.fd, open)?;
        }
        Ok(filling)
    }

    fn is_closed(&self) -> bool {
        !Mode::from_bits_truncate(self.before.st_mode).contains(Mode::S_IWUSR | Mode::S_IXUSR)
    }

    /// Its size before and now.
    pub(super) fn sizes(&self) -> nix::Result<(u64, u64)> {
        let size = |stat: &FileStat| stat.st_size.unsigned_abs();
        Ok((size(&self.before), size(&stat(&self.fd)?)))
    }

    /// Puts back what it was.
    pub(super) fn leave(&self) -> nix::Result<()> {
        let before = &self.before;
        if self.is_closed() {
            chmod(&self.fd, Mode::from_bits_truncate(before.st_mode))?;
        }
        let time = |seconds, nanos| TimeSpec::new(seconds, nanos);
        set_times(
            &self.fd,
            &time(before.st_atime, before.st_atime_nsec),
            &time(before.st_mtime, before.st_mtime_nsec),
        )
    }
}
