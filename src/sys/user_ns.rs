//! User namespaces that are used as tables of ids, by mounts; and what ids the
//! user namespace of this process has.

use std::fs::{self, File};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::{Result, check};

/// An id and what it is mapped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// In the new namespace.
    pub inside: u32,
    /// In the one of this process.
    pub outside: u32,
}

/// A new user namespace with one user and one group. No process is in it, and
/// it is gone with the descriptor.
///
/// # Errors
/// `EPERM` or `ENOSPC` where none may be made, or where the ids may not be
/// mapped; `EINVAL` where there are no such ids.
pub fn with(user: Mapped, group: Mapped) -> Result<OwnedFd> {
    let parent = nix::unistd::getpid();
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: as fork(2): the child has a copy of everything and its stack, and
    // makes nothing but system calls, which are allowed after a fork in a
    // process with threads.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    if pid == 0 {
        hold_until_killed(parent);
    }
    let pid = Pid::from_raw(i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?);
    let namespace = map(pid, user, group);
    // It is this process's child and has not been waited for: the number is its.
    let _ = kill(pid, Signal::SIGKILL);
    let _ = waitpid(pid, None);
    namespace.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// All that the child of [`with`] does.
fn hold_until_killed(parent: Pid) -> ! {
    // SAFETY: system calls with numbers. The parent may have died before its
    // death is a signal.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != parent.as_raw() {
            libc::_exit(1);
        }
        loop {
            libc::pause();
        }
    }
}

fn map(pid: Pid, user: Mapped, group: Mapped) -> std::io::Result<OwnedFd> {
    for (file, Mapped { inside, outside }) in [("uid_map", user), ("gid_map", group)] {
        fs::write(
            format!("/proc/{pid}/{file}"),
            format!("{inside} {outside} 1"),
        )?;
    }
    File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from)
}

/// Whether this process's user namespace has a user and a group of this number.
#[must_use]
pub fn has(id: u32) -> bool {
    ["uid_map", "gid_map"].iter().all(|file| {
        fs::read_to_string(format!("/proc/self/{file}")).is_ok_and(|map| is_in(&map, id))
    })
}

/// Lines of the first id here, the first outside, and how many
/// (user_namespaces(7)).
fn is_in(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u64>);
        match (fields.next(), fields.next(), fields.next()) {
            (Some(Ok(first)), Some(Ok(_)), Some(Ok(many))) => {
                (first..first.saturating_add(many)).contains(&u64::from(id))
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_maps() {
        let all = "         0          0 4294967295\n";
        assert!(is_in(all, 0) && is_in(all, 1 << 31) && !is_in(all, u32::MAX));
        let container = "0 1000 1\n1 100000 65535\n";
        assert!(is_in(container, 65535) && !is_in(container, 65536));
        assert!(!is_in("", 0));
    }
}
