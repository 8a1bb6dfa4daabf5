//! What a disk volume shows while its image is not attached: the attributes of
//! its root and its figures, from the image itself. So a listing or `df` over
//! a thousand volumes attaches none.

use std::fs::File;

use super::error::{OpError, OpResult};
use super::fs::FileSystem;
use super::node::{Generation, HostIno, NodeId};
use super::nodes::Way;
use super::root;
use super::types::{Attr, Entry, StatFs, Time};
use crate::diskimg::{self, ImageState, InodeTime, ROOT_INODE, RootInode, Summary};
use crate::model::{Bytes, Kind, Slot, Usage};
use crate::volume::{DiskState, Volume, VolumeInfo, Volumes};

/// Blocks that ext4 keeps back at most for delayed allocation
/// (`ext4_calculate_resv_clusters`, `fs/ext4/super.c`).
const MOST_KEPT_BACK: u64 = 4096;

/// What ext4 allows (`EXT4_NAME_LEN`).
const NAME_MAX: u32 = 255;

/// The generation of the root of a disk volume that the kernel is told. It must
/// be the same whoever reads the image: with another the kernel takes the root for
/// a new directory, and all use of what was reached through it is EIO
/// (`fuse_make_bad`). fuse2fs does not tell the one on the disk.
pub(super) fn root_generation(volume: &Volume) -> Generation {
    Generation::new(volume.serial, 0)
}

/// The node of the root directory of a disk volume.
pub(super) fn root_node(slot: Slot) -> OpResult<NodeId> {
    NodeId::new(slot, HostIno(ROOT_INODE)).ok_or(OpError::VolumeGone)
}

impl FileSystem {
    /// The disk volume that `node` is the root of.
    fn disk_of_root(&self, node: NodeId) -> Option<std::sync::Arc<Volume>> {
        let slot = node.slot().filter(|_| node.ino().0 == ROOT_INODE)?;
        let volume = self.store.volume_in(slot)?;
        (volume.kind == Kind::Disk).then_some(volume)
    }

    /// The image, if what is in it can be told without attaching it: it is not
    /// attached, and was cleanly unmounted or cannot be mounted here anyway.
    fn resting_image(&self, volume: &Volume) -> Option<(File, Summary)> {
        if volume.kind != Kind::Disk || self.attached_ground(volume).is_some() {
            return None;
        }
        let file = File::open(self.store.image_path(volume)).ok()?;
        let summary = diskimg::inspect(&file).ok()?;
        let as_it_is = summary.state == ImageState::Clean
            || self.is_open_as_image(volume)
            || self.read_only_because(volume).is_some();
        as_it_is.then_some((file, summary))
    }

    fn resting_inode(&self, volume: &Volume) -> Option<RootInode> {
        let (file, _) = self.resting_image(volume)?;
        let inode = diskimg::root_inode(&file).ok()?;
        // Whatever a guest has made of it, a volume is a directory.
        (u32::from(inode.mode) & libc::S_IFMT == libc::S_IFDIR).then_some(inode)
    }

    /// The attributes of the root of a volume whose image is not attached, and
    /// whether the kernel may keep them.
    pub(super) fn resting_attr(&self, node: NodeId) -> Option<(Attr, bool)> {
        let volume = self.disk_of_root(node)?;
        match self.resting_inode(&volume) {
            Some(inode) => Some((attr(node, &inode), !self.is_open_as_image(&volume))),
            // It must not hide that the volume is there.
            None if self.is_unreadable(&volume) => Some((root::missing_attr(node), false)),
            None => None,
        }
    }

    /// Whether nothing can be read of an image that is not attached.
    fn is_unreadable(&self, volume: &Volume) -> bool {
        self.attached_ground(volume).is_none()
            && (self.read_only_because(volume).is_some()
                || File::open(self.store.image_path(volume))
                    .map_or(true, |file| diskimg::inspect(&file).is_err()))
    }

    /// The entry of the root of a volume whose image is not attached.
    pub(super) fn resting_entry(&self, volume: &Volume) -> Option<Entry> {
        if volume.kind != Kind::Disk {
            return None;
        }
        let node = root_node(volume.slot).ok()?;
        let inode = self.resting_inode(volume)?;
        self.nodes.remember(node, Way::Generation(inode.generation));
        Some(Entry {
            attr: attr(node, &inode),
            generation: root_generation(volume),
            keep_attr: !self.is_open_as_image(volume),
        })
    }

    /// Whether `node` is the root of a volume that is not attached and has no
    /// extended attributes.
    pub(super) fn rests_without_attributes(&self, node: NodeId) -> bool {
        self.disk_of_root(node)
            .and_then(|volume| self.resting_inode(&volume))
            .is_some_and(|inode| !inode.has_attributes)
    }

    /// Size and free space of a volume whose image is not attached.
    pub(super) fn resting_space(&self, volume: &Volume) -> Option<StatFs> {
        let (_, summary) = self.resting_image(volume)?;
        let kept_back = (summary.blocks / 50).min(MOST_KEPT_BACK);
        Some(StatFs {
            block_size: summary.block_bytes,
            blocks: summary.blocks.saturating_sub(summary.overhead_blocks),
            free: summary.free_blocks,
            available: summary
                .free_blocks
                .saturating_sub(summary.reserved_blocks)
                .saturating_sub(kept_back),
            inodes: summary.inodes.into(),
            free_inodes: summary.free_inodes,
            name_max: NAME_MAX,
        })
    }

    /// All volumes, newest first, with what they hold now.
    pub(super) fn list(&self) -> crate::volume::Result<Vec<VolumeInfo>> {
        let list = self.store.list()?;
        Ok(list
            .into_iter()
            .map(|info| self.with_live_usage(info))
            .collect())
    }

    /// The volume's facts with what it holds now: while an image is attached
    /// its file is behind.
    pub(super) fn with_live_usage(&self, mut info: VolumeInfo) -> VolumeInfo {
        let volume = (info.kind == Kind::Disk)
            .then(|| self.store.volume(&info.name))
            .flatten();
        let errors = volume
            .as_ref()
            .is_some_and(|volume| self.has_errors(volume));
        let space = volume
            .and_then(|volume| self.attached_ground(&volume))
            .and_then(|ground| nix::sys::statvfs::fstatvfs(ground.any_dir()).ok());
        if let Some(space) = space {
            let blocks = space.blocks().saturating_sub(space.blocks_free());
            let inodes = space.files().saturating_sub(space.files_free());
            if let Some(disk) = &mut info.disk {
                if errors {
                    disk.state = DiskState::Damaged;
                }
                // While it is mounted it says that it was not unmounted.
                if disk.state == DiskState::NotUnmounted {
                    disk.state = DiskState::InUse;
                }
            }
            info.used = Usage {
                bytes: Bytes(blocks.saturating_mul(space.fragment_size())),
                inodes: inodes.saturating_sub(diskimg::RESERVED_INODES),
            };
        }
        info
    }

    /// The entry of the root of a disk volume whose image cannot be read: a
    /// directory that nobody can enter.
    pub(super) fn unreadable_entry(&self, volume: &Volume) -> OpResult<Entry> {
        let node = root_node(volume.slot)?;
        self.nodes.remember(node, Way::Generation(0));
        Ok(Entry {
            attr: root::missing_attr(node),
            generation: root_generation(volume),
            keep_attr: false,
        })
    }
}

fn attr(node: NodeId, inode: &RootInode) -> Attr {
    let time = |time: InodeTime| Time {
        seconds: time.seconds,
        nanoseconds: time.nanoseconds,
    };
    Attr {
        node,
        size: inode.size,
        blocks: inode.sectors.into(),
        atime: time(inode.accessed),
        mtime: time(inode.modified),
        ctime: time(inode.changed),
        mode: inode.mode.into(),
        nlink: inode.links.into(),
        uid: inode.uid,
        gid: inode.gid,
        rdev: 0,
        blksize: 4096,
    }
}
