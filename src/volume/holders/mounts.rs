//! Mounts of directories of a volume: bind mounts and layers of overlays, in
//! any mount namespace.
//!
//! A mount of the store's own file system is the volume's that its root is in,
//! by the path from the root of the file system. A mount of ours is the volume's that the node is in which it shows, whatever the
//! volume was called then. That is looked at in the kernel's memory alone: to
//! ask our own mount would be to wait for ourselves. What cannot be looked at
//! (something else is mounted over it) is taken for every volume's that ever
//! had the name that it is listed under.

use std::cell::RefCell;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::survey::{Sides, Thing};
use super::{Hold, layers, links};
use crate::model::VolumeId;
use crate::sys::mount_ns;
use crate::sys::mountinfo::{self, MountInfo};
use crate::sys::node::{identity_of, open_cached, unique_mount_of};

/// The directory of the mount that shows no volume.
pub(crate) const CONTROL_TREE: &str = ".volfs";

/// What a name says of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Called {
    /// It never was the volume's.
    Never,
    /// It is the volume's, and was no other's.
    Now,
    /// The volume had it, or has it after another one.
    Once,
}

/// What is looked for.
pub(crate) struct Wanted<'a> {
    /// Whether an inode of the mount is of the volume.
    pub(crate) is_node: &'a dyn Fn(u64) -> bool,
    /// Whether something of this name is, or was; as far as it is known before
    /// which mount the name was said.
    pub(crate) called: &'a dyn Fn(&Shown, Option<u64>) -> Called,
    /// Whether an inode of the store's file system is, or what is in this
    /// volume.
    pub(crate) is_stored: &'a dyn Fn(u64, Option<VolumeId>) -> bool,
}

impl Wanted<'_> {
    pub(super) fn is_thing(&self, thing: Thing) -> bool {
        match thing {
            Thing::OfMount(ino) => (self.is_node)(ino),
            Thing::Stored(ino, volume) => (self.is_stored)(ino, volume),
        }
    }
}

/// What a path below the root of our mount shows, by its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// The volume of this name, or something in it.
    Volume(String),
    /// The image of the volume of this name.
    Image(String),
    /// Something else of the control tree.
    Control,
}

impl Shown {
    /// `None` for the root itself.
    pub(super) fn by(below: &Path) -> Option<Self> {
        let mut names = below
            .components()
            .filter(|part| matches!(part, std::path::Component::Normal(_)))
            .map(|part| part.as_os_str().to_string_lossy().into_owned());
        let first = names.next()?;
        if first != CONTROL_TREE {
            return Some(Self::Volume(first));
        }
        let image = names.next().filter(|dir| dir == "disks").and(names.next());
        let name = image.and_then(|file| Some(file.strip_suffix(".raw")?.to_owned()));
        Some(name.map_or(Self::Control, Self::Image))
    }

    fn name(&self) -> Option<String> {
        match self {
            Self::Volume(name) | Self::Image(name) => Some(name.clone()),
            Self::Control => None,
        }
    }
}

/// The mounts that a process sees.
pub(super) struct View {
    root: Option<OwnedFd>,
    pub(super) mounts: Vec<MountInfo>,
    /// Paths that are no symbolic links.
    plain: RefCell<HashSet<PathBuf>>,
}

/// A mount that shows something of ours.
#[derive(Debug)]
pub(super) struct MountUse {
    pub(super) how: Hold,
    pub(super) id: u64,
    /// `st_dev` of what is mounted: the same for every mount of one overlay.
    pub(super) device: u64,
    pub(super) mountpoint: PathBuf,
    pub(super) fs_type: String,
    /// An overlay was there before the mount with this id was made, which is
    /// never given again; see [`mark`](crate::sys::mount::mark).
    pub(super) made_before: Option<u64>,
    /// All that it shows.
    targets: Vec<Target>,
}

/// What of ours something shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// It was looked at.
    Thing(Thing),
    /// What has this name, or had it.
    Named(Shown),
}

impl Target {
    /// Whether it is what is wanted; if that is concluded from a name, from
    /// which.
    pub(super) fn is_of(
        &self,
        wanted: &Wanted<'_>,
        made_before: Option<u64>,
    ) -> Option<Option<String>> {
        match self {
            Self::Thing(thing) => wanted.is_thing(*thing).then_some(None),
            Self::Named(shown) => match (wanted.called)(shown, made_before) {
                Called::Never => None,
                Called::Now => Some(None),
                Called::Once => Some(shown.name()),
            },
        }
    }
}

impl MountUse {
    /// Whether something that it shows is known by a name alone.
    pub(super) fn shows_by_name(&self) -> bool {
        let mut targets = self.targets.iter();
        targets.any(|it| matches!(it, Target::Named(_)))
    }

    /// What it shows that was looked at.
    pub(super) fn things(&self) -> impl Iterator<Item = Thing> {
        self.targets.iter().filter_map(|it| match it {
            Target::Thing(thing) => Some(*thing),
            Target::Named(_) => None,
        })
    }

    /// Whether it shows what is wanted; if that is concluded from a name, from
    /// which.
    pub(super) fn is_of(&self, wanted: &Wanted<'_>) -> Option<Option<String>> {
        let all = self.targets.iter();
        all.filter_map(|target| target.is_of(wanted, self.made_before))
            .min_by_key(Option::is_some)
    }
}

/// What is seen at the mountpoint of a mount.
pub(super) enum Look {
    /// The root of the mount, and its inode number.
    Here(OwnedFd, u64),
    /// The mount with this id.
    Hidden(u64),
    /// It cannot be known without asking a file system.
    Unknown,
}

impl View {
    /// Of a process; `self` for this one.
    pub(super) fn of(pid: &str) -> Self {
        Self {
            root: root_of(pid),
            mounts: mountinfo::read(&PathBuf::from(format!("/proc/{pid}/mountinfo")))
                .unwrap_or_default(),
            plain: RefCell::default(),
        }
    }

    /// Of the mount namespace that no process may be in.
    pub(super) fn in_namespace(namespace: &OwnedFd) -> Option<Self> {
        let proc = std::fs::File::open("/proc").ok()?;
        let look = || {
            let mounts = mountinfo::of_this_thread(&proc).unwrap_or_default();
            (open_root(Path::new("/")), mounts)
        };
        let (root, mounts) = mount_ns::inside(namespace, look).ok()?;
        Some(Self {
            root,
            mounts,
            plain: RefCell::default(),
        })
    }

    /// Where the whole of our mount is.
    pub(super) fn mountpoints(&self, device: u64) -> Vec<PathBuf> {
        let whole = |mount: &&MountInfo| mount.device == device && mount.root == Path::new("/");
        let all = self.mounts.iter().filter(whole);
        all.map(|mount| mount.mountpoint.clone()).collect()
    }

    /// The mounts that show something of our mount, or of volumes in the store.
    pub(super) fn uses(&self, sides: &Sides<'_>) -> Vec<MountUse> {
        let mut found = Vec::new();
        let device = sides.mount.map(|mount| mount.device);
        let whole: HashSet<u64> = self
            .mounts
            .iter()
            .filter(|mount| Some(mount.device) == device && mount.root == Path::new("/"))
            .map(|mount| mount.id)
            .collect();
        for mount in &self.mounts {
            let mut add = |how, targets: Vec<Target>| {
                if !targets.is_empty() {
                    found.push(MountUse {
                        how,
                        id: mount.id,
                        device: mount.device,
                        mountpoint: mount.mountpoint.clone(),
                        fs_type: mount.fs_type.clone(),
                        made_before: match how {
                            Hold::Overlay => self.unique_id(mount),
                            _ => None,
                        },
                        targets,
                    });
                }
            };
            if Some(mount.device) == device {
                add(Hold::BindMount, Vec::from_iter(self.bound(mount)));
            } else if mount.fs_type == "overlay" {
                add(Hold::Overlay, self.layers(mount, sides));
            } else {
                add(Hold::BindMount, Vec::from_iter(stored(mount, sides)));
            }
            // On a bind mount of a volume: that is said to use it.
            if whole.contains(&mount.parent) {
                let mountpoint = self.mountpoint_of(mount, sides);
                add(Hold::MountInside, Vec::from_iter(mountpoint));
            } else {
                let mountpoint = self.stored_mountpoint(mount, sides);
                add(Hold::MountInside, Vec::from_iter(mountpoint));
            }
        }
        found
    }

    /// The volume in the store that is mounted on, where that is not by a bind
    /// mount of the volume.
    fn stored_mountpoint(&self, mount: &MountInfo, sides: &Sides<'_>) -> Option<Target> {
        let store = sides.store?;
        let mut above = self.mounts.iter();
        let on = above.find(|on| on.id == mount.parent && on.device == store.mount_device)?;
        let is_bound = store.volume_in_fs(&on.root).is_some();
        let below = mount.mountpoint.strip_prefix(&on.mountpoint).ok()?;
        let id = store
            .volume_in_fs(&on.root.join(below))
            .filter(|_| !is_bound)?;
        Some(Target::Thing(Thing::Stored(0, Some(id))))
    }

    /// What of ours is mounted on, where the whole of ours is mounted.
    fn mountpoint_of(&self, mount: &MountInfo, sides: &Sides<'_>) -> Option<Target> {
        let side = sides.mount?;
        let above = mount.mountpoint.parent()?;
        let found = self.root.as_ref().and_then(|root| {
            let found = identity_of(open_cached(root, above).ok()?)?;
            let is_ours = found.device == side.device && found.mount == Some(mount.parent);
            is_ours.then_some(found.ino)
        });
        if let Some(ino) = found.filter(|ino| (side.in_volume)(*ino)) {
            return Some(Target::Thing(Thing::OfMount(ino)));
        }
        let on = self.mounts.iter().find(|on| on.id == mount.parent)?;
        let below = mount.mountpoint.strip_prefix(&on.mountpoint).ok()?;
        Shown::by(below).map(Target::Named)
    }

    /// What a mount out of ours shows.
    pub(super) fn bound(&self, mount: &MountInfo) -> Option<Target> {
        match self.look(mount) {
            Look::Here(_, ino) => Some(Target::Thing(Thing::OfMount(ino))),
            Look::Hidden(_) | Look::Unknown => Shown::by(&mount.root).map(Target::Named),
        }
    }

    /// What of ours is a layer of an overlay.
    fn layers(&self, mount: &MountInfo, sides: &Sides<'_>) -> Vec<Target> {
        let device = sides.mount.map(|mount| mount.device);
        let of_layer = |layer: PathBuf| {
            let layer = self.follow(&layer, device);
            if let Some(id) = self.stored_layer(&layer, sides) {
                return Some(Target::Thing(Thing::Stored(0, Some(id))));
            }
            let Some((on, below)) = device.and_then(|device| self.under(&layer, device)) else {
                let below = layers::below_any(&layer, &sides.mountpoints)?;
                return Shown::by(&below).map(Target::Named);
            };
            match Shown::by(&on.root) {
                Some(_) => self.bound(on),
                None => Shown::by(below).map(Target::Named),
            }
        };
        let layers = layers::of(&mount.options).into_iter();
        layers.filter_map(of_layer).collect()
    }

    /// The volume in the store that a layer is in.
    fn stored_layer(&self, layer: &Path, sides: &Sides<'_>) -> Option<VolumeId> {
        let store = sides.store?;
        let under = self.under(layer, store.mount_device);
        let here = under.and_then(|(on, below)| store.volume_in_fs(&on.root.join(below)));
        here.or_else(|| store.volume_in_jail(layer))
    }

    /// The id of a mount that is never given again.
    fn unique_id(&self, mount: &MountInfo) -> Option<u64> {
        match self.look(mount) {
            Look::Here(fd, _) => unique_mount_of(&fd),
            Look::Hidden(_) | Look::Unknown => None,
        }
    }

    /// Follows the links in the path of a layer, up to the mount of `device`.
    fn follow(&self, layer: &Path, device: Option<u64>) -> PathBuf {
        let may_look = |path: &Path| {
            let on = self.on(path);
            on.is_some_and(|on| Some(on.device) != device && links::answers_by_itself(&on.fs_type))
        };
        match &self.root {
            Some(root) if layer.is_absolute() => {
                links::follow(root, layer, &mut self.plain.borrow_mut(), may_look)
            }
            _ => layer.to_owned(),
        }
    }

    /// Which mount of `device` a path is on, and where; `None` when it is on
    /// another's.
    fn under<'p>(&self, path: &'p Path, device: u64) -> Option<(&MountInfo, &'p Path)> {
        let on = self.on(path).filter(|on| on.device == device)?;
        Some((on, path.strip_prefix(&on.mountpoint).ok()?))
    }

    /// The mount that a path is on.
    fn on(&self, path: &Path) -> Option<&MountInfo> {
        self.mounts
            .iter()
            .filter(|mount| path.starts_with(&mount.mountpoint))
            // Of several on one mountpoint the last is on top.
            .max_by_key(|mount| mount.mountpoint.components().count())
    }

    pub(super) fn look(&self, mount: &MountInfo) -> Look {
        let found = self.root.as_ref().and_then(|root| {
            let fd = open_cached(root, &mount.mountpoint).ok()?;
            let found = identity_of(&fd)?;
            Some((fd, found, found.mount?))
        });
        match found {
            Some((fd, found, id)) if id == mount.id => Look::Here(fd, found.ino),
            Some((.., id)) => Look::Hidden(id),
            None => Look::Unknown,
        }
    }
}

/// What of a volume in the store a mount of the store's file system shows.
pub(super) fn stored(mount: &MountInfo, sides: &Sides<'_>) -> Option<Target> {
    let store = sides.store?;
    let is_of_store = mount.device == store.mount_device;
    let id = is_of_store.then(|| store.volume_in_fs(&mount.root))??;
    Some(Target::Thing(Thing::Stored(0, Some(id))))
}

/// The root directory of a process, `O_PATH`.
fn root_of(pid: &str) -> Option<OwnedFd> {
    open_root(Path::new(&format!("/proc/{pid}/root")))
}

fn open_root(path: &Path) -> Option<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::super::survey::MountSide;
    use super::*;

    fn mount(device: u64, root: &str, mountpoint: &str, fs_type: &str, options: &str) -> MountInfo {
        MountInfo {
            id: mountpoint.len() as u64,
            parent: 0,
            device,
            root: root.into(),
            mountpoint: mountpoint.into(),
            flags: "rw".into(),
            fs_type: fs_type.into(),
            source: "s".into(),
            options: options.into(),
        }
    }

    #[test]
    fn by_name_where_nothing_can_be_looked_at() {
        let view = View {
            root: None,
            plain: RefCell::default(),
            mounts: vec![
                mount(1, "/", "/", "ext4", "rw"),
                mount(9, "/", "/mnt/vol", "fuse.volfs", "rw"),
                mount(9, "/cache//deleted", "/c", "fuse.volfs", "rw"),
                mount(
                    9,
                    "/.volfs/disks/cache.raw",
                    "/disk.raw",
                    "fuse.volfs",
                    "rw",
                ),
                mount(9, "/.volfs", "/control", "fuse.volfs", "rw"),
                mount(
                    3,
                    "/",
                    "/merged",
                    "overlay",
                    "rw,lowerdir=/usr:/lib,upperdir=/mnt/vol/db/up,workdir=/mnt/vol/db/w",
                ),
                mount(4, "/", "/other", "overlay", "rw,lowerdir=/c/low:/etc"),
                mount(5, "/", "/third!", "overlay", "rw,lowerdir=/mnt/volume:/etc"),
                mount(
                    6,
                    "/",
                    "/in-a-jail",
                    "overlay",
                    "rw,lowerdir=/oldroot/mnt/vol/old/up",
                ),
            ],
        };
        let of = |wanted: &str| {
            let called = |shown: &Shown, _: Option<u64>| match shown {
                Shown::Volume(name) if name == wanted => Called::Now,
                Shown::Image(name) if name == wanted => Called::Once,
                _ => Called::Never,
            };
            let wanted = Wanted {
                is_node: &|_| unreachable!("nothing can be looked at"),
                called: &called,
                is_stored: &|_, _| unreachable!("no store was looked for"),
            };
            let uses = view.uses(&Sides {
                mount: Some(MountSide {
                    device: 9,
                    in_volume: |_| unreachable!("nothing can be looked at"),
                    keeper: None,
                }),
                mountpoints: view.mountpoints(9),
                store: None,
            });
            uses.into_iter()
                .filter_map(|it| {
                    let by_name = it.is_of(&wanted)?;
                    Some((it.how, it.mountpoint.to_str().unwrap().to_owned(), by_name))
                })
                .collect::<Vec<_>>()
        };
        let overlay = |at: &str| (Hold::Overlay, at.to_owned(), None);
        let bind =
            |at: &str, by: Option<&str>| (Hold::BindMount, at.to_owned(), by.map(str::to_owned));
        assert_eq!(of("db"), [overlay("/merged")]);
        assert_eq!(
            of("cache"),
            [
                bind("/c", None),
                bind("/disk.raw", Some("cache")),
                overlay("/other")
            ]
        );
        assert_eq!(of("old"), [overlay("/in-a-jail")]);
        assert_eq!(of("up"), []);
    }
}
