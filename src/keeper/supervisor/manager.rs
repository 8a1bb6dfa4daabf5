//! The descriptor store of a service manager (`sd_notify(3)`, FDSTORE): what is
//! kept there outlives the supervisor too. Without a service manager
//! (`NOTIFY_SOCKET` is not set) nothing happens.
//!
//! Each descriptor has a name that says where it was kept. A newer one for the
//! same place has a higher number at the end; the older is removed after it was
//! stored, so that there is no moment without either.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
};

use super::KeptFd;
use crate::sys::process::adopt;

/// The service manager.
#[derive(Debug)]
pub(super) struct Manager {
    socket: OwnedFd,
    address: UnixAddr,
    /// Used again for each message.
    text: String,
    sequence: u64,
}

impl Manager {
    /// The one that the environment names.
    pub(super) fn from_environment() -> Option<Self> {
        let path = std::env::var_os("NOTIFY_SOCKET")?;
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => UnixAddr::new_abstract(name),
            None => UnixAddr::new(path.as_bytes()),
        };
        let socket = socket(
            AddressFamily::Unix,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC,
            None,
        );
        match (address, socket) {
            (Ok(address), Ok(socket)) => Some(Self {
                socket,
                address,
                text: String::with_capacity(256),
                sequence: 0,
            }),
            (Err(errno), _) | (_, Err(errno)) => {
                log::warn!(
                    "no descriptor is kept by the service manager: {}",
                    errno.desc()
                );
                None
            }
        }
    }

    /// Names after these are newer than all that are stored.
    pub(super) fn begin_after(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// Stores a descriptor; returns the number at the end of its name.
    pub(super) fn store(&mut self, place: u32, kept: &KeptFd) -> u64 {
        self.sequence += 1;
        let sequence = self.sequence;
        self.text.clear();
        // FDPOLL: a device whose mount is gone is not to be closed unasked.
        let _ = write!(self.text, "FDSTORE=1\nFDPOLL=0\nFDNAME=");
        name(&mut self.text, place, kept, sequence);
        let fds: [RawFd; 1] = [kept.fd.as_raw_fd()];
        self.send(&[ControlMessage::ScmRights(&fds)]);
        sequence
    }

    /// Removes a descriptor.
    pub(super) fn remove(&mut self, place: u32, kept: &KeptFd) {
        self.text.clear();
        let _ = write!(self.text, "FDSTOREREMOVE=1\nFDNAME=");
        name(&mut self.text, place, kept, kept.stored);
        self.send(&[]);
    }

    fn send(&self, control: &[ControlMessage<'_>]) {
        let parts = [IoSlice::new(self.text.as_bytes())];
        let socket = self.socket.as_fd().as_raw_fd();
        let flags = MsgFlags::MSG_NOSIGNAL;
        if let Err(errno) = sendmsg(socket, &parts, control, flags, Some(&self.address)) {
            log::warn!("the service manager cannot be told: {}", errno.desc());
        }
    }
}

fn name(text: &mut String, place: u32, kept: &KeptFd, sequence: u64) {
    let _ = write!(text, "volfs-{place}-{}-{}-{sequence}", kept.kind, kept.key);
}

/// What the service manager gives back to a supervisor that it has started
/// again, by place; and the highest number of a name.
pub(super) fn given_back() -> (HashMap<u32, KeptFd>, u64) {
    /// `SD_LISTEN_FDS_START`, systemd/sd-daemon.h.
    const FIRST: RawFd = 3;
    let variable = |name| std::env::var(name).ok();
    let mine = variable("LISTEN_PID").and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    let count: RawFd = variable("LISTEN_FDS")
        .filter(|_| mine)
        .and_then(|count| count.parse().ok())
        .unwrap_or(0);
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    take_named((FIRST..FIRST + count).zip(names.split(':')))
}

fn take_named<'a>(named: impl Iterator<Item = (RawFd, &'a str)>) -> (HashMap<u32, KeptFd>, u64) {
    let mut kept = HashMap::new();
    let mut highest = 0;
    for (fd, name) in named {
        let Some((place, kind, key, stored)) = parse(name) else {
            continue;
        };
        let fd = adopt(fd);
        // Nothing but the one message gives it on.
        let _ = fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
        highest = highest.max(stored);
        let new = KeptFd {
            kind,
            key,
            fd,
            stored,
        };
        let is_newer = |old: &KeptFd| old.stored < stored;
        if kept.get(&place).is_none_or(is_newer) {
            kept.insert(place, new);
        }
    }
    (kept, highest)
}

fn parse(name: &str) -> Option<(u32, u32, u64, u64)> {
    let mut numbers = name.strip_prefix("volfs-")?.split('-');
    let parsed = (
        numbers.next()?.parse().ok()?,
        numbers.next()?.parse().ok()?,
        numbers.next()?.parse().ok()?,
        numbers.next()?.parse().ok()?,
    );
    numbers.next().is_none().then_some(parsed)
}

/// What this process is told by its predecessor in the same process, which has
/// executed another program: the descriptors as in a service manager's store.
pub(super) const PASSED: &str = "VOLFS_PASSED";

/// The variable that passes `kept` to another program in this process. The
/// descriptors must stay open over that.
pub(super) fn pass(kept: &[Option<KeptFd>]) -> nix::Result<(&'static str, OsString)> {
    use std::io::{Seek, Write as _};
    let list = nix::sys::memfd::memfd_create("volfs-kept", nix::sys::memfd::MFdFlags::empty())?;
    let mut list = std::fs::File::from(list);
    for (place, kept) in (0..).zip(kept) {
        let Some(kept) = kept else {
            continue;
        };
        fcntl(&kept.fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let mut line = format!("{} ", kept.fd.as_raw_fd());
        name(&mut line, place, kept, kept.stored);
        line.push('\n');
        list.write_all(line.as_bytes())
            .map_err(|_| nix::Error::EIO)?;
    }
    list.rewind().map_err(|_| nix::Error::EIO)?;
    let fd = std::os::fd::IntoRawFd::into_raw_fd(list);
    Ok((PASSED, fd.to_string().into()))
}

/// Nothing was passed after all.
pub(super) fn keep_passed(kept: &[Option<KeptFd>]) {
    for kept in kept.iter().flatten() {
        let _ = fcntl(&kept.fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
}

/// What another program in this process has passed.
pub(super) fn passed() -> Option<(HashMap<u32, KeptFd>, u64)> {
    use std::io::Read;
    let fd = std::env::var(PASSED).ok()?.parse().ok()?;
    let mut text = String::new();
    std::fs::File::from(adopt(fd))
        .read_to_string(&mut text)
        .ok()?;
    let named = text.lines().filter_map(|line| {
        let (fd, name) = line.split_once(' ')?;
        Some((fd.parse().ok()?, name))
    });
    Some(take_named(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_for_one_place_the_newer_is_taken() {
        let file = || tempfile::tempfile().unwrap();
        let (old, new, other) = (file(), file(), file());
        let fd =
            |file: &std::fs::File| std::os::fd::IntoRawFd::into_raw_fd(file.try_clone().unwrap());
        let named = [
            (fd(&new), "volfs-3-2-0-9"),
            (fd(&old), "volfs-3-2-0-7"),
            (fd(&other), "volfs-0-1-18446744073709551615-4"),
        ];
        let (kept, highest) = take_named(named.into_iter());
        assert_eq!((kept.len(), highest), (2, 9));
        let inode = |fd: &dyn AsFd| nix::sys::stat::fstat(fd.as_fd()).unwrap().st_ino;
        assert_eq!(inode(&kept[&3].fd), inode(&new));
        assert_eq!((kept[&0].kind, kept[&0].key), (1, u64::MAX));
        assert_eq!(parse("stored-by-another"), None);
        assert_eq!(parse("volfs-1-2-3-4-5"), None);
    }
}
