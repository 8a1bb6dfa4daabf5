//! The host's file system under a volume: from a node to an open inode, and
//! from an inode to its node.
//!
//! Knows handles and how they are made up; knows no names above a node.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::FileStat;

use super::error::{OpError, OpResult};
use super::node::HostIno;
use super::nodes::Way;
use crate::sys::handle::{self, HostHandle};
use crate::sys::{creds, node};

/// How a file system builds its handles (`encode_fh`), as far as a handle can
/// be made up from an inode number and a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    /// `FILEID_INO32_GEN`, `fs/libfs.c`: u32 inode, u32 generation (ext4; XFS
    /// with 32-bit inode numbers).
    Ino32Gen,
    /// `mm/shmem.c`: u32 generation, u32 low inode, u32 high inode (tmpfs).
    GenIno64,
    /// `fs/xfs/xfs_export.c`: u64 inode, u32 generation.
    Ino64Gen,
    /// `fs/btrfs/export.c`: u64 inode, u64 subvolume, u32 generation. A
    /// subvolume has a device number of its own, so that a host is one.
    Subvolume(u64),
    /// Handles are kept as they are (overlay and others).
    Kept,
}

const FILEID_INO32_GEN: i32 = 1;
const XFS_FILEID_INO64_GEN: i32 = 0x81;
const FILEID_BTRFS_WITHOUT_PARENT: i32 = 0x4d;
/// ext4 (`ext4_nfs_get_inode`) and btrfs (`btrfs_get_dentry`) take generation 0 for
/// any.
const ANY_GENERATION: u32 = 0;

impl Scheme {
    fn of(sample: &HostHandle, ino: HostIno) -> Self {
        let word = sample
            .bytes()
            .get(8..16)
            .and_then(|word| word.try_into().ok());
        let subvolume = word.map_or(0, u64::from_ne_bytes);
        [
            Self::Ino32Gen,
            Self::GenIno64,
            Self::Ino64Gen,
            Self::Subvolume(subvolume),
        ]
        .into_iter()
        .find(|scheme| scheme.generation(sample, ino).is_some())
        .unwrap_or(Self::Kept)
    }

    fn build(self, ino: HostIno, generation: u32) -> Option<HostHandle> {
        let mut bytes = [0; 20];
        let low = ino.0 as u32;
        match self {
            Self::Ino32Gen => {
                bytes[..4].copy_from_slice(&u32::try_from(ino.0).ok()?.to_ne_bytes());
                bytes[4..8].copy_from_slice(&generation.to_ne_bytes());
                HostHandle::new(FILEID_INO32_GEN, &bytes[..8])
            }
            Self::GenIno64 => {
                bytes[..4].copy_from_slice(&generation.to_ne_bytes());
                bytes[4..8].copy_from_slice(&low.to_ne_bytes());
                bytes[8..12].copy_from_slice(&((ino.0 >> 32) as u32).to_ne_bytes());
                HostHandle::new(FILEID_INO32_GEN, &bytes[..12])
            }
            Self::Ino64Gen => {
                bytes[..8].copy_from_slice(&ino.0.to_ne_bytes());
                bytes[8..12].copy_from_slice(&generation.to_ne_bytes());
                HostHandle::new(XFS_FILEID_INO64_GEN, &bytes[..12])
            }
            Self::Subvolume(subvolume) => {
                bytes[..8].copy_from_slice(&ino.0.to_ne_bytes());
                bytes[8..16].copy_from_slice(&subvolume.to_ne_bytes());
                bytes[16..].copy_from_slice(&generation.to_ne_bytes());
                HostHandle::new(FILEID_BTRFS_WITHOUT_PARENT, &bytes)
            }
            Self::Kept => None,
        }
    }

    /// The generation in `handle`, if the handle is exactly what
    /// [`build`](Self::build) makes of it.
    fn generation(self, handle: &HostHandle, ino: HostIno) -> Option<u32> {
        let at = match self {
            Self::Ino32Gen => 4,
            Self::GenIno64 => 0,
            Self::Ino64Gen => 8,
            Self::Subvolume(_) => 16,
            Self::Kept => return None,
        };
        let word = handle.bytes().get(at..at + 4)?;
        let generation = u32::from_ne_bytes(word.try_into().ok()?);
        (self.build(ino, generation).as_ref() == Some(handle)).then_some(generation)
    }
}

/// A file system of the host that volumes are on.
#[derive(Debug)]
pub struct Host {
    /// Any directory on it, not O_PATH: what handles are relative to.
    mount: OwnedFd,
    device: u64,
    /// `None`: nodes are found by their place.
    scheme: Option<Scheme>,
    by_number: bool,
}

impl Host {
    /// Looks at the file system that the directory `mount` is on.
    ///
    /// # Errors
    /// The directory cannot be looked at.
    pub fn probe(mount: OwnedFd) -> Result<Self, Errno> {
        let stat = node::stat(&mount)?;
        let sample = handle::of_fd(&mount).ok().filter(|sample| {
            creds::has(creds::Capability::DacReadSearch)
                && handle::open(&mount, sample, OFlag::O_PATH).is_ok()
        });
        let ino = HostIno(stat.st_ino);
        let scheme = sample.map(|sample| Scheme::of(&sample, ino));
        let by_number = scheme
            .zip(sample)
            .filter(|(scheme, sample)| scheme.generation(sample, ino) != Some(ANY_GENERATION))
            .and_then(|(scheme, _)| scheme.build(ino, ANY_GENERATION))
            .is_some_and(|handle| handle::open(&mount, &handle, OFlag::O_PATH).is_ok());
        Ok(Self {
            device: stat.st_dev,
            scheme,
            by_number,
            mount,
        })
    }

    /// The file system that the directory `mount` is on, whose handles are not
    /// to be used.
    ///
    /// # Errors
    /// The directory cannot be looked at.
    pub fn without_handles(mount: OwnedFd) -> Result<Self, Errno> {
        Ok(Self {
            device: node::stat(&mount)?.st_dev,
            scheme: None,
            by_number: false,
            mount,
        })
    }

    /// The directory that it was probed with.
    #[must_use]
    pub fn mount(&self) -> &OwnedFd {
        &self.mount
    }

    /// Whether nodes are found by handle, and so in a new process and after
    /// every rename; otherwise they are found by their place.
    #[must_use]
    pub fn has_handles(&self) -> bool {
        self.scheme.is_some()
    }

    /// Whether every handle can be made up from an inode number and a
    /// generation: all that a successor of this process is told of a node.
    #[must_use]
    pub fn makes_handles(&self) -> bool {
        self.scheme.is_some_and(|scheme| scheme != Scheme::Kept)
    }

    /// Whether an inode is found by its number alone.
    #[must_use]
    pub fn opens_by_number(&self) -> bool {
        self.by_number
    }

    /// The device number of its files.
    #[must_use]
    pub fn device(&self) -> u64 {
        self.device
    }

    /// How the inode of `fd` will be found again; `None` when only its place
    /// leads to it. Also its generation.
    ///
    /// # Errors
    /// [`Errno::EXDEV`] when it is on another file system.
    pub fn way_to(&self, fd: impl AsFd, stat: &FileStat) -> OpResult<Result<Way, u32>> {
        if stat.st_dev != self.device {
            return Err(OpError::Host(Errno::EXDEV));
        }
        let Ok(handle) = handle::of_fd(fd) else {
            return Ok(Err(0));
        };
        let ino = HostIno(stat.st_ino);
        let scheme = self.scheme.unwrap_or_else(|| Scheme::of(&handle, ino));
        let generation = scheme.generation(&handle, ino);
        Ok(match (self.scheme, generation) {
            (Some(_), Some(generation)) => Ok(Way::Generation(generation)),
            (Some(_), None) => Ok(Way::Handle(digest(&handle), Box::new(handle))),
            (None, generation) => Err(generation.unwrap_or_else(|| digest(&handle))),
        })
    }

    /// Opens inode `ino`, found by `way`; with `None`, by its number alone.
    ///
    /// # Errors
    /// `ESTALE` when it is gone.
    pub fn open(&self, ino: HostIno, way: Option<&Way>, flags: OFlag) -> OpResult<OwnedFd> {
        let stale = OpError::Host(Errno::ESTALE);
        let scheme = self.scheme.ok_or_else(|| stale.clone())?;
        let handle = match way {
            Some(Way::Generation(generation)) => scheme.build(ino, *generation),
            Some(Way::Handle(_, handle)) => Some(**handle),
            Some(Way::Place(..)) => None,
            None => scheme.build(ino, ANY_GENERATION),
        };
        match handle::open(&self.mount, &handle.ok_or(stale.clone())?, flags) {
            // What the host says of a number that is just being given to a new
            // inode (`iget_locked`, fs/inode.c): the old one is gone.
            Err(Errno::ENOMEM) => Err(stale),
            opened => Ok(opened?),
        }
    }
}

/// Whether files in `dir` have its device number. An overlay with layers on
/// several file systems gives files those of their layers, and inode numbers
/// that differ only within one (Documentation/filesystems/overlayfs.rst, "Inode
/// properties"): two files would be one node.
///
/// # Errors
/// A file cannot be made there to look at.
pub(super) fn has_one_device(dir: &Path) -> std::io::Result<bool> {
    let file = tempfile::tempfile_in(dir)?.metadata()?;
    Ok(file.dev() == dir.metadata()?.dev())
}

/// FNV-1a: a generation for handles that do not show theirs.
fn digest(handle: &HostHandle) -> u32 {
    handle.bytes().iter().fold(0x811c_9dc5, |hash, &byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;

    #[test]
    fn schemes_rebuild_their_own_handles() {
        for scheme in [
            Scheme::Ino32Gen,
            Scheme::GenIno64,
            Scheme::Ino64Gen,
            Scheme::Subvolume(5),
        ] {
            let handle = scheme.build(HostIno(0x1234_5678), 99).unwrap();
            assert_eq!(scheme.generation(&handle, HostIno(0x1234_5678)), Some(99));
            assert_eq!(scheme.generation(&handle, HostIno(1)), None);
        }
    }

    #[test]
    fn an_inode_is_found_again_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &std::path::Path| {
            nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).unwrap()
        };
        let host = Host::probe(open(dir.path())).unwrap();
        assert!(
            host.has_handles(),
            "this test needs root and a host file system with handles"
        );
        let file = dir.path().join("f");
        std::fs::write(&file, "x").unwrap();
        let fd = open(&file);
        let stat = node::stat(&fd).unwrap();
        let way = host.way_to(&fd, &stat).unwrap().unwrap();
        std::fs::rename(&file, dir.path().join("g")).unwrap();
        let again = host
            .open(HostIno(stat.st_ino), Some(&way), OFlag::O_PATH)
            .unwrap();
        assert_eq!(node::stat(&again).unwrap().st_ino, stat.st_ino);
        drop((fd, again));
        std::fs::remove_file(dir.path().join("g")).unwrap();
        let gone = host.open(HostIno(stat.st_ino), Some(&way), OFlag::O_PATH);
        assert_eq!(gone.unwrap_err().errno(), Errno::ESTALE);
    }
}
