//! Reading a directory: `getdents64(2)` into a buffer of the caller's.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::descent::{LIST, open_below};
use super::{Result, check};

/// One entry of a directory (`struct linux_dirent64`).
#[derive(Clone, Copy, Debug)]
pub struct HostDirEntry<'a> {
    /// Inode number (`d_ino`).
    pub ino: u64,
    /// Where the next entry starts, for `lseek(2)` (`d_off`).
    pub next: u64,
    /// File type (`d_type`: `DT_REG`, …; `DT_UNKNOWN` on some file systems).
    pub kind: u8,
    /// Its name.
    pub name: &'a OsStr,
}

/// Bytes before the name in `struct linux_dirent64`.
const NAME_OFFSET: usize = 19;

/// Fills `buffer` with the next entries of the directory; an empty iterator
/// means that there are no more.
///
/// # Errors
/// As `getdents64(2)`.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> Result<Entries<'_>> {
    // SAFETY: the pointer and the length describe a live buffer.
    let filled = check(unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            fd.as_fd().as_raw_fd(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    Ok(Entries {
        rest: &buffer[..filled.unsigned_abs() as usize],
    })
}

/// Whether `name` in the directory `parent` is a directory that is empty; not what
/// cannot be read.
pub fn is_empty_below(parent: impl AsFd, name: &OsStr) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = super::node::open_beneath(parent, name, flags, Mode::empty());
    opened.and_then(names).is_ok_and(|names| names.is_empty())
}

/// Bytes that are asked for at a time.
const BUFFER: usize = 32 << 10;

/// The names in a directory that was just opened for reading, without `.` and
/// `..`.
///
/// # Errors
/// As `getdents64(2)`.
pub fn names(fd: impl AsFd) -> Result<Vec<CString>> {
    let mut buffer = vec![0; BUFFER];
    let mut names = Vec::new();
    loop {
        let mut entries = read(fd.as_fd(), &mut buffer)?.peekable();
        if entries.peek().is_none() {
            return Ok(names);
        }
        let named = entries.map(|entry| entry.name.as_bytes());
        let named = named.filter(|name| !matches!(*name, b"." | b".."));
        // OK to drop: a name ends at its first NUL.
        names.extend(named.filter_map(|name| CString::new(name).ok()));
    }
}

/// The lengths of the names in the directory of `fd` (`O_PATH`), with `.` and
/// `..`.
///
/// # Errors
/// As `open(2)` and `getdents64(2)`.
pub fn name_lengths(fd: impl AsFd) -> Result<impl Iterator<Item = usize>> {
    // That somebody makes a name in it is no access.
    let opened = open_below(fd, OsStr::new("."), LIST)?;
    let lengths = names(opened)?.into_iter().map(|name| name.count_bytes());
    Ok(lengths.chain([".".len(), "..".len()]))
}

/// The entries in a filled buffer.
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = HostDirEntry<'a>;

    fn next(&mut self) -> Option<HostDirEntry<'a>> {
        let rest = self.rest;
        let number = |at: usize| -> Option<u64> {
            Some(u64::from_ne_bytes(rest.get(at..at + 8)?.try_into().ok()?))
        };
        let ino = number(0)?;
        let next = number(8)?;
        let reclen = u16::from_ne_bytes(rest.get(16..18)?.try_into().ok()?);
        let kind = *rest.get(18)?;
        let name = rest.get(NAME_OFFSET..usize::from(reclen))?;
        let end = name.iter().position(|&byte| byte == 0)?;
        self.rest = rest.get(usize::from(reclen)..)?;
        Some(HostDirEntry {
            ino,
            next,
            kind,
            name: OsStr::from_bytes(&name[..end]),
        })
    }
}
