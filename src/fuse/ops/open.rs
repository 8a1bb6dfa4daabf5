//! Opening files: open, create, release.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::fuse::control_tree;
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::{FileSystem, Located, component};
use crate::fuse::handles::{Handle, Mode as InodeMode, can_write};
use crate::fuse::node::NodeId;
use crate::fuse::passthrough::{Backing, Register};
use crate::fuse::types::{Caller, DataPath, Entry, Fh, Opened};
use crate::sys::creds::Acting;
use crate::sys::node;
use crate::volume::Volume;

/// The host's file behind a handle: the handle's own, or one opened for the
/// call because the kernel uses the host's file by itself.
pub(super) enum HostFile {
    Shared(Arc<Handle>),
    Own(OwnedFd),
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

/// Flags of an open that the host's file gets. Direct I/O would need aligned
/// buffers, the kernel computes where to append, and what the name leads to
/// has been decided.
fn host_flags(flags: OFlag) -> OFlag {
    let kept =
        OFlag::O_ACCMODE | OFlag::O_TRUNC | OFlag::O_SYNC | OFlag::O_DSYNC | OFlag::O_NOATIME;
    (flags & kept) | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

impl FileSystem {
    /// Opens the regular file `node`. With O_TRUNC it is emptied first.
    ///
    /// # Errors
    /// What the host says; ESTALE when the node is gone.
    pub fn open(
        &self,
        caller: Caller,
        node: NodeId,
        flags: OFlag,
        register: &dyn Register,
    ) -> OpResult<Opened> {
        if node.slot().is_none() {
            return control_tree::open(self, caller, node, flags);
        }
        let at = self.locate(node)?;
        let flags = self.with_noatime(flags);
        let passes = self.passes_through(&at.volume);
        let file = {
            let _as = self.as_writer(caller);
            if passes && !flags.contains(OFlag::O_TRUNC) {
                self.open_located(&at, OFlag::O_PATH)?
            } else {
                self.open_located(&at, host_flags(flags))?
            }
        };
        self.finish_open(&at, flags, file, passes, register)
    }

    /// Decides the data path of an open, and makes the handle.
    fn finish_open(
        &self,
        at: &Located,
        flags: OFlag,
        file: OwnedFd,
        passes: bool,
        register: &dyn Register,
    ) -> OpResult<Opened> {
        let opening = self.handles.opening(at.node);
        let path = match opening.mode() {
            InodeMode::Passthrough(backing) if passes || !can_write(flags) => {
                DataPath::Passthrough(backing)
            }
            InodeMode::Passthrough(_) => DataPath::Direct,
            InodeMode::Cached => DataPath::Cached,
            InodeMode::Closed if passes => self
                .register(&file, register)
                .map_or(DataPath::Cached, DataPath::Passthrough),
            InodeMode::Closed => DataPath::Cached,
        };
        let by_kernel = matches!(path, DataPath::Passthrough(_));
        let file = if by_kernel {
            None
        } else if passes {
            // Only O_PATH so far.
            let flags = host_flags(flags) - OFlag::O_TRUNC;
            Some(node::reopen(file, flags)?)
        } else {
            Some(file)
        };
        let fh = opening.commit(Arc::clone(&at.volume), flags, file, &path);
        if by_kernel && can_write(flags) {
            // What the kernel has cached goes stale with the first write
            // through a mapping.
            self.kernel.attr_changed(at.node);
        }
        Ok(Opened { fh, path })
    }

    /// Makes a regular file and opens it.
    ///
    /// # Errors
    /// What the host says; EPERM at the root of the mount.
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
        let flags = self.with_noatime(flags);
        let made = {
            let _as = Acting::maker(caller.uid, caller.gid, umask);
            // Always exclusive: the kernel asks only for names that it knows
            // to be free, and has checked no permission of an existing file.
            node::open_beneath(
                &dir.fd,
                component(name)?,
                (host_flags(flags) - OFlag::O_TRUNC) | OFlag::O_CREAT | OFlag::O_EXCL,
                Mode::from_bits_truncate(mode & 0o7777),
            )?
        };
        let mut entry = self.entry(&dir.at.volume, parent, name, &made)?;
        let at = Located {
            volume: dir.at.volume,
            node: entry.attr.node,
        };
        let passes = self.passes_through(&at.volume);
        let opened = self.finish_create(&at, flags, made, passes, register);
        if opened.is_err() {
            self.nodes.forget(at.node, 1);
        }
        entry.keep_attr = self.keeps_attr(at.node);
        Ok((entry, opened?))
    }

    fn finish_create(
        &self,
        at: &Located,
        flags: OFlag,
        file: OwnedFd,
        passes: bool,
        register: &dyn Register,
    ) -> OpResult<Opened> {
        let opening = self.handles.opening(at.node);
        let path = match passes.then(|| self.register(&file, register)).flatten() {
            Some(backing) => DataPath::Passthrough(backing),
            None => DataPath::Cached,
        };
        let file = (!matches!(path, DataPath::Passthrough(_))).then_some(file);
        let fh = opening.commit(Arc::clone(&at.volume), flags, file, &path);
        Ok(Opened { fh, path })
    }

    /// Closes `fh`.
    pub fn release(&self, fh: Fh) {
        if control_tree::release(self, fh) {
            return;
        }
        let Some(closed) = self.handles.close(fh) else {
            return;
        };
        if closed.last_writer && closed.handle.file.is_none() {
            // Times and allocated blocks as the kernel left them on the host.
            self.kernel.attr_changed(closed.handle.node);
        }
    }

    /// Whether new opens in the volume go straight to the host's file: where
    /// nothing has to be counted as it is written.
    fn passes_through(&self, volume: &Volume) -> bool {
        self.kernel.passes_through() && !volume.is_limited()
    }

    /// Gives the host's file to the kernel; `None` where it refuses.
    fn register(&self, file: &OwnedFd, register: &dyn Register) -> Option<Backing> {
        // The kernel writes with these credentials: as for any caller that
        // may not keep them, writes clear set-user-id bits.
        let _as = Acting::without_fsetid();
        match register.register(file.as_fd()) {
            Ok(backing) => Some(backing),
            Err(error) => {
                if self.kernel.refuse_passthrough() {
                    log::warn!("files go through the daemon: no kernel passthrough: {error}");
                }
                None
            }
        }
    }

    fn with_noatime(&self, flags: OFlag) -> OFlag {
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
                };
                (handle.flags & OFlag::O_ACCMODE, at)
            }
            None => (OFlag::O_RDWR, self.locate(node)?),
        };
        match self.open_located(&at, access) {
            Err(OpError::Host(Errno::EROFS | Errno::ETXTBSY)) => {
                Ok(HostFile::Own(self.open_located(&at, OFlag::O_RDONLY)?))
            }
            opened => Ok(HostFile::Own(opened?)),
        }
    }
}
