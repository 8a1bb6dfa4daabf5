//! Opening files: open, create, release.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::failpoint;
use crate::fuse::charge::check_writable;
use crate::fuse::control_tree;
use crate::fuse::disks::lost_found;
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::{FileSystem, Located, component};
use crate::fuse::handles::{Descriptor, Handle, Mode as InodeMode, NewHandle, can_map, can_write};
use crate::fuse::live::journal::{self, Item};
use crate::fuse::naming::Grows;
use crate::fuse::node::NodeId;
use crate::fuse::passthrough::{Backing, Register};
use crate::fuse::types::{Caller, DataPath, Entry, Fh, Opened};
use crate::meta::{Inode, charge};
use crate::sys::creds::Acting;
use crate::sys::node::{self, Shape};

/// The host's file behind a handle: the handle's own, or one opened for the
/// call because the kernel uses the host's file by itself.
pub(super) enum HostFile {
    Shared(Arc<Handle>),
    Own(OwnedFd),
}

impl HostFile {
    /// What the caller is told of a call that writes back what was written.
    pub(super) fn report<T>(&self, result: nix::Result<T>) -> nix::Result<T> {
        match self {
            Self::Own(_) => result,
            Self::Shared(handle) => match &handle.file {
                Some(file) => file.report(result),
                None => result,
            },
        }
    }

    /// The flags that the caller opened it with, as far as they are known.
    fn flags(&self) -> OFlag {
        match self {
            Self::Own(_) => OFlag::empty(),
            Self::Shared(handle) => handle.flags,
        }
    }

    /// Whether each write is written back before it returns.
    pub(super) fn writes_through(&self) -> bool {
        self.flags().intersects(OFlag::O_SYNC | OFlag::O_DSYNC)
    }

    /// Whether the kernel says where its end is, for each write.
    pub(super) fn appends(&self) -> bool {
        self.flags().contains(OFlag::O_APPEND)
    }
}

impl AsFd for HostFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(file) => file.as_fd(),
            Self::Shared(handle) => match &handle.file {
                Some(file) => file.as_fd(),
                None => unreachable!("only handles with a file are shared"),
            },
        }
    }
}

/// The host's file on its way to a handle.
enum HostOpen {
    /// The inode alone: enough for the kernel to use the file by itself.
    Path(OwnedFd),
    /// Opened for reading or writing.
    File(Arc<Descriptor>),
}

impl HostOpen {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Path(fd) => fd.as_fd(),
            Self::File(file) => file.as_fd(),
        }
    }
}

fn has_set_id(mode: u32) -> bool {
    mode & (libc::S_ISUID | libc::S_ISGID) != 0
}

/// Flags of an open that the host's file gets. Direct I/O would need aligned
/// buffers, the kernel computes where to append, what the name leads to has
/// been decided, and the kernel asks for the size of 0 of O_TRUNC by itself.
pub(in crate::fuse) fn host_flags(flags: OFlag) -> OFlag {
    let kept = OFlag::O_ACCMODE | OFlag::O_SYNC | OFlag::O_DSYNC | OFlag::O_NOATIME;
    (flags & kept) | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// As [`host_flags`], of a file that may be one that can only be appended to: the host
/// opens that with O_APPEND alone.
fn host_flags_of(shape: &Shape, flags: OFlag) -> OFlag {
    let append = if shape.append_only {
        flags & OFlag::O_APPEND
    } else {
        OFlag::empty()
    };
    host_flags(flags) | append
}

/// Whether the host would open such a file, which it is not asked where the kernel uses
/// the file by itself (`may_open`, fs/namei.c).
fn may_open(shape: &Shape, flags: OFlag) -> nix::Result<()> {
    let appends = flags.contains(OFlag::O_APPEND);
    if can_write(flags) && (shape.immutable || shape.append_only && !appends) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

impl FileSystem {
    /// Opens the regular file `node`. With O_TRUNC the kernel then sets its size
    /// (without FUSE_ATOMIC_O_TRUNC).
    ///
    /// # Errors
    /// What the host says; ESTALE when the node is gone; ENFILE when the volume
    /// has its share of descriptors.
    pub fn open(
        &self,
        caller: Caller,
        node: NodeId,
        flags: OFlag,
        register: &dyn Register,
    ) -> OpResult<Opened> {
        if node.slot().is_none() {
            return control_tree::open(self, caller, node, flags, register);
        }
        if let Some((volume, view)) = self.view_of(node)? {
            return self.view_open(volume, &view, node, flags);
        }
        let at = self.locate(node)?;
        let flags = self.with_noatime(flags);
        // One without a name is charged again; the catalogue is not written with the
        // inode locked.
        if can_write(flags) {
            self.about_to_change(&at.volume)?;
        } else if self.nodes.gone(at.node).is_some() {
            self.about_to_charge(&at.volume)?;
        }
        let file = if self.passes_through(&at) {
            HostOpen::Path(self.open_located(&at, OFlag::O_PATH)?)
        } else {
            if let Some(opened) = self.opened_already(&at) {
                // Also where the volume has its share by now.
                return Ok(opened);
            }
            HostOpen::File(self.descriptor(&at, flags)?)
        };
        let opened = self.finish_open(&at, flags, file, register)?;
        self.still_writable(&at, flags, &opened)?;
        self.let_room_arrive(&at, flags, &opened);
        if can_map(flags) && matches!(opened.path, DataPath::Passthrough(_)) {
            // What the kernel has cached goes stale with the first write
            // through a mapping.
            self.kernel.attr_changed(at.node);
        }
        Ok(opened)
    }

    /// A descriptor of the host's file: that of handles which are open in the same way
    /// already, or a new one.
    fn descriptor(&self, at: &Located, flags: OFlag) -> OpResult<Arc<Descriptor>> {
        let appends = flags.contains(OFlag::O_APPEND);
        let flags = host_flags(flags);
        let inode = self.handles.inode(at.node);
        if let Some(open) = inode.and_then(|inode| inode.descriptor(flags)) {
            let shape = node::shape(&*open)?;
            // Otherwise the host decides anew.
            if !shape.immutable && !shape.append_only {
                return Ok(open);
            }
        }
        let share = self.handles.shares().take(&at.volume)?;
        let file = match self.open_located(at, flags) {
            // Maybe one that can only be appended to.
            Err(OpError::Host(Errno::EPERM)) if appends => {
                self.open_located(at, flags | OFlag::O_APPEND)?
            }
            opened => opened?,
        };
        Ok(Descriptor::shared(file, flags, share))
    }

    /// Takes an open back whose volume has been made read-only meanwhile: whoever did
    /// that has seen it, or is seen here.
    fn still_writable(&self, at: &Located, flags: OFlag, opened: &Opened) -> OpResult<()> {
        if !can_write(flags) {
            return Ok(());
        }
        check_writable(&at.volume).inspect_err(|_| self.release(opened.fh))
    }

    /// Decides the data path of an open, and makes the handle.
    fn finish_open(
        &self,
        at: &Located,
        flags: OFlag,
        file: HostOpen,
        register: &dyn Register,
    ) -> OpResult<Opened> {
        if let Some(opened) = self.opened_already(at) {
            return Ok(opened);
        }
        let _lock = self.size_locks.exclusive(at.node);
        let shape = node::shape(file.fd())?;
        may_open(&shape, flags)?;
        // Its last name went while this was on its way, or since it was opened with
        // O_PATH, and its charge with it. Nobody opens or closes it meanwhile.
        let is_nameless = shape.links == 0 || self.nodes.gone(at.node).is_some();
        let nameless = (is_nameless && self.handles.inode(at.node).is_none())
            .then(|| self.charge_again(at, file.fd(), shape.size))
            .transpose()?;
        let opening = self.handles.opening(at.node);
        let mode = opening.mode();
        // Asked again with the inode locked: a limit may just have been set.
        // A write to a file with such a bit clears it or not by what the
        // caller may, which the kernel's own use of the file cannot tell.
        // One that can only be appended to is, by our own descriptor: the kernel does
        // not know that it is.
        let passes = self.passes_through(at) && !has_set_id(shape.mode) && !shape.append_only;
        let cached = DataPath::Cached {
            keep: self.keeps_cache(at.volume.slot),
        };
        let path = match mode {
            InodeMode::Passthrough(backing) if passes || !can_write(flags) => {
                DataPath::Passthrough(backing)
            }
            InodeMode::Passthrough(backing) => DataPath::Direct(Some(backing)),
            InodeMode::Cached => cached,
            InodeMode::Closed if passes => self
                .register(file.fd(), register)
                .map_or(cached, DataPath::Passthrough),
            InodeMode::Closed => cached,
        };
        let file = match (&path, file) {
            (DataPath::Passthrough(_), _) => None,
            (_, HostOpen::File(file)) => Some(file),
            (_, HostOpen::Path(path)) => {
                let flags = host_flags_of(&shape, flags);
                let open = || {
                    let share = self.handles.shares().take(&at.volume)?;
                    let file = node::reopen(path, flags)?;
                    OpResult::Ok(Descriptor::shared(file, flags, share))
                };
                Some(opening.descriptor(flags).map_or_else(open, Ok)?)
            }
        };
        let volume = Arc::clone(&at.volume);
        let size = shape.size;
        let ground = Arc::clone(&at.ground);
        let new = NewHandle {
            volume,
            ground,
            flags,
            file,
            size,
            generation: self.generation_of(at.node),
            process: None,
        };
        let fh = opening.commit(new, &path);
        if let Some(nameless) = nameless {
            nameless.opened();
        }
        Ok(Opened { fh, path })
    }

    /// Makes a regular file and opens it.
    ///
    /// # Errors
    /// What the host says; EPERM at the root of the mount; ENFILE as
    /// [`open`](Self::open).
    #[allow(clippy::too_many_arguments)] // the fields of FUSE_CREATE
    pub fn create(
        &self,
        caller: Caller,
        parent: NodeId,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: OFlag,
        register: &dyn Register,
    ) -> OpResult<(Entry, Opened)> {
        let dir = self.dir_to_change(parent)?;
        lost_found::check_new(&dir.at, name)?;
        let flags = self.with_noatime(flags);
        let shares = self.handles.shares();
        let (made, share) = if self.is_made_already(&dir, component(name)?)? {
            let path = node::open_path(&dir.fd, name)?;
            let share = shares.take_anyway(&dir.at.volume);
            (node::reopen(path, host_flags(flags))?, share)
        } else {
            // Before it is made: what is refused leaves no file behind.
            let share = if self.passes_through(&dir.at) && !has_set_id(mode) {
                shares.take_anyway(&dir.at.volume)
            } else {
                shares.take(&dir.at.volume)?
            };
            let mut naming = self.naming(&dir, None, None)?;
            let made = charge(Inode::File { size: 0 }, dir.at.volume.unit());
            let added = Grows::Added(name);
            let room = naming.reserve(made, added, Grows::Never)?;
            journal::intend_one(parent, name, 0);
            let charging = self.charging_made(Item::First, &dir.at.volume);
            failpoint::hit("live.create.intent");
            let made = {
                let _as = Acting::maker(caller.uid, caller.gid, umask, mode);
                // Always exclusive: the kernel asks only for names that it knows
                // to be free, and has checked no permission of an existing file.
                node::open_beneath(
                    &dir.fd,
                    component(name)?,
                    host_flags(flags) | OFlag::O_CREAT | OFlag::O_EXCL,
                    Mode::from_bits_truncate(mode & 0o7777),
                )?
            };
            failpoint::hit("live.create.host");
            charging.becomes(room.amount());
            room.commit();
            (made, share)
        };
        failpoint::hit("live.create.charged");
        let mut entry = self.entry(&dir.at.volume, &dir.at.ground, parent, name, &made)?;
        let at = Located {
            volume: dir.at.volume,
            node: entry.attr.node,
            ground: dir.at.ground,
        };
        let made = Descriptor::shared(made, host_flags(flags), share);
        let opened = self
            .finish_open(&at, flags, HostOpen::File(made), register)
            .and_then(|opened| self.still_writable(&at, flags, &opened).map(|()| opened));
        failpoint::hit("live.create.opened");
        match &opened {
            Ok(opened) => {
                self.let_room_arrive(&at, flags, opened);
                if let Some(handle) = self.handles.get(opened.fh) {
                    handle.inode.set_lacks_capability(true);
                }
            }
            Err(_) => self.nodes.not_told(at.node),
        }
        entry.keep_attr = self.keeps_attr(at.node);
        Ok((entry, opened?))
    }

    /// Whether new opens in the volume go straight to the host's file: where
    /// nothing has to be counted as it is written.
    fn passes_through(&self, at: &Located) -> bool {
        self.kernel.passes_through() && !at.volume.is_limited() && at.ground.passes_through()
    }

    /// A file is about to be written by the kernel itself, which will not ask again
    /// where it finds no room: what is on its way is waited for now.
    fn let_room_arrive(&self, at: &Located, flags: OFlag, opened: &Opened) {
        if can_write(flags) && matches!(opened.path, DataPath::Passthrough(_)) {
            self.wait_if_nearly_full(&at.volume, at.ground.any_dir());
        }
    }

    /// Gives an image to the kernel; `None` where it does not take it.
    pub(in crate::fuse) fn register_image(
        &self,
        image: &OwnedFd,
        register: &dyn Register,
    ) -> Option<Backing> {
        if self.kernel.passes_through() && self.store_ground().passes_through() {
            self.register(image.as_fd(), register)
        } else {
            None
        }
    }

    /// Gives the host's file to the kernel; `None` where it refuses.
    fn register(&self, file: BorrowedFd<'_>, register: &dyn Register) -> Option<Backing> {
        // The kernel writes with these credentials: as for any caller that
        // may not keep them, writes clear set-user-id bits.
        let _as = Acting::without_fsetid();
        match register.register(file) {
            Ok(id) => {
                self.live.registered(id);
                self.kernel.backing(id)
            }
            Err(error) => {
                if self.kernel.refuse_passthrough() {
                    log::warn!("files go through the daemon: no kernel passthrough: {error}");
                }
                None
            }
        }
    }

    pub(super) fn with_noatime(&self, flags: OFlag) -> OFlag {
        if self.options.noatime {
            flags | OFlag::O_NOATIME
        } else {
            flags
        }
    }

    /// The host's file of an open handle, or of `node` where there is none
    /// (the handle is of an earlier process, or the kernel's own).
    pub(super) fn file_of(&self, node: NodeId, fh: Fh) -> OpResult<HostFile> {
        let (access, at) = match self.handles.get(fh) {
            Some(handle) if handle.file.is_some() => return Ok(HostFile::Shared(handle)),
            Some(handle) => {
                let at = Located {
                    volume: Arc::clone(&handle.volume),
                    node,
                    ground: Arc::clone(&handle.ground),
                };
                (handle.flags & OFlag::O_ACCMODE, at)
            }
            None => (OFlag::O_RDWR, self.locate(node)?),
        };
        match self.open_located(&at, access) {
            // EPERM: it has become immutable since.
            Err(OpError::Host(Errno::EROFS | Errno::ETXTBSY | Errno::EPERM)) => {
                Ok(HostFile::Own(self.open_located(&at, OFlag::O_RDONLY)?))
            }
            opened => Ok(HostFile::Own(opened?)),
        }
    }
}
