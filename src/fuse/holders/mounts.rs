//! Mounts of directories of a volume: bind mounts and layers of overlays, in
//! any mount namespace; and detaching those that nobody uses.

use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use super::super::mountinfo::{self, MountInfo};
use crate::volume::{Hold, Holder};

/// The mounts of a process's mount namespace. Reading them asks no file system.
pub(super) fn of_process(pid: &str) -> Vec<MountInfo> {
    mountinfo::read(&PathBuf::from(format!("/proc/{pid}/mountinfo"))).unwrap_or_default()
}

/// How `mounts` use volumes of the mount with this device, and where; only
/// what `is_source` says to be of interest.
pub(super) fn uses(
    mounts: &[MountInfo],
    device: u64,
    is_source: &impl Fn(&str) -> bool,
) -> Vec<(Hold, PathBuf)> {
    let mut found = Vec::new();
    for mount in mounts {
        if mount.device == device {
            if mount.first_of_root().is_some_and(|first| is_source(&first)) {
                found.push((Hold::BindMount, mount.mountpoint.clone()));
            }
        } else if mount.fs_type == "overlay"
            && layers(&mount.options)
                .iter()
                .filter_map(|layer| volume_of(mounts, device, layer))
                .any(|volume| is_source(&volume))
        {
            found.push((Hold::Overlay, mount.mountpoint.clone()));
        }
    }
    found
}

/// The directories that an overlay is made of, as they were named then.
fn layers(options: &str) -> Vec<PathBuf> {
    let mut layers = Vec::new();
    for option in options.split(',') {
        match option.split_once('=') {
            Some(("upperdir" | "workdir" | "lowerdir+" | "datadir+", path)) => {
                layers.push(PathBuf::from(path));
            }
            Some(("lowerdir", paths)) => {
                layers.extend(
                    paths
                        .split(':')
                        .filter(|it| !it.is_empty())
                        .map(PathBuf::from),
                );
            }
            _ => {}
        }
    }
    layers
}

/// The volume that a path leads into, by the mount that it is on. Not by
/// looking: that would ask our own mount.
fn volume_of(mounts: &[MountInfo], device: u64, path: &Path) -> Option<String> {
    let on = mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.mountpoint))
        // Of several on one mountpoint the last is on top.
        .max_by_key(|mount| mount.mountpoint.components().count())?;
    if on.device != device {
        return None;
    }
    let below = path.strip_prefix(&on.mountpoint).ok()?;
    let whole = on.root.join(below);
    let first = whole
        .components()
        .find(|part| matches!(part, Component::Normal(_)))?;
    Some(first.as_os_str().to_string_lossy().into_owned())
}

/// Detaches the bind mounts of a volume in this process's mount namespace.
/// Nobody may be using them; that is the caller's to know.
///
/// # Errors
/// The mount that is in the way, or that cannot be detached.
pub(super) fn detach(
    device: u64,
    is_source: &impl Fn(&str) -> bool,
) -> Result<Vec<String>, Holder> {
    let mounts = of_process("self");
    let ours: Vec<PathBuf> = uses(&mounts, device, is_source)
        .into_iter()
        .map(|(_, mountpoint)| mountpoint)
        .collect();
    let held = |mountpoint: &Path, how| Holder {
        mountpoint: Some(mountpoint.to_string_lossy().into_owned()),
        ..Holder::unseen(how)
    };
    // What is mounted on top would go, too, and is somebody else's.
    let on_top = mounts.iter().find(|mount| {
        !ours.contains(&mount.mountpoint)
            && ours.iter().any(|ours| mount.mountpoint.starts_with(ours))
    });
    if let Some(mount) = on_top {
        return Err(held(&mount.mountpoint, Hold::BindMount));
    }
    let mut detached = Vec::new();
    // The last first: it may be on top of an earlier one.
    for mountpoint in ours.iter().rev() {
        let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
        match umount2(mountpoint, flags) {
            Ok(()) => {
                log::info!("the bind mount on {mountpoint:?} is detached");
                detached.push(mountpoint.to_string_lossy().into_owned());
            }
            // Gone with another one, by propagation.
            Err(nix::errno::Errno::EINVAL) => {}
            Err(errno) => {
                log::error!("cannot detach {mountpoint:?}: {}", errno.desc());
                return Err(held(mountpoint, Hold::BindMount));
            }
        }
    }
    Ok(detached)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(device: u64, root: &str, mountpoint: &str, fs_type: &str, options: &str) -> MountInfo {
        MountInfo {
            device,
            root: root.into(),
            mountpoint: mountpoint.into(),
            fs_type: fs_type.into(),
            source: "s".into(),
            options: options.into(),
        }
    }

    #[test]
    fn overlays_by_the_mounts_that_their_layers_are_on() {
        let mounts = [
            mount(1, "/", "/", "ext4", "rw"),
            mount(9, "/", "/mnt/vol", "fuse.volfs", "rw"),
            mount(9, "/cache/sub", "/c", "fuse.volfs", "rw"),
            mount(
                3,
                "/",
                "/merged",
                "overlay",
                "rw,lowerdir=/usr:/lib,upperdir=/mnt/vol/db/up,workdir=/mnt/vol/db/w",
            ),
            mount(4, "/", "/other", "overlay", "rw,lowerdir=/c/low:/etc"),
            mount(5, "/", "/third", "overlay", "rw,lowerdir=/mnt/volume:/etc"),
        ];
        let of = |name: &str| uses(&mounts, 9, &|first: &str| first == name);
        assert_eq!(of("db"), [(Hold::Overlay, "/merged".into())]);
        assert_eq!(
            of("cache"),
            [
                (Hold::BindMount, "/c".into()),
                (Hold::Overlay, "/other".into())
            ]
        );
        assert_eq!(of("up"), []);
    }
}
