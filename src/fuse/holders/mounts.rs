//! Mounts of directories of a volume: bind mounts and layers of overlays, in
//! any mount namespace; and detaching those that nobody uses.
//!
//! A mount is the volume's that the node is in which it shows, whatever the
//! volume was called then. That is looked at in the kernel's memory alone: to
//! ask our own mount would be to wait for ourselves. What cannot be looked at
//! (something else is mounted over it) is taken for every volume's that ever
//! had the name that it is listed under.

use std::cell::RefCell;
use std::collections::HashSet;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::mount::{MntFlags, umount2};

use super::{layers, links};
use crate::fuse::former_names::Called;
use crate::fuse::mountinfo::{self, MountInfo};
use crate::fuse::node::NodeId;
use crate::sys::node::{identity_of, open_cached, unique_mount_of};
use crate::volume::{Hold, Holder};

/// What a mount is looked for by.
pub(super) struct Wanted<'a> {
    /// `st_dev` of the mount that has the volume.
    pub(super) device: u64,
    /// Whether a node is of the volume.
    pub(super) is_node: &'a dyn Fn(NodeId) -> bool,
    /// Whether something of this name is, or was; as far as it is known before
    /// which mount the name was said.
    pub(super) called: &'a dyn Fn(&Shown, Option<u64>) -> Called,
}

/// What a path below the root of our mount shows, by its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shown {
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
        if first != crate::fuse::control_tree::NAME {
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
    mounts: Vec<MountInfo>,
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

/// What of our mount something shows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// It was looked at.
    Node(NodeId),
    /// What has this name, or had it.
    Named(Shown),
}

impl Target {
    /// Whether it is what is wanted; if that is concluded from a name, from
    /// which.
    fn is_of(&self, wanted: &Wanted<'_>, made_before: Option<u64>) -> Option<Option<String>> {
        match self {
            Self::Node(node) => (wanted.is_node)(*node).then_some(None),
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
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.targets.iter().filter_map(|it| match it {
            Target::Node(node) => Some(*node),
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
enum Look {
    /// The root of the mount.
    Here(OwnedFd, NodeId),
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

    /// Where the whole of our mount is.
    pub(super) fn mountpoints(&self, device: u64) -> Vec<PathBuf> {
        let whole = |mount: &&MountInfo| mount.device == device && mount.root == Path::new("/");
        let all = self.mounts.iter().filter(whole);
        all.map(|mount| mount.mountpoint.clone()).collect()
    }

    /// The mounts that show something of the mount of `device`; `mountpoints`
    /// are where that is in this process's mount namespace.
    pub(super) fn uses(&self, device: u64, mountpoints: &[PathBuf]) -> Vec<MountUse> {
        let mut found = Vec::new();
        let whole: HashSet<u64> = self
            .mounts
            .iter()
            .filter(|mount| mount.device == device && mount.root == Path::new("/"))
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
            if mount.device == device {
                add(Hold::BindMount, Vec::from_iter(self.bound(mount)));
            } else if mount.fs_type == "overlay" {
                add(Hold::Overlay, self.layers(mount, device, mountpoints));
            }
            // On a bind mount of a volume: that is said to use it.
            if whole.contains(&mount.parent) {
                let mountpoint = self.mountpoint_of(mount, device);
                add(Hold::MountInside, Vec::from_iter(mountpoint));
            }
        }
        found
    }

    /// What of ours is mounted on, where the whole of ours is mounted.
    fn mountpoint_of(&self, mount: &MountInfo, device: u64) -> Option<Target> {
        let above = mount.mountpoint.parent()?;
        let found = self.root.as_ref().and_then(|root| {
            let found = identity_of(open_cached(root, above).ok()?)?;
            let is_ours = found.device == device && found.mount == Some(mount.parent);
            is_ours.then(|| NodeId::from_raw(found.ino))
        });
        if let Some(node) = found.filter(|node| node.slot().is_some()) {
            return Some(Target::Node(node));
        }
        let on = self.mounts.iter().find(|on| on.id == mount.parent)?;
        let below = mount.mountpoint.strip_prefix(&on.mountpoint).ok()?;
        Shown::by(below).map(Target::Named)
    }

    /// What a mount out of ours shows.
    fn bound(&self, mount: &MountInfo) -> Option<Target> {
        match self.look(mount) {
            Look::Here(_, node) => Some(Target::Node(node)),
            Look::Hidden(_) | Look::Unknown => Shown::by(&mount.root).map(Target::Named),
        }
    }

    /// What of ours is a layer of an overlay.
    fn layers(&self, mount: &MountInfo, device: u64, mountpoints: &[PathBuf]) -> Vec<Target> {
        let of_layer = |layer: PathBuf| {
            let layer = self.follow(&layer, device);
            let Some((on, below)) = self.under(&layer, device) else {
                let below = layers::below_any(&layer, mountpoints)?;
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

    /// The id of a mount that is never given again.
    fn unique_id(&self, mount: &MountInfo) -> Option<u64> {
        match self.look(mount) {
            Look::Here(fd, _) => unique_mount_of(&fd),
            Look::Hidden(_) | Look::Unknown => None,
        }
    }

    /// Follows the links in the path of a layer, up to the mount of `device`.
    fn follow(&self, layer: &Path, device: u64) -> PathBuf {
        let may_look = |path: &Path| {
            let on = self.on(path);
            on.is_some_and(|on| on.device != device && links::answers_by_itself(&on.fs_type))
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

    fn look(&self, mount: &MountInfo) -> Look {
        let found = self.root.as_ref().and_then(|root| {
            let fd = open_cached(root, &mount.mountpoint).ok()?;
            let found = identity_of(&fd)?;
            Some((fd, found, found.mount?))
        });
        match found {
            Some((fd, found, id)) if id == mount.id => Look::Here(fd, NodeId::from_raw(found.ino)),
            Some((.., id)) => Look::Hidden(id),
            None => Look::Unknown,
        }
    }
}

/// The root directory of a process, `O_PATH`.
fn root_of(pid: &str) -> Option<OwnedFd> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty()).ok()
}

/// Detaches the bind mounts of a volume in this process's mount namespace.
/// Nobody may be using them; that is the caller's to know.
///
/// # Errors
/// The mount that is in the way, or that cannot be detached.
pub(super) fn detach(wanted: &Wanted<'_>) -> Result<Vec<String>, Vec<Holder>> {
    let mut detached = Vec::new();
    let mut view = View::of("self");
    view.in_the_way(wanted)?;
    // Each may be on top of another one, that can be looked at only then.
    for _ in 0..view.mounts.len() {
        let Some((fd, mount)) = view.last_of(wanted) else {
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
    fn last_of(&self, wanted: &Wanted<'_>) -> Option<(OwnedFd, &MountInfo)> {
        let ours = |mount: &&MountInfo| mount.device == wanted.device;
        let mut last_first = self.mounts.iter().rev().filter(ours);
        last_first.find_map(|mount| match self.look(mount) {
            Look::Here(fd, node) if (wanted.is_node)(node) => Some((fd, mount)),
            _ => None,
        })
    }

    /// Whether all mounts of what is wanted can be detached, and nothing goes
    /// with them.
    fn in_the_way(&self, wanted: &Wanted<'_>) -> Result<(), Vec<Holder>> {
        let (mut ours, mut doubtful) = (HashSet::new(), Vec::new());
        for mount in self.mounts.iter().filter(|it| it.device == wanted.device) {
            match self.look(mount) {
                Look::Here(_, node) if (wanted.is_node)(node) => {
                    ours.insert(mount.id);
                }
                Look::Here(..) => {}
                hidden => {
                    let bound = self.bound(mount);
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

/// A mount in this process's mount namespace.
fn held(mountpoint: &Path, by_name: Option<String>) -> Vec<Holder> {
    let holder = Holder {
        mountpoint: Some(mountpoint.to_string_lossy().into_owned()),
        by_name,
        ..Holder::unseen(Hold::BindMount)
    };
    vec![holder]
}

#[cfg(test)]
mod tests {
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
                device: 9,
                is_node: &|_| unreachable!("nothing can be looked at"),
                called: &called,
            };
            let places = view.mountpoints(9);
            let uses = view.uses(9, &places);
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
