//! Lending an image to a program that shall have no right but to it.
//!
//! e2fsck(8) takes a name and opens it itself, so that a descriptor alone is
//! not enough: the image has to let the user in that it runs as. That user is
//! one that nobody else is, and another one each time. A user that others share
//! (nobody) would not do: who is the same user gets at the descriptors of a
//! program in `/proc/PID/fd`, may trace it and may stop it, and keeps the image
//! that it has opened. That the program is not dumpable would be forgotten when
//! it is started (`begin_new_exec`, fs/exec.c), and is of no need then.
//!
//! How the image lets that user in, the first that can be done:
//!
//! 1. On a mount in no table the image belongs to that user (idmapped mounts).
//!    Nothing is changed in the image, and the kernel undoes it when the last
//!    descriptor is closed.
//! 2. An ACL names that user, and lets in nobody else but the owner.
//! 3. The image is given to that user, where the file system has no ACLs.
//!
//! At no time is there a mode or an ACL that lets anybody else in. What stays
//! when this process is killed names a user that nobody is.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use nix::errno::Errno;
use uuid::Uuid;

use crate::sys::acl::{self, Simple};
use crate::sys::creds::{self, Capability};
use crate::sys::{mount, user_ns};

/// First ids that nobody is, and how many: those above 2^31, and in a container
/// that has fewer some that lie between those of systemd (its UIDS-GIDS.md).
/// The last two of 32 bits stand for nobody and for no user.
const UNUSED: [(u32, u32); 2] = [(1 << 31, (1 << 31) - 2), (60578, 606)];

/// A user and a group that nobody is, at random; `None` where there is none:
/// this process may not be another user, or there is but one.
fn fresh_id() -> Option<u32> {
    if !creds::has(Capability::Setuid) || !creds::has(Capability::Setgid) {
        return None;
    }
    let (random, ..) = Uuid::new_v4().as_fields();
    let ids = UNUSED.map(|(first, many)| first + random % many);
    ids.into_iter().find(|&id| user_ns::has(id))
}

/// An image that is lent for as long as this lives.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    image: &'a File,
    /// Who can open it; `None` for the user of this process, whose it is.
    pub id: Option<u32>,
    before: Option<Before>,
}

/// What is put back.
#[derive(Debug)]
enum Before {
    Acl(Vec<u8>),
    Mode(u32),
    Owner { uid: u32, mode: u32 },
}

impl<'a> Lent<'a> {
    /// Lends `image`; also returns what it is to be opened through, by
    /// `/proc/self/fd`.
    ///
    /// # Errors
    /// The system's; the image is as it was.
    pub fn new(image: &'a File) -> io::Result<(Self, OwnedFd)> {
        let Some(id) = fresh_id() else {
            // No other has what this user has not; capabilities are given up.
            let lent = Self {
                image,
                id: None,
                before: None,
            };
            return Ok((lent, image.try_clone()?.into()));
        };
        match mount::owned_by(image, id) {
            Ok(through) => {
                let lent = Self {
                    image,
                    id: Some(id),
                    before: None,
                };
                return Ok((lent, through));
            }
            Err(errno) => log::debug!("no mount of its own for an image: {errno}"),
        }
        let through = image.try_clone()?.into();
        match Self::by_acl(image, id) {
            Ok(lent) => Ok((lent, through)),
            Err(Errno::EOPNOTSUPP) => Ok((Self::by_owner(image, id)?, through)),
            Err(errno) => Err(errno.into()),
        }
    }

    fn by_acl(image: &'a File, id: u32) -> Result<Self, Errno> {
        let mode = nix::sys::stat::fstat(image)?.st_mode & 0o777;
        let before = acl::get(image)?.map_or(Before::Mode(mode), Before::Acl);
        // What an ACL before had let in is shut out meanwhile.
        let alone = Simple {
            mode: mode & 0o700,
            user: Some(id),
        };
        acl::set_simple(image, alone)?;
        Ok(Self {
            image,
            id: Some(id),
            before: Some(before),
        })
    }

    fn by_owner(image: &'a File, id: u32) -> io::Result<Self> {
        let found = image.metadata()?;
        fchown(image, Some(id), None)?;
        Ok(Self {
            image,
            id: Some(id),
            before: Some(Before::Owner {
                uid: found.uid(),
                mode: found.mode() & 0o7777,
            }),
        })
    }

    fn put_back(&self) -> io::Result<()> {
        match &self.before {
            None => Ok(()),
            Some(Before::Acl(value)) => Ok(acl::set(self.image, value)?),
            Some(Before::Mode(mode)) => {
                let (mode, user) = (*mode, None);
                Ok(acl::set_simple(self.image, Simple { mode, user })?)
            }
            // The mode last: its owner could have changed it until then.
            Some(Before::Owner { uid, mode }) => {
                fchown(self.image, Some(*uid), None)?;
                self.image.set_permissions(Permissions::from_mode(*mode))
            }
        }
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            log::warn!("the owner and mode of an image could not be restored: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    const ID: u32 = (1 << 31) + 5;

    fn image() -> File {
        let file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.set_permissions(Permissions::from_mode(0o640)).unwrap();
        file
    }

    fn looks(file: &File) -> (u32, u32, u32, Option<Vec<u8>>) {
        let found = file.metadata().unwrap();
        let acl = acl::get(file).unwrap();
        (found.mode(), found.uid(), found.gid(), acl)
    }

    /// Whether a program of this user can open the file for writing.
    fn lets_in(through: impl Into<Stdio>, id: u32) -> bool {
        Command::new("sh")
            .args(["-c", ": 1<>/proc/self/fd/0"])
            .stdin(through)
            .stderr(Stdio::null())
            .uid(id)
            .gid(id)
            .status()
            .unwrap()
            .success()
    }

    #[test]
    fn ids_are_other_ones_each_time() {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        let (one, other) = (fresh_id().unwrap(), fresh_id().unwrap());
        assert!(one != other && one >= 1 << 31 && other >= 1 << 31);
    }

    #[test]
    fn a_mount_of_its_own_changes_nothing_in_the_image() {
        let file = image();
        let before = looks(&file);
        let through = mount::owned_by(&file, ID).unwrap();
        assert_eq!(looks(&file), before);
        assert!(lets_in(through.try_clone().unwrap(), ID));
        assert!(!lets_in(through, 65534));
        assert!(!lets_in(file.try_clone().unwrap(), ID));
        assert_eq!(looks(&file), before);
    }

    #[test]
    fn an_acl_lets_one_in_and_is_undone() {
        let file = image();
        let before = looks(&file);
        let lent = Lent::by_acl(&file, ID).unwrap();
        assert_eq!(looks(&file).0 & 0o7707, 0o600, "others");
        assert!(lets_in(file.try_clone().unwrap(), ID));
        assert!(!lets_in(file.try_clone().unwrap(), 65534));
        assert!(!lets_in(file.try_clone().unwrap(), ID + 1));
        drop(lent);
        assert_eq!(looks(&file), before);
        assert!(!lets_in(file.try_clone().unwrap(), ID));
    }

    #[test]
    fn an_acl_that_was_there_is_shut_out_and_comes_back() {
        let file = image();
        let guest = Simple {
            mode: 0o640,
            user: Some(65534),
        };
        acl::set_simple(&file, guest).unwrap();
        let before = looks(&file);
        assert!(before.3.is_some());
        assert!(lets_in(file.try_clone().unwrap(), 65534));
        let lent = Lent::by_acl(&file, ID).unwrap();
        assert!(!lets_in(file.try_clone().unwrap(), 65534));
        assert!(lets_in(file.try_clone().unwrap(), ID));
        drop(lent);
        assert_eq!(looks(&file), before);
    }

    #[test]
    fn an_owner_is_let_in_and_undone() {
        let file = image();
        let before = looks(&file);
        let lent = Lent::by_owner(&file, ID).unwrap();
        assert!(lets_in(file.try_clone().unwrap(), ID));
        assert!(!lets_in(file.try_clone().unwrap(), 65534));
        // As its owner can.
        file.set_permissions(Permissions::from_mode(0o666)).unwrap();
        drop(lent);
        assert_eq!(looks(&file), before);
    }
}
