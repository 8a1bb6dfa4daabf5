//! Flags of inodes (`lsattr`, `chattr`), which the kernel gets and sets by ioctl on
//! a file that it opens itself.
//!
//! The kernel has checked before that the caller owns the inode, and that one who
//! changes `IMMUTABLE` or `APPEND` has CAP_LINUX_IMMUTABLE in the initial user
//! namespace (`vfs_fileattr_set`, fs/file_attr.c). What is decided here is which
//! flags those who use a volume may set at all, as the daemon does it for them.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::failpoint;
use crate::fuse::charge::check_writable;
use crate::fuse::error::OpResult;
use crate::fuse::fs::FileSystem;
use crate::fuse::image_file;
use crate::fuse::node::NodeId;
use crate::fuse::types::Fh;
use crate::sys::file_flags::{self, Extended, extended};
use crate::sys::node;

/// What can be set and cleared: what has an effect on the inode alone. Not, for one,
/// that its contents go through the journal, which all volumes share.
const SETTABLE: u32 = PROTECTING
    | file_flags::SYNC
    | file_flags::NODUMP
    | file_flags::NOATIME
    | file_flags::DIRSYNC
    | file_flags::NOCOW;

/// What keeps an inode from being changed.
const PROTECTING: u32 = file_flags::IMMUTABLE | file_flags::APPEND;

/// The same in `struct fsxattr`.
const SETTABLE_EXTENDED: u32 =
    PROTECTING_EXTENDED | extended::SYNC | extended::NODUMP | extended::NOATIME;

const PROTECTING_EXTENDED: u32 = extended::IMMUTABLE | extended::APPEND;

/// What an ioctl answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flags {
    /// `FS_IOC_GETFLAGS`, or `FS_IOC_GETVERSION`.
    Plain(u32),
    /// `FS_IOC_FSGETXATTR`.
    Extended(Extended),
    /// They are set.
    Set,
}

impl FileSystem {
    /// The ioctl `request` on a file or directory, with what the caller has given.
    ///
    /// # Errors
    /// ENOTTY for all but those of flags and the generation; EOPNOTSUPP for a flag, or
    /// a project, that cannot be set here; what the host says.
    pub fn ioctl(
        &self,
        node: NodeId,
        fh: Fh,
        is_dir: bool,
        request: u32,
        input: &[u8],
    ) -> OpResult<Flags> {
        let is_known = matches!(
            request,
            file_flags::GET_GENERATION
                | file_flags::GET
                | file_flags::SET
                | file_flags::GET_EXTENDED
                | file_flags::SET_EXTENDED
        );
        let has_flags = node.slot().is_some() && !image_file::is_image(node);
        if !is_known || !has_flags || self.view_of(node)?.is_some() {
            return Err(Errno::ENOTTY.into());
        }
        if matches!(request, file_flags::SET | file_flags::SET_EXTENDED) {
            check_writable(&self.locate(node)?.volume)?;
        }
        if is_dir {
            let at = self.locate(node)?;
            let dir = self.open_located(&at, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            return self.flags(node, &dir, request, input);
        }
        self.flags(node, &self.file_of(node, fh)?, request, input)
    }

    fn flags(&self, node: NodeId, file: impl AsFd, request: u32, input: &[u8]) -> OpResult<Flags> {
        let file = file.as_fd();
        // What the host calls flags it may have for nobody but itself.
        let got = |result: nix::Result<_>| result.map_err(|errno| no_flags(errno).into());
        match request {
            file_flags::GET => got(file_flags::get(file).map(|it| Flags::Plain(shown(it)))),
            file_flags::GET_GENERATION => got(file_flags::generation(file).map(Flags::Plain)),
            file_flags::GET_EXTENDED => {
                let extended = file_flags::get_extended(file).map(shown_extended);
                got(extended.map(Flags::Extended))
            }
            file_flags::SET => {
                let input = <[u8; 4]>::try_from(input).map_err(|_| Errno::EINVAL)?;
                let host = file_flags::get(file)?;
                let changed = shown(host) ^ u32::from_ne_bytes(input);
                // Volumes with a limit stand on it where the host copies on write.
                let cleared = host & changed & file_flags::NOCOW;
                if changed & !SETTABLE != 0 || cleared != 0 {
                    return Err(Errno::EOPNOTSUPP.into());
                }
                let gone = self.nodes.gone(node).is_some();
                may_protect(file, gone, host & PROTECTING, changed & PROTECTING)?;
                failpoint::hit("live.ioctl.flags");
                file_flags::set(file, host ^ changed)?;
                self.kernel.attr_changed(node);
                Ok(Flags::Set)
            }
            file_flags::SET_EXTENDED => {
                let input = input.try_into().map_err(|_| Errno::EINVAL)?;
                let host = file_flags::get_extended(file)?;
                let to = changed_extended(host, Extended::decode(input))?;
                let changed = host.xflags ^ to.xflags;
                may_protect(
                    file,
                    self.nodes.gone(node).is_some(),
                    host.xflags & PROTECTING_EXTENDED,
                    changed & PROTECTING_EXTENDED,
                )?;
                failpoint::hit("live.ioctl.flags");
                file_flags::set_extended(file, to)?;
                self.kernel.attr_changed(node);
                Ok(Flags::Set)
            }
            _ => Err(Errno::ENOTTY.into()),
        }
    }
}

/// What a caller sees: projects are the host's affair.
fn shown(host: u32) -> u32 {
    host & !file_flags::PROJINHERIT
}

fn shown_extended(host: Extended) -> Extended {
    Extended {
        xflags: host.xflags & !extended::PROJINHERIT,
        projid: 0,
        ..host
    }
}

/// What the host gets for what a caller who saw [`shown_extended`] wants.
fn changed_extended(host: Extended, wanted: Extended) -> Result<Extended, Errno> {
    let shown = shown_extended(host);
    let hints = |of: Extended| (of.extsize, of.cowextsize);
    let changed = shown.xflags ^ wanted.xflags;
    // Hints allocate what a file's size does not show, and limits may stand on projects.
    let other_project = wanted.projid != shown.projid;
    if changed & !SETTABLE_EXTENDED != 0 || hints(shown) != hints(wanted) || other_project {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(Extended {
        xflags: host.xflags ^ changed,
        ..host
    })
}

/// Whether an inode may be protected: not one without a name, which this daemon
/// empties at its last close. One that is protected keeps its name.
fn may_protect(file: impl AsFd, gone: bool, has: u32, changed: u32) -> OpResult<()> {
    let more = changed & !has;
    if more != 0 && (gone || node::shape(file)?.links == 0) {
        return Err(Errno::EPERM.into());
    }
    Ok(())
}

/// A host without flags, as ioctl(2) says it.
fn no_flags(errno: Errno) -> Errno {
    match errno {
        Errno::EINVAL | Errno::ENOSYS => Errno::ENOTTY,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Extended = Extended {
        xflags: extended::PROJINHERIT | extended::SYNC,
        extsize: 0,
        nextents: 3,
        projid: 77,
        cowextsize: 0,
    };

    #[test]
    fn a_project_is_neither_shown_nor_changed() {
        let seen = shown_extended(HOST);
        assert_eq!((seen.projid, seen.xflags), (0, extended::SYNC));
        // What was read can be written again.
        assert_eq!(changed_extended(HOST, seen), Ok(HOST));
        let other = Extended { projid: 5, ..seen };
        assert_eq!(changed_extended(HOST, other), Err(Errno::EOPNOTSUPP));
        let inherited = seen.xflags | extended::PROJINHERIT;
        let inherits = Extended {
            xflags: inherited,
            ..seen
        };
        assert_eq!(changed_extended(HOST, inherits), Err(Errno::EOPNOTSUPP));
    }

    #[test]
    fn flags_change_one_by_one() {
        let seen = shown_extended(HOST);
        let wanted = Extended {
            xflags: extended::NODUMP,
            ..seen
        };
        let to = changed_extended(HOST, wanted).unwrap();
        assert_eq!(to.xflags, extended::PROJINHERIT | extended::NODUMP);
        assert_eq!((to.projid, to.nextents), (77, 3));
        let hint = Extended {
            extsize: 1 << 20,
            ..seen
        };
        assert_eq!(changed_extended(HOST, hint), Err(Errno::EOPNOTSUPP));
    }

    #[test]
    fn a_structure_survives_its_bytes() {
        assert_eq!(Extended::decode(&HOST.encode()), HOST);
    }
}
