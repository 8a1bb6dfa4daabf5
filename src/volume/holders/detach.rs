//! Detaching the bind mounts of a volume that nobody uses.

use std::collections::HashSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::mount::{MntFlags, umount2};

use super::mounts::{Look, Target, View, Wanted, stored};
use super::store_place::StorePlace;
use super::survey::{MountSide, Sides};
use super::{Hold, Holder};
use crate::sys::mountinfo::MountInfo;

/// Detaches the bind mounts of a volume in this process's mount namespace.
/// Nobody may be using them; that is the caller's to know.
///
/// # Errors
/// The mount that is in the way, or that cannot be detached.
pub(crate) fn detach(
    wanted: &Wanted<'_>,
    mount: Option<MountSide>,
    store: &Path,
) -> Result<Vec<String>, Vec<Holder>> {
    let mut detached = Vec::new();
    let mut view = View::of("self");
    let place = StorePlace::of(store, &view.mounts);
    let sides = Sides {
        mount,
        mountpoints: Vec::new(),
        store: place.as_ref(),
    };
    view.in_the_way(wanted, &sides)?;
    // Each may be on top of another one, that can be looked at only then.
    for _ in 0..view.mounts.len() {
        let Some((fd, mount)) = view.last_of(wanted, &sides) else {
            break;
        };
        let mountpoint = &mount.mountpoint;
        // By what was looked at, not by its path.
        let it = format!("/proc/self/fd/{}", fd.as_raw_fd());
        match umount2(it.as_str(), MntFlags::MNT_DETACH) {
            Ok(()) => {
                log::info!("the bind mount on {mountpoint:?} is detached");
                detached.push(mountpoint.to_string_lossy().into_owned());
            }
            // Gone with another one, by propagation.
            Err(nix::errno::Errno::EINVAL) => {}
            Err(errno) => {
                log::error!("cannot detach {mountpoint:?}: {}", errno.desc());
                return Err(held(mountpoint, None));
            }
        }
        view = View::of("self");
    }
    Ok(detached)
}

impl View {
    /// The last mount of what is wanted that can be looked at.
    fn last_of(&self, wanted: &Wanted<'_>, sides: &Sides<'_>) -> Option<(OwnedFd, &MountInfo)> {
        let mut last_first = self.mounts.iter().rev();
        last_first.find_map(|mount| match self.look_at_ours(mount, wanted, sides)? {
            Look::Here(fd, ino) if is_wanted(mount, ino, wanted, sides) => Some((fd, mount)),
            _ => None,
        })
    }

    /// A mount that may be of what is wanted; `None` for any other.
    fn look_at_ours(
        &self,
        mount: &MountInfo,
        wanted: &Wanted<'_>,
        sides: &Sides<'_>,
    ) -> Option<Look> {
        let is_stored = |it: Target| it.is_of(wanted, None).is_some();
        let may_be = sides.mount.is_some_and(|side| side.device == mount.device)
            || stored(mount, sides).is_some_and(is_stored);
        may_be.then(|| self.look(mount))
    }

    /// Whether all mounts of what is wanted can be detached, and nothing goes
    /// with them.
    fn in_the_way(&self, wanted: &Wanted<'_>, sides: &Sides<'_>) -> Result<(), Vec<Holder>> {
        let (mut ours, mut doubtful) = (HashSet::new(), Vec::new());
        for mount in &self.mounts {
            match self.look_at_ours(mount, wanted, sides) {
                None => {}
                Some(Look::Here(_, ino)) if is_wanted(mount, ino, wanted, sides) => {
                    ours.insert(mount.id);
                }
                Some(Look::Here(..)) => {}
                Some(hidden) => {
                    let bound = stored(mount, sides).or_else(|| self.bound(mount));
                    if let Some(by_name) = bound.and_then(|it| it.is_of(wanted, None)) {
                        doubtful.push((mount, hidden, by_name));
                    }
                }
            }
        }
        for (mount, look, by_name) in &doubtful {
            // What is under one of ours comes to light with that.
            if !matches!(look, Look::Hidden(by) if ours.contains(by)) {
                return Err(held(&mount.mountpoint, by_name.clone()));
            }
        }
        // What is mounted on top would go, too, and is somebody else's.
        let is_doubtful = |id| doubtful.iter().any(|(mount, ..)| mount.id == id);
        let on_top = self.mounts.iter().find(|mount| {
            ours.contains(&mount.parent) && !ours.contains(&mount.id) && !is_doubtful(mount.id)
        });
        on_top.map_or(Ok(()), |mount| Err(held(&mount.mountpoint, None)))
    }
}

/// Whether a mount whose root has this inode number is of what is wanted.
fn is_wanted(mount: &MountInfo, ino: u64, wanted: &Wanted<'_>, sides: &Sides<'_>) -> bool {
    match stored(mount, sides) {
        Some(target) => target.is_of(wanted, None).is_some(),
        None => (wanted.is_node)(ino),
    }
}

/// A mount in this process's mount namespace.
fn held(mountpoint: &Path, by_name: Option<String>) -> Vec<Holder> {
    let holder = Holder {
        mountpoint: Some(mountpoint.to_string_lossy().into_owned()),
        by_name,
        ..Holder::unseen(Hold::BindMount)
    };
    vec![holder]
}
