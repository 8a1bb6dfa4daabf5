//! `/proc`, asked for the same of every process: relative to a descriptor that
//! is kept, and without an allocation for each question.

use std::ffi::{CStr, OsStr};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::node::{Identity, cached_statx};
use super::{Result, check, dir};

/// A process as `/proc` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listed {
    /// Its id.
    pub pid: i32,
    /// The inode number of its directory. A later process with the same id has
    /// another; one process may have several one after the other.
    pub ino: u64,
}

/// What a link of a process leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Its working directory.
    Cwd,
    /// Its root directory.
    Root,
}

/// Bytes that are asked for at a time.
const BUFFER: usize = 32 << 10;

/// Room for `PID/WHAT`, also with the addresses of a mapping.
const PATH: usize = 64;

/// `/proc`.
#[derive(Debug)]
pub struct Proc {
    dir: OwnedFd,
    buffer: Vec<u8>,
}

impl Proc {
    /// Opens it.
    ///
    /// # Errors
    /// As `open(2)`.
    pub fn open() -> Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self {
            dir: open("/proc", flags, Mode::empty())?,
            buffer: vec![0; BUFFER],
        })
    }

    /// All processes, in the order of their ids. Once: the listing goes on
    /// where it has ended.
    pub fn processes(&mut self) -> Vec<Listed> {
        let mut found = Vec::new();
        while let Ok(entries) = dir::read(&self.dir, &mut self.buffer) {
            let mut any = false;
            for entry in entries {
                any = true;
                let pid = entry.name.to_str().and_then(|name| name.parse().ok());
                found.extend(pid.map(|pid| Listed {
                    pid,
                    ino: entry.ino,
                }));
            }
            if !any {
                break;
            }
        }
        found
    }

    /// The other threads of a process. Each can be asked for as processes are,
    /// though it is not listed as one.
    pub fn other_threads(&self, pid: i32) -> Vec<i32> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let threads = with_path(pid, "task", |path| {
            openat(&self.dir, path, flags, Mode::empty())
        });
        let names = threads.and_then(dir::names).unwrap_or_default();
        let ids = names
            .iter()
            .filter_map(|name| name.to_str().ok()?.parse().ok());
        ids.filter(|&id| id != pid).collect()
    }

    /// What a link leads to, as the kernel has it cached.
    ///
    /// # Errors
    /// `EACCES` for a process that may not be looked at (ptrace(2), "access
    /// mode checking"), `ENOENT` for one that has ended.
    pub fn identity(&self, pid: i32, link: Link) -> Result<Identity> {
        let what = match link {
            Link::Cwd => "cwd",
            Link::Root => "root",
        };
        with_path(pid, what, |path| {
            cached_statx(self.dir.as_raw_fd(), path, 0).ok_or_else(Errno::last)
        })
    }

    /// Opens (`O_PATH`) what a link of a process leads to: `cwd`, `fd/3`.
    ///
    /// # Errors
    /// `EACCES`, `ENOENT`.
    pub fn open_link(&self, pid: i32, link: &str) -> Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        with_path(pid, link, |path| {
            openat(&self.dir, path, flags, Mode::empty())
        })
    }

    /// The path that a link of a process shows, as this process would say it.
    ///
    /// # Errors
    /// `EACCES`, `ENOENT`.
    pub fn read_link(&self, pid: i32, link: &str) -> Result<PathBuf> {
        with_path(pid, link, |path| {
            nix::fcntl::readlinkat(&self.dir, path).map(PathBuf::from)
        })
    }

    /// Tells `each` the numbers of the descriptors that a process has, and what
    /// the files are; says how many there are.
    ///
    /// # Errors
    /// `EACCES`, `ENOENT`.
    pub fn each_open_file(
        &mut self,
        pid: i32,
        mut each: impl FnMut(&OsStr, Identity),
    ) -> Result<usize> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let files = with_path(pid, "fd", |path| {
            openat(&self.dir, path, flags, Mode::empty())
        })?;
        let mut count = 0;
        loop {
            let before = count;
            for entry in dir::read(&files, &mut self.buffer)? {
                if entry.name.as_bytes().starts_with(b".") {
                    continue;
                }
                count += 1;
                let found = with_name(entry.name, |name| cached_statx(files.as_raw_fd(), name, 0));
                if let Some(found) = found {
                    each(entry.name, found);
                }
            }
            // A reply with dots alone has been read with the first.
            if count == before {
                return Ok(count);
            }
        }
    }

    /// The number of a process's mount namespace, as `lsns` shows it; `None`
    /// when it cannot be seen.
    #[must_use]
    pub fn mount_namespace(&self, pid: i32) -> Option<u64> {
        let mut target = [0_u8; PATH];
        let len = with_path(pid, "ns/mnt", |path| {
            // SAFETY: a live descriptor, a C string, and a live buffer of this
            // length.
            check(unsafe {
                libc::readlinkat(
                    self.dir.as_raw_fd(),
                    path.as_ptr(),
                    target.as_mut_ptr().cast(),
                    target.len(),
                )
            })
        })
        .ok()?;
        let text = std::str::from_utf8(target.get(..len.unsigned_abs())?).ok()?;
        let number = text.strip_prefix("mnt:[")?.strip_suffix(']')?;
        number.parse().ok()
    }

    /// The mappings of a process (`/proc/PID/maps`), in place of what is in
    /// `text`.
    ///
    /// # Errors
    /// `EACCES`, `ENOENT`.
    pub fn mappings(&self, pid: i32, text: &mut Vec<u8>) -> Result<()> {
        text.clear();
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let maps = with_path(pid, "maps", |path| {
            openat(&self.dir, path, flags, Mode::empty())
        })?;
        match std::fs::File::from(maps).read_to_end(text) {
            Ok(_) => Ok(()),
            Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }
}

fn with_path<T>(pid: i32, what: &str, then: impl FnOnce(&CStr) -> Result<T>) -> Result<T> {
    let mut path = [0; PATH];
    write!(&mut path[..PATH - 1], "{pid}/{what}").map_err(|_| Errno::ENAMETOOLONG)?;
    then(CStr::from_bytes_until_nul(&path).map_err(|_| Errno::EINVAL)?)
}

fn with_name<T>(name: &OsStr, then: impl FnOnce(&CStr) -> Option<T>) -> Option<T> {
    let mut path = [0; PATH];
    path[..PATH - 1]
        .get_mut(..name.len())?
        .copy_from_slice(name.as_bytes());
    then(CStr::from_bytes_until_nul(&path).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::node::identity_at;
    use std::path::Path;

    #[test]
    fn this_process_as_proc_has_it() {
        let mut proc = Proc::open().unwrap();
        let pid = std::process::id().cast_signed();
        let all = proc.processes();
        let own: Vec<_> = all.iter().filter(|it| it.pid == pid).collect();
        assert_eq!(own.len(), 1);
        assert!(all.is_sorted_by_key(|it| it.pid));
        let again = Proc::open().unwrap().processes();
        assert!(again.contains(own[0]), "the same process has another inode");

        let same = |link, path| {
            assert_eq!(proc.identity(pid, link).ok(), identity_at(Path::new(path)));
        };
        same(Link::Root, "/proc/self/root");
        same(Link::Cwd, "/proc/self/cwd");
        assert_eq!(
            proc.mount_namespace(pid),
            crate::sys::process::mount_namespace("self")
        );
        assert_eq!(proc.identity(0, Link::Cwd), Err(Errno::ENOENT));
    }

    #[test]
    fn all_open_files_and_mappings() {
        let dir = tempfile::tempdir().unwrap();
        let files: Vec<_> = (0..2000)
            .map(|_| std::fs::File::open(dir.path()).unwrap())
            .collect();
        let wanted = identity_at(dir.path()).unwrap();
        let mut proc = Proc::open().unwrap();
        let pid = std::process::id().cast_signed();
        let mut found = 0;
        let same = |it: Identity| (it.device, it.ino) == (wanted.device, wanted.ino);
        let count = proc
            .each_open_file(pid, |_, it| found += usize::from(same(it)))
            .unwrap();
        assert_eq!(found, files.len());
        assert!(count > files.len());

        let mut text = b"something else".to_vec();
        proc.mappings(pid, &mut text).unwrap();
        assert!(text.ends_with(b"\n") && !text.starts_with(b"some"));
    }
}
