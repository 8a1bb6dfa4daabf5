//! Paths in a volume as they are given, and what is said of them when they do
//! not serve.

use std::io;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use super::super::error::{Error, Result};

/// A path that does not lead above the volume's root by itself. What symbolic
/// links make of it is for the kernel to see.
#[derive(Debug)]
pub(super) struct Inside {
    given: PathBuf,
    path: PathBuf,
}

impl Inside {
    /// Takes a path, relative to the root whether it begins with `/` or not.
    pub(super) fn new(given: &Path) -> Result<Self> {
        let mut path = PathBuf::new();
        let mut depth = 0_usize;
        for component in given.components() {
            match component {
                Component::Normal(name) => {
                    depth += 1;
                    path.push(name);
                }
                Component::ParentDir => {
                    depth = depth.checked_sub(1).ok_or_else(|| Error::Outside {
                        path: given.to_owned(),
                    })?;
                    path.push("..");
                }
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Ok(Self::of(given, path))
    }

    fn of(given: &Path, path: PathBuf) -> Self {
        let root = path.as_os_str().is_empty();
        Self {
            given: given.to_owned(),
            path: if root { ".".into() } else { path },
        }
    }

    /// For the kernel: relative, `.` for the root.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Each directory on the way, and the path itself.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = Self> {
        let mut so_far = PathBuf::new();
        self.path.components().map(move |component| {
            so_far.push(component);
            Self::of(&self.given, so_far.clone())
        })
    }

    /// The directory and the name in it; `None` when there is no name at the
    /// end: the root, or `..`.
    pub(super) fn split(&self) -> Option<(Self, &Path)> {
        let name = self.path.file_name()?;
        let parent = self.path.parent()?.to_owned();
        Some((Self::of(&self.given, parent), Path::new(name)))
    }

    /// Why something was not done with it.
    pub(super) fn failed(&self, action: &str, errno: Errno) -> Error {
        failed(action, &self.given, errno)
    }
}

/// What a system call said of a path.
pub(super) fn failed(action: &str, path: &Path, errno: Errno) -> Error {
    match errno {
        Errno::EXDEV => Error::Outside {
            path: path.to_owned(),
        },
        Errno::ENOSPC | Errno::EDQUOT => no_space(
            path,
            "the limit of the volume is reached, or the disk is full",
        ),
        _ => Error::io(action, path, &errno.into()),
    }
}

/// What reading or writing a stream said.
pub(super) fn failed_io(action: &str, path: &Path, error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(errno) => failed(action, path, Errno::from_raw(errno)),
        // Only a limit speaks for itself; see `ledger`.
        None if error.kind() == io::ErrorKind::StorageFull => no_space(path, &error.to_string()),
        None => Error::io(action, path, error),
    }
}

pub(super) fn no_space(path: &Path, why: &str) -> Error {
    Error::NoSpace {
        path: path.to_owned(),
        why: why.to_owned(),
    }
}
