//! The volumes' directories in the store as others reach them without a mount:
//! which volume an inode of the store's file system is in, and a mount of it.
//!
//! By device and inode, and by the path from the root of the file system, which
//! are the same in every mount namespace. The path that a process would say is
//! its own.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{AT_FDCWD, OFlag, readlinkat};
use parking_lot::Mutex;

use super::Hold;
use super::survey::{Thing, Use};
use crate::diskimg;
use crate::model::VolumeId;
use crate::sys::filesystem::Server;
use crate::sys::mountinfo::MountInfo;
use crate::sys::node::{identity_of, proc_path};
use crate::sys::process::command_of;
use crate::sys::procfs::Proc;
use crate::sys::{creds, handle};
use crate::volume::layout::{Layout, Place};

/// Where in a store volumes are that somebody may use.
const PLACES: [Place; 2] = [Place::Volumes, Place::Trash];

/// The place of a store's volumes.
#[derive(Debug)]
pub(super) struct StorePlace {
    /// Their directories, as this process sees them.
    paths: [PathBuf; 2],
    /// The first of them, for handles; `None` where those cannot be opened.
    dir: Option<OwnedFd>,
    /// `st_dev` of what is in it.
    device: u64,
    /// The device of its file system, as mounts and mappings have it: btrfs has
    /// others for its subvolumes.
    pub(super) mount_device: u64,
    /// Their directories, from the root of the file system.
    in_fs: [PathBuf; 2],
}

impl StorePlace {
    /// Of the store in the directory `store`; `mounts` are those of this process.
    /// `None` when it cannot be looked at.
    pub(super) fn of(store: &Path, mounts: &[MountInfo]) -> Option<Self> {
        let layout = Layout::new(store);
        let paths = PLACES.map(|place| layout.place(place));
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::fcntl::open(&paths[0], flags, nix::sys::stat::Mode::empty()).ok()?;
        let found = identity_of(&dir)?;
        let mount = mounts.iter().find(|mount| Some(mount.id) == found.mount)?;
        let below = |path: &PathBuf| path.strip_prefix(&mount.mountpoint).ok().map(PathBuf::from);
        let in_fs = [below(&paths[0])?, below(&paths[1])?].map(|below| mount.root.join(below));
        // Those of FUSE are good only until the kernel forgets the inode.
        let by_handle = Server::of(&dir) != Ok(Server::Process)
            && creds::has(creds::Capability::DacReadSearch)
            && handle::of_fd(&dir).is_ok_and(|it| handle::open(&dir, &it, OFlag::O_PATH).is_ok());
        Some(Self {
            device: found.device,
            mount_device: mount.device,
            in_fs,
            dir: Some(dir).filter(|_| by_handle),
            paths,
        })
    }

    /// The volume that a path is in, as this process says it.
    pub(super) fn volume_at(&self, path: &Path) -> Option<VolumeId> {
        below(&self.paths, path)
    }

    /// The volume that a path from the root of the file system is in.
    pub(super) fn volume_in_fs(&self, path: &Path) -> Option<VolumeId> {
        below(&self.in_fs, path)
    }

    /// The volume that a path is in which somebody has said who had the store's
    /// directories at another place: a jail, for the moment in which it mounts.
    pub(super) fn volume_in_jail(&self, path: &Path) -> Option<VolumeId> {
        let below = super::layers::below_any(path, &self.paths)?;
        id_of(&below)
    }

    /// The volume that the inode of `fd` is in, which is of the store's file
    /// system, whatever mount it was opened on.
    fn volume_of(&self, dir: &OwnedFd, fd: impl AsFd) -> Option<VolumeId> {
        let handle = handle::of_fd(fd).ok()?;
        let again = handle::open(dir, &handle, OFlag::O_PATH).ok()?;
        let path = readlinkat(AT_FDCWD, &proc_path(again.as_fd())).ok()?;
        self.volume_at(Path::new(&path))
    }
}

/// The volume that `path` is in or is, if it is below one of `places`.
fn below(places: &[PathBuf; 2], path: &Path) -> Option<VolumeId> {
    let below = |place: &PathBuf| path.strip_prefix(place).ok();
    id_of(places.iter().find_map(below)?)
}

fn id_of(path: &Path) -> Option<VolumeId> {
    match path.components().next()? {
        Component::Normal(id) => id.to_str()?.parse().ok(),
        _ => None,
    }
}

/// Finds out which volume the files of the store are in that processes have,
/// each file once.
#[derive(Debug)]
pub(super) struct Finder<'a> {
    place: &'a StorePlace,
    /// What was found, by inode; `None` where that is not asked for. A leaf lock.
    known: Option<Mutex<HashMap<u64, Option<VolumeId>>>>,
}

impl<'a> Finder<'a> {
    /// With `finds` not set files are told by their inodes alone.
    pub(super) fn new(place: &'a StorePlace, finds: bool) -> Self {
        Self {
            place,
            known: finds.then(Mutex::default),
        }
    }

    /// Whether files with this device number are on the store's file system.
    pub(super) fn is_on(&self, device: u64) -> bool {
        device == self.place.device || device == self.place.mount_device
    }

    /// The uses of volumes among what a process has of the store's file system:
    /// how, by which link (`cwd`, the number of a descriptor, the place of a
    /// mapping), and the inode.
    pub(super) fn uses(
        &self,
        proc: &Proc,
        (pid, at): (i32, i32),
        stored: Vec<(Hold, String, u64)>,
    ) -> Vec<Use> {
        let mut uses = Vec::new();
        for (how, link, ino) in stored {
            let volume = match &self.known {
                None => None,
                Some(known) => {
                    let before = known.lock().get(&ino).copied();
                    let found = before.unwrap_or_else(|| self.find(proc, at, how, &link));
                    if before.is_none() {
                        known.lock().insert(ino, found);
                    }
                    if found.is_none() {
                        continue;
                    }
                    found
                }
            };
            let what = Thing::Stored(ino, volume);
            uses.push(Use::Process { pid, how, what });
        }
        if self.known.is_some() && !uses.is_empty() && is_our_fuse2fs(pid) {
            uses.clear();
        }
        uses
    }

    fn find(&self, proc: &Proc, at: i32, how: Hold, link: &str) -> Option<VolumeId> {
        let link = match how {
            Hold::Mapping => format!("map_files/{link}"),
            Hold::OpenFile => format!("fd/{link}"),
            _ => link.to_owned(),
        };
        match &self.place.dir {
            Some(dir) => self.place.volume_of(dir, proc.open_link(at, &link).ok()?),
            None => self.place.volume_at(&proc.read_link(at, &link).ok()?),
        }
    }
}

/// Whether a process serves an image for a daemon (`diskimg`), which uses it on
/// behalf of others.
fn is_our_fuse2fs(pid: i32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mark = diskimg::FUSE2FS_MOUNT.as_bytes();
    let has_mark = |argument: &[u8]| argument.windows(mark.len()).any(|part| part == mark);
    command_of(pid).is_some_and(|it| it == "fuse2fs") && line.split(|&byte| byte == 0).any(has_mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volume_of_a_path() {
        let id = VolumeId::random();
        let place = StorePlace {
            paths: ["/s/volumes".into(), "/s/trash".into()],
            dir: None,
            device: 1,
            mount_device: 1,
            in_fs: ["/@/s/volumes".into(), "/@/s/trash".into()],
        };
        for (path, wanted) in [
            ("volumes/ID/data/f", true),
            ("volumes/ID", true),
            ("trash/ID/data//deleted", true),
            ("volumes/ID (deleted)", false),
            ("volumes", false),
            ("tmp/ID/data", false),
            ("volumes/other/ID", false),
        ] {
            let path = path.replace("ID", &id.to_string());
            let wanted = wanted.then_some(id);
            assert_eq!(
                place.volume_at(&Path::new("/s").join(&path)),
                wanted,
                "{path}"
            );
            assert_eq!(place.volume_in_fs(&Path::new("/@/s").join(&path)), wanted);
            assert_eq!(
                place.volume_in_jail(&Path::new("/old/s").join(&path)),
                wanted
            );
            assert_eq!(place.volume_at(&Path::new("/t").join(&path)), None);
        }
    }
}
