//! All mount namespaces, also those that no process is in: `NS_MNT_GET_NEXT`
//! (ioctl_nsfs(2)), and a look from inside of one.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, fstat};

use super::{Result, check};

/// `struct mnt_ns_info`, linux/nsfs.h.
#[repr(C)]
#[derive(Default)]
struct MntNsInfo {
    size: u32,
    nr_mounts: u32,
    mnt_ns_id: u64,
}

/// `NS_MNT_GET_NEXT` and `NS_MNT_GET_PREV`, linux/nsfs.h: `_IOR(0xb7, 11, struct
/// mnt_ns_info)`, and 12. Since Linux 6.12.
const NS_MNT_GET_NEXT: libc::Ioctl = 0x8010_b70b_u32 as libc::Ioctl;
const NS_MNT_GET_PREV: libc::Ioctl = 0x8010_b70c_u32 as libc::Ioctl;

/// The mount namespaces whose numbers (as `lsns` shows them) are not `known`.
/// None without CAP_SYS_ADMIN, and before Linux 6.12: those that processes are in
/// can be had of these.
#[must_use]
pub fn all_but(known: &dyn Fn(u64) -> bool) -> Vec<(u64, OwnedFd)> {
    let mut found = Vec::new();
    for direction in [NS_MNT_GET_NEXT, NS_MNT_GET_PREV] {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let Ok(mut here) = open("/proc/self/ns/mnt", flags, Mode::empty()) else {
            return found;
        };
        while let Ok(next) = step(&here, direction) {
            let number = fstat(&next).map_or(0, |stat| stat.st_ino);
            if !known(number)
                && let Ok(kept) = next.try_clone()
            {
                found.push((number, kept));
            }
            here = next;
        }
    }
    found
}

fn step(namespace: &OwnedFd, direction: libc::Ioctl) -> Result<OwnedFd> {
    let mut info = MntNsInfo::default();
    // SAFETY: a live descriptor, and a live buffer of the size that the number of
    // the call says.
    let fd = check(unsafe { libc::ioctl(namespace.as_raw_fd(), direction, &raw mut info) })?;
    // SAFETY: the call has just given us this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs `look` in a thread of its own that is in the mount namespace `namespace`,
/// in its root directory.
///
/// # Errors
/// As `setns(2)`: EPERM without CAP_SYS_ADMIN and CAP_SYS_CHROOT.
pub fn inside<T: Send>(namespace: impl AsFd, look: impl FnOnce() -> T + Send) -> Result<T> {
    let namespace = namespace.as_fd();
    let run = move || {
        // Root and working directory are the thread's own from here on.
        unshare(CloneFlags::CLONE_FS)?;
        setns(namespace, CloneFlags::CLONE_NEWNS)?;
        Ok(look())
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, run);
        let thread = thread.map_err(|_| Errno::EAGAIN)?;
        thread.join().unwrap_or(Err(Errno::EIO))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_from_inside_changes_nothing_outside() {
        let own = open("/proc/self/ns/mnt", OFlag::O_RDONLY, Mode::empty()).unwrap();
        let number = fstat(&own).unwrap().st_ino;
        let seen = inside(&own, || {
            std::fs::read_link("/proc/thread-self/ns/mnt").unwrap()
        });
        assert_eq!(
            seen.unwrap().to_str(),
            Some(format!("mnt:[{number}]").as_str())
        );
        assert!(all_but(&|_| true).is_empty());
        let others = all_but(&|other| other == number);
        assert!(
            others
                .iter()
                .all(|(other, _)| *other != number && *other != 0)
        );
    }
}
