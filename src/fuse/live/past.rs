//! What an earlier process left, and how this one goes on with it: the kernel
//! knows the same nodes and has the same files open.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::accounts;
use super::charges::{self, Known};
use super::image_key::ImageKey;
use super::known;
use super::layout::State;
use super::names;
use super::open_files::{self, PastHandle, PastInode, WayIn};
use super::resume;
use crate::diskimg::{Attached, MountedImage};
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::FileSystem;
use crate::fuse::ground::Ground;
use crate::fuse::handles::{Descriptor, NewHandle};
use crate::fuse::handshake::Negotiated;
use crate::fuse::image_file;
use crate::fuse::node::NodeId;
use crate::fuse::nodes::Way;
use crate::fuse::ops::host_flags;
use crate::fuse::successor::Inherited;
use crate::fuse::types::DataPath;
use crate::fuse::view::is_view;
use crate::keeper::{Kept, Kind, Place};
use crate::model::Slot;
use crate::sys::node;
use crate::sys::shared::SharedFile;
use crate::volume::Volume;

/// Numbers of host files that the dead process may have got and not noted are
/// no further than this from the last that it noted.
const BACKINGS: u32 = 64;

/// What an earlier process left.
pub(in crate::fuse) struct Past {
    device: OwnedFd,
    state: State,
    state_place: Place,
    /// Nodes of open files without a name, and where the supervisor keeps them:
    /// that does, so that they need no descriptor here beside that of each open
    /// file.
    unnamed: Vec<(NodeId, Place)>,
    images: Vec<Kept>,
    gone: Vec<Kept>,
}

/// How it was served, when its state has been taken over.
pub(in crate::fuse) struct Terms {
    /// What was agreed with the kernel.
    pub(in crate::fuse) negotiated: Negotiated,
    /// Where the supervisor keeps the state of the dead process.
    pub(in crate::fuse) state_place: Place,
}

impl Past {
    /// `None` for the first process.
    pub(super) fn of(mut inherited: Inherited) -> io::Result<Option<Self>> {
        let device = inherited.take(Kind::Device).pop();
        let state = inherited.take(Kind::State).pop();
        let (Some(device), Some(state)) = (device, state) else {
            return Ok(None);
        };
        Ok(Some(Self {
            device: device.fd,
            state: State::read(SharedFile::open(state.fd)?)?,
            state_place: state.place,
            unnamed: inherited
                .take(Kind::Unnamed)
                .into_iter()
                .map(|kept| (NodeId::from_raw(kept.key), kept.place))
                .collect(),
            images: inherited.take(Kind::Image),
            gone: inherited.take(Kind::Gone),
        }))
    }

    /// How many processes there were before the one that left it.
    pub(super) fn generation(&self) -> u64 {
        self.state.generation()
    }

    /// The device that requests come from.
    pub(in crate::fuse) fn device(&self) -> &OwnedFd {
        &self.device
    }

    /// Goes on with it. Changes nothing on disk: a process that dies in here
    /// leaves the next one the same.
    pub(in crate::fuse) fn restore(mut self, fs: &FileSystem) -> io::Result<(OwnedFd, Terms)> {
        let negotiated = self.state.negotiated()?;
        for past in known::nodes(&self.state) {
            let way = Way::Generation(past.generation);
            fs.nodes.restore(past.node, way, past.lookups);
        }
        let mut gone: HashMap<u64, Kept> = std::mem::take(&mut self.gone)
            .into_iter()
            .map(|kept| (kept.key, kept))
            .collect();
        for attr in known::gone(&self.state) {
            let kept = gone.remove(&attr.node.raw());
            let (fd, place) = kept.map(|kept| (kept.fd, kept.place)).unzip();
            // As far as can be seen.
            let size = fd.as_ref().and_then(|fd| node::shape(fd).ok());
            let emptied = size.is_none_or(|now| now.size == 0) && attr.size > 0;
            fs.nodes.set_gone(attr.node, attr, fd, (emptied, false));
            if let Some(place) = place {
                fs.nodes.set_kept(attr.node, fs.live.kept_here(place));
            }
        }
        for kept in gone.into_values() {
            fs.live.drop_kept(Some(kept.place));
        }
        for kept in std::mem::take(&mut self.images) {
            restore_image(fs, kept);
        }
        let lost = self.restore_open_files(fs);
        for &(node, place) in &self.unnamed {
            fs.live.drop_kept(fs.handles.keep(node, place));
        }
        let mut accounts: HashMap<_, _> = accounts::all(&self.state)
            .into_iter()
            .map(|past| (past.serial, past))
            .collect();
        charges::settle(fs, &self.state, &mut accounts);
        let former = names::all(&self.state);
        for volume in fs.store.all_volumes() {
            for (_, name) in former.iter().filter(|(serial, _)| *serial == volume.serial) {
                fs.former_names.go_on(&fs.store, &fs.live, &volume, name);
            }
            if let Some(past) = accounts.get(&volume.serial) {
                // The last close of a file would give its charge back.
                if past.exact && !lost.contains(&volume.slot) {
                    fs.store.adopt_count(&volume, past.used);
                }
                fs.live.share(&volume);
                if past.stale_cache {
                    fs.distrust_cache(volume.slot);
                }
            }
        }
        resume::take_over(fs, &self.state)?;
        let terms = Terms {
            negotiated,
            state_place: self.state_place,
        };
        Ok((self.device, terms))
    }

    /// Opens again what was open. Returns the volumes in which a file could not be.
    fn restore_open_files(&self, fs: &FileSystem) -> HashSet<Slot> {
        let mut lost = HashSet::new();
        let inodes: HashMap<NodeId, PastInode> = open_files::inodes(&self.state)
            .into_iter()
            .map(|inode| (inode.node, inode))
            .collect();
        let mut backings = HashMap::new();
        for inode in inodes.values() {
            // Dropped, and so closed, where no open file uses it any more.
            let backing = inode.backing.and_then(|id| fs.kernel.backing(id));
            backings.insert(inode.node, backing);
        }
        for handle in open_files::handles(&self.state) {
            let Some(inode) = inodes.get(&handle.node) else {
                log::error!("an open file of {:?} is not known any more", handle.node);
                continue;
            };
            let backing = backings.get(&handle.node).cloned().flatten();
            let path = match (handle.way, backing) {
                (WayIn::Passthrough, Some(backing)) => DataPath::Passthrough(backing),
                (WayIn::Direct, backing) => DataPath::Direct(backing),
                _ => DataPath::Cached { keep: true },
            };
            if let Err(error) = restore_handle(fs, &handle, inode, &path) {
                log::error!("an open file of {:?} is lost: {error}", handle.node);
                lost.extend(handle.node.slot());
            }
        }
        let last = self
            .state
            .backing()
            .load(std::sync::atomic::Ordering::Relaxed);
        let last = u32::try_from(last).unwrap_or(u32::MAX);
        let noted: HashSet<u32> = inodes.values().filter_map(|inode| inode.backing).collect();
        for id in last.saturating_sub(BACKINGS).max(1)..=last.saturating_add(BACKINGS) {
            if !noted.contains(&id) {
                drop(fs.kernel.backing(id));
            }
        }
        fs.live.registered(last);
        lost
    }
}

fn restore_image(fs: &FileSystem, kept: Kept) {
    let key = ImageKey::decode(kept.key);
    let image = fs.live.kept_here(kept.place);
    let Some(volume) = Slot::new(key.slot).and_then(|slot| fs.store.volume_in(slot)) else {
        log::error!("an image is attached whose volume is gone");
        return;
    };
    let path = fs.store.image_path(&volume);
    let ground = Attached::from_mount(kept.fd, key.device, key.errors)
        .map_err(|error| OpError::Host(error.errno()))
        .and_then(|it| Ground::of_image(MountedImage::Kernel(it), path, Some(image)));
    match ground {
        Ok(ground) => fs.go_on_with_ground(&volume, ground),
        Err(error) => log::error!("volume {} is detached: {error}", volume.name()),
    }
}

fn restore_handle(
    fs: &FileSystem,
    past: &PastHandle,
    inode: &PastInode,
    path: &DataPath,
) -> OpResult<()> {
    let passthrough = matches!(path, DataPath::Passthrough(_));
    let new = |volume: Arc<Volume>, ground, file: Option<Arc<Descriptor>>, size| NewHandle {
        volume,
        ground,
        flags: past.flags,
        file,
        size,
        generation: inode.generation,
        process: past.process,
    };
    if image_file::is_image(past.node) {
        return image_file::restore(fs, past, path);
    }
    if is_view(past.node) {
        let volume = fs.volume_of(past.node)?;
        let ground = Arc::clone(fs.store_ground());
        let handle = new(volume, ground, None, 0);
        fs.handles
            .opening(past.node)
            .commit_as(past.fh, handle, path);
        return Ok(());
    }
    let at = fs.locate(past.node)?;
    let open = |flags| match (fs.nodes.way(past.node), inode.generation) {
        (None, Some(generation)) => {
            let way = Way::Generation(generation);
            at.ground.host().open(past.node.ino(), Some(&way), flags)
        }
        _ => fs.open_located(&at, flags),
    };
    let found = open(OFlag::O_PATH)?;
    let stat = node::stat(&found)?;
    let file = if passthrough {
        None
    } else {
        let flags = host_flags(past.flags);
        let shared = fs.handles.inode(past.node);
        let shared = shared.and_then(|inode| inode.descriptor(flags));
        let open = || {
            let file = reopen(found.as_fd(), past.flags)?;
            let share = fs.handles.shares().take_anyway(&at.volume);
            OpResult::Ok(Descriptor::shared(file, flags, share))
        };
        Some(shared.map_or_else(open, Ok)?)
    };
    let size = inode.charged.unwrap_or(stat.st_size.unsigned_abs());
    let handle = new(Arc::clone(&at.volume), Arc::clone(&at.ground), file, size);
    fs.handles
        .opening(past.node)
        .commit_as(past.fh, handle, path);
    if inode.unlinked || stat.st_nlink == 0 {
        fs.handles.unlinked(past.node);
    }
    Ok(())
}

/// Opens a file as it was open. One that has become immutable, or such that it can only
/// be appended to, is opened for what can still be done.
fn reopen(found: BorrowedFd<'_>, flags: OFlag) -> nix::Result<OwnedFd> {
    let host = host_flags(flags);
    match node::reopen(found, host) {
        Err(Errno::EPERM) if flags.contains(OFlag::O_APPEND) => {
            node::reopen(found, host | OFlag::O_APPEND)
        }
        opened => opened,
    }
    .or_else(|errno| match errno {
        Errno::EPERM => node::reopen(found, (host - OFlag::O_ACCMODE) | OFlag::O_RDONLY),
        other => Err(other),
    })
}

/// Whether the account of `node` in the state of a dead process is behind what
/// its open files know.
pub(super) fn known_of(fs: &FileSystem, node: NodeId) -> Known {
    match fs.handles.inode(node) {
        None => Known::Closed,
        Some(inode) => Known::Open(inode),
    }
}
