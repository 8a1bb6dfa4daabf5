//! The file system: what all operations share, and how they get from a node
//! to an open inode and back.
//!
//! Knows no transport: an operation takes and returns the types in
//! [`types`](super::types).

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::FileStat;
use parking_lot::RwLock;

use super::awake::Awake;
use super::by_handle::Places;
use super::charge::SizeLocks;
use super::counting::Counting;
use super::dir_cache::DirCache;
use super::disks::Disks;
use super::error::{OpError, OpResult};
use super::former_names::FormerNames;
use super::going::Going;
use super::ground::Ground;
use super::handles::{Handles, OpenInode};
use super::host::Host;
use super::kernel::Kernel;
use super::last_error::LastErrors;
use super::live::Live;
use super::naming::DirLocks;
use super::node::{Generation, HostIno, NodeId};
use super::nodes::{NodeTable, Place, Way};
use super::open_texts::OpenTexts;
use super::options::MountOptions;
use super::readers::Readers;
use super::reclaim::Reclaim;
use super::rewrite::Rewrites;
use super::stats::Stats;
use super::types::{Attr, Caller, Entry};
use super::volume_stats::VolumeStats;
use crate::model::{Kind, Slot, VolumeName};
use crate::sys::creds::Acting;
use crate::sys::{node, process};
use crate::volume::{Store, Volume};

/// The mounted file system, without its transport.
pub struct FileSystem {
    pub(super) store: Arc<Store>,
    pub(super) options: MountOptions,
    pub(super) nodes: NodeTable,
    pub(super) handles: Handles,
    pub(super) stats: Stats,
    pub(super) volume_stats: VolumeStats,
    pub(super) kernel: Kernel,
    /// With `--low-latency`.
    pub(super) awake: OnceLock<Awake>,
    pub(super) readers: Arc<Readers>,
    pub(super) last_errors: LastErrors,
    pub(super) open_texts: OpenTexts,
    pub(super) size_locks: SizeLocks,
    pub(super) rewrites: Rewrites,
    pub(super) dir_locks: DirLocks,
    pub(super) dir_cache: DirCache,
    pub(super) counting: Counting,
    /// Volumes that got their first limit during this mount.
    stale_caches: RwLock<HashSet<Slot>>,
    /// `st_dev` of the mount, once it is mounted.
    device: OnceLock<u64>,
    pub(super) disks: Disks,
    pub(super) live: Arc<Live>,
    pub(super) going: Going,
    pub(super) reclaim: Arc<Reclaim>,
    pub(super) former_names: FormerNames,
    pub(super) places: Places,
    /// What all directory volumes stand on.
    store_ground: Arc<Ground>,
}

/// A node inside a volume, with what it takes to get at it.
pub(super) struct Located {
    pub(super) volume: Arc<Volume>,
    pub(super) node: NodeId,
    pub(super) ground: Arc<Ground>,
}

/// A directory inside a volume, open (`O_PATH`) for calls by name.
pub(super) struct OpenDir {
    pub(super) at: Located,
    pub(super) fd: Arc<OwnedFd>,
}

impl FileSystem {
    /// Serves `store`.
    ///
    /// # Errors
    /// The store's directories cannot be opened.
    pub fn new(store: Arc<Store>, options: MountOptions) -> Result<Self, (PathBuf, Errno)> {
        Self::with_live(store, options, Arc::default())
    }

    /// As [`new`](Self::new), with what has to outlive this process in `live`.
    pub(super) fn with_live(
        store: Arc<Store>,
        options: MountOptions,
        live: Arc<Live>,
    ) -> Result<Self, (PathBuf, Errno)> {
        let path = store.dir().join("volumes");
        let ground = Ground::of_directories(&path, options.noatime)
            .map_err(|errno| (path.clone(), errno))?;
        let readers = Readers::new(options.threads);
        let reclaim = Arc::<Reclaim>::default();
        Ok(Self {
            store,
            options,
            nodes: NodeTable::new(live.known(), Arc::clone(&reclaim)),
            handles: Handles::new(Arc::clone(&live), Arc::clone(&reclaim)),
            stats: Stats::default(),
            volume_stats: VolumeStats::default(),
            kernel: Kernel::default(),
            awake: OnceLock::new(),
            readers,
            last_errors: LastErrors::default(),
            open_texts: OpenTexts::new(live.first_handle()),
            size_locks: SizeLocks::default(),
            rewrites: Rewrites::default(),
            dir_locks: DirLocks::default(),
            dir_cache: DirCache::default(),
            counting: Counting::default(),
            stale_caches: RwLock::default(),
            device: OnceLock::new(),
            disks: Disks::default(),
            live,
            going: Going::default(),
            reclaim,
            former_names: FormerNames::default(),
            places: Places::default(),
            store_ground: Arc::new(ground),
        })
    }

    /// The store that is served.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The file system that directory volumes are on.
    #[must_use]
    pub fn host(&self) -> &Host {
        self.store_ground.host()
    }

    /// Keeps processors awake while many requests come, from now on.
    ///
    /// # Errors
    /// This process may not.
    pub(super) fn stay_awake(&self) -> std::io::Result<()> {
        let _ = self.awake.set(Awake::new()?);
        Ok(())
    }

    /// What the kernel has agreed to, and the way to tell it of changes.
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Why the kernel is given no files of the store to read and write by
    /// itself, if that is because of the file system that the store is on.
    #[must_use]
    pub fn why_not_passed_through(&self) -> Option<&'static str> {
        self.store_ground.why_not_passed_through()
    }

    /// What all directory volumes stand on.
    pub(super) fn store_ground(&self) -> &Arc<Ground> {
        &self.store_ground
    }

    /// The device number (`st_dev`) of files of the mount.
    pub fn device(&self) -> Option<u64> {
        self.device.get().copied()
    }

    /// The mount is there, with this device number.
    pub(super) fn mounted_as(&self, device: u64) {
        let _ = self.device.set(device);
        let mount = super::holders::mount_side(self, device);
        self.store.set_mount_side(mount);
    }

    /// All counters of the mount, as in `.volfs/stats.json`.
    #[must_use]
    pub fn stats_json(&self) -> serde_json::Value {
        let mut json = self.stats.to_json();
        json["schema"] = 1.into();
        json["volumes"] = self.volumes_json();
        json["cached_nodes"] = self.nodes.len().into();
        json["open_files"] = self.handles.len().into();
        json["open_files_passthrough"] = self.handles.passthrough().into();
        json["attached_disks"] = self.disks.attached().into();
        json["passthrough"] = self.kernel.passes_through().into();
        json["store_full_refusals"] = self.store.full_refusals().into();
        if let Some(space) = self.store.disk_space() {
            json["store_size_bytes"] = space.size.0.into();
            json["store_available_bytes"] = space.available.0.into();
        }
        json["threads"] = self.readers.to_json();
        json["low_latency"] = self.awake.get().map(Awake::to_json).into();
        json
    }

    /// The counters of each volume that had a request, by name.
    fn volumes_json(&self) -> serde_json::Value {
        let open = self.handles.by_volume();
        self.store
            .volumes_after(None, usize::MAX)
            .into_iter()
            .filter_map(|(name, volume)| {
                let mut counters = self.volume_stats.to_json(volume.slot)?;
                counters["id"] = volume.id.to_string().into();
                counters["open_files"] = open.get(&volume.slot).copied().unwrap_or(0).into();
                Some((name.to_string(), counters))
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// The volume that `node` is in.
    pub(super) fn locate(&self, node: NodeId) -> OpResult<Located> {
        let slot = node.slot().ok_or(OpError::VolumeGone)?;
        let volume = self.store.volume_in(slot).ok_or(OpError::VolumeGone)?;
        let ground = self.ground(&volume)?;
        Ok(Located {
            volume,
            node,
            ground,
        })
    }

    /// The volume that `node` is in; nothing is attached for it.
    pub(super) fn volume_of(&self, node: NodeId) -> OpResult<Arc<Volume>> {
        let volume = node.slot().and_then(|slot| self.store.volume_in(slot));
        volume.ok_or(OpError::VolumeGone)
    }

    /// Opens the inode of a node with `flags`; `O_PATH` for one of any type.
    pub(super) fn open_located(&self, at: &Located, flags: OFlag) -> OpResult<OwnedFd> {
        let _as = Acting::daemon();
        let way = self.nodes.way(at.node);
        match way {
            Some(Way::Place(..)) => self.open_by_place(at, flags),
            _ if !at.ground.host().has_handles() => self.open_by_place(at, flags),
            way => at.ground.host().open(at.node.ino(), way.as_ref(), flags),
        }
    }

    /// Opens the inode of a node to look at it or to change it.
    pub(super) fn open_node(&self, node: NodeId) -> OpResult<(Located, OwnedFd)> {
        let at = self.locate(node)?;
        let fd = self.open_located(&at, OFlag::O_PATH)?;
        Ok((at, fd))
    }

    /// A directory that is open for calls by name already.
    pub(super) fn open_already(&self, node: NodeId) -> Option<Arc<OwnedFd>> {
        self.store.volume_in(node.slot()?)?;
        let generation = self.nodes.way(node)?.generation();
        self.dir_cache.get(node, generation)
    }

    /// Opens a directory for calls by name.
    pub(super) fn open_dir(&self, node: NodeId) -> OpResult<OpenDir> {
        let at = self.locate(node)?;
        // An image is kept attached by a directory that is open in it.
        let generation = match self.nodes.way(node) {
            Some(way) if at.volume.kind == Kind::Directory => Some(way.generation()),
            _ => None,
        };
        if let Some(fd) = generation.and_then(|it| self.dir_cache.get(node, it)) {
            let _as = Acting::daemon();
            return Ok(OpenDir { at, fd });
        }
        let fd = self.open_located(&at, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let fd = Arc::new(fd);
        if let Some(generation) = generation {
            self.dir_cache.put(node, generation, &fd);
            // Removed while this was on its way: otherwise it would stay.
            if self.nodes.gone(node).is_some() {
                self.dir_cache.remove(node);
            }
        }
        Ok(OpenDir { at, fd })
    }

    /// Opens a node by the names that lead to it from its volume's root, and
    /// makes sure that it is still the same inode.
    fn open_by_place(&self, at: &Located, flags: OFlag) -> OpResult<OwnedFd> {
        let is_root = |node: NodeId| {
            at.volume.kind == Kind::Disk && node.ino().0 == crate::diskimg::ROOT_INODE
        };
        let opened = self.path_in_volume(at.node, is_root).and_then(|names| {
            let root = at.ground.root_of(&at.volume)?;
            Ok(if names.as_os_str().is_empty() {
                root
            } else {
                node::open_path(&root, names.as_os_str())?
            })
        });
        let same = opened
            .and_then(|fd| Ok((node::stat(&fd)?.st_ino == at.node.ino().0).then_some(fd)))
            .ok()
            .flatten();
        let path = match same {
            Some(fd) => fd,
            // A file without a name lives on in its open handles.
            None => {
                let open = self
                    .handles
                    .any_of(at.node)
                    .ok_or(OpError::Host(Errno::ESTALE))?;
                let file = open.file.as_ref().ok_or(OpError::Host(Errno::ESTALE))?;
                let own = file.as_fd().try_clone_to_owned();
                own.map_err(|_| OpError::Host(Errno::EMFILE))?
            }
        };
        if flags.contains(OFlag::O_PATH) {
            return Ok(path);
        }
        Ok(node::reopen(path, flags)?)
    }

    /// The names from the volume's root to `node`, as far as they are known;
    /// `is_root` tells roots that have a number of their own.
    fn path_in_volume(&self, node: NodeId, is_root: impl Fn(NodeId) -> bool) -> OpResult<PathBuf> {
        /// `PATH_MAX` over the shortest component with its slash.
        const DEEPEST: usize = 2048;
        let mut names: Vec<OsString> = Vec::new();
        let mut current = node;
        let joined = |names: &[OsString]| names.iter().rev().collect();
        if is_root(node) {
            return Ok(PathBuf::new());
        }
        while let Some(Way::Place(_, place)) = self.nodes.way(current) {
            if place.parent == NodeId::ROOT {
                return Ok(joined(&names));
            }
            names.push(place.name);
            current = place.parent;
            if is_root(current) {
                return Ok(joined(&names));
            }
            if names.len() > DEEPEST {
                break;
            }
        }
        Err(OpError::Host(Errno::ESTALE))
    }

    /// Opens (`O_PATH`) the root directory of a volume.
    pub(super) fn volume_root(&self, volume: &Volume) -> OpResult<OwnedFd> {
        self.ground(volume)?.root_of(volume)
    }

    /// As [`volume_root`](Self::volume_root); `None` for a disk volume, whose
    /// root has always the same number.
    pub(super) fn volume_root_without_attaching(
        &self,
        volume: &Volume,
    ) -> OpResult<Option<OwnedFd>> {
        match volume.kind {
            Kind::Directory => self.volume_root(volume).map(Some),
            Kind::Disk => Ok(None),
        }
    }

    /// The node of the inode `fd`, which was found as `name` in `parent`. The
    /// kernel will count a lookup of it.
    pub(super) fn entry(
        &self,
        volume: &Volume,
        ground: &Ground,
        parent: NodeId,
        name: &OsStr,
        fd: impl AsFd,
    ) -> OpResult<Entry> {
        let stat = node::stat(fd.as_fd())?;
        self.entry_of(volume, ground, parent, name, fd, &stat)
    }

    /// As [`entry`](Self::entry), with the attributes that were just read.
    pub(super) fn entry_of(
        &self,
        volume: &Volume,
        ground: &Ground,
        parent: NodeId,
        name: &OsStr,
        fd: impl AsFd,
        stat: &FileStat,
    ) -> OpResult<Entry> {
        let node = self.node_id(volume, stat)?;
        let way = match ground.host().way_to(fd, stat)? {
            Ok(way) => way,
            Err(generation) => Way::Place(
                generation,
                Box::new(Place {
                    parent,
                    name: name.to_owned(),
                }),
            ),
        };
        let generation = Generation::new(volume.serial, way.generation());
        self.nodes.remember(node, way);
        Ok(Entry {
            attr: Attr::from_host(node, stat),
            generation,
            keep_attr: self.keeps_attr(node),
        })
    }

    /// The host's generation of a node that the kernel knows.
    pub(super) fn generation_of(&self, node: NodeId) -> Option<u32> {
        self.nodes.way(node).map(|way| way.generation())
    }

    /// The id of an inode of `volume`.
    pub(super) fn node_id(&self, volume: &Volume, stat: &FileStat) -> OpResult<NodeId> {
        NodeId::new(volume.slot, HostIno(stat.st_ino)).ok_or(OpError::InodeNumber(stat.st_ino))
    }

    /// Whether the kernel may keep attributes of `node`: not while somebody
    /// may write through a mapping that goes straight to the host's file.
    pub(super) fn keeps_attr(&self, node: NodeId) -> bool {
        !self.is_open_and(node, OpenInode::is_mapped_by_kernel)
    }

    /// Whether the account may be behind what the kernel has written to the
    /// host's file of `node` by itself.
    pub(super) fn needs_settling(&self, node: NodeId) -> bool {
        self.is_open_and(node, OpenInode::is_written_by_kernel)
    }

    fn is_open_and(&self, node: NodeId, is: impl FnOnce(&OpenInode) -> bool) -> bool {
        // Mostly nothing is.
        self.handles.passthrough() > 0 && self.handles.inode(node).is_some_and(|inode| is(&inode))
    }

    /// Cached pages of files in the volume may be old from now on: it was
    /// written by the kernel itself, and is no longer.
    pub(super) fn distrust_cache(&self, slot: Slot) {
        self.stale_caches.write().insert(slot);
        if let Some(volume) = self.store.volume_in(slot) {
            self.live.share(&volume);
            self.live.distrust_cache(volume.serial);
        }
    }

    /// Whether cached pages of the volume's files are kept over an open.
    pub(super) fn keeps_cache(&self, slot: Slot) -> bool {
        !self.stale_caches.read().contains(&slot)
    }

    /// Whether the caller may set limits and other properties of a volume.
    ///
    /// User id 0 alone is not enough: it is root's in a sandbox too, when that
    /// has no user ids of its own. There it lacks CAP_SYS_ADMIN, or has it in
    /// a user or pid namespace of its own.
    pub(super) fn is_operator(&self, caller: Caller) -> bool {
        let own = nix::unistd::geteuid().as_raw();
        process::shares_namespaces(caller.pid)
            && ((caller.is_root() && process::has_sys_admin(caller.pid))
                || (own != 0 && caller.uid == own))
    }
}

/// A name as the kernel sends it: one component.
///
/// # Errors
/// [`OpError::BadName`] for what would lead elsewhere; the kernel never sends
/// that, and nothing else may.
pub(super) fn component(name: &OsStr) -> OpResult<&OsStr> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err(OpError::BadName),
        bytes if bytes.contains(&b'/') || bytes.contains(&0) => Err(OpError::BadName),
        _ => Ok(name),
    }
}

/// The name of a volume, from a name at the root of the mount.
pub(super) fn volume_name(name: &OsStr) -> OpResult<VolumeName> {
    VolumeName::from_os(name).map_err(|error| OpError::Volume(error.into()))
}
