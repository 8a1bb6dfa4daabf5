//! Listing directories: readdir, readdirplus.
//!
//! Nothing is kept between two calls: the offset is the host's own cookie, so
//! a listing goes on in a new process, and costs no open.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::fuse::disks::lost_found;
use crate::fuse::error::OpResult;
use crate::fuse::fs::{FileSystem, Located};
use crate::fuse::node::{Generation, HostIno, NodeId};
use crate::fuse::types::{Attr, Entry};
use crate::fuse::{control_tree, root};
use crate::sys::dir::{self, HostDirEntry};
use crate::sys::node;

/// One entry of a listing.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// The node's id (`d_ino`).
    pub node: NodeId,
    /// Where the listing goes on after it.
    pub next: u64,
    /// File type (`DT_*`).
    pub kind: u8,
    /// Its name.
    pub name: &'a OsStr,
}

/// One entry of a listing with attributes.
#[derive(Clone, Copy, Debug)]
pub struct ListedPlus<'a> {
    /// Where the listing goes on after it.
    pub next: u64,
    /// Its name.
    pub name: &'a OsStr,
    /// Its node; the kernel counts a lookup of it, except for `.` and `..`.
    pub entry: Entry,
}

/// Bytes of entries that are read from the host at a time.
const BUFFER_BYTES: usize = 64 << 10;
/// The same where each entry takes five times as much room in the reply as on
/// the host: what is read beyond the reply is read again.
const PLUS_BYTES: usize = 4 << 10;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; BUFFER_BYTES]);
}

impl FileSystem {
    /// Lists `node` from `offset` (0 is the start) until `add` says that the
    /// reply is full.
    ///
    /// # Errors
    /// What the host says to `getdents64(2)`.
    pub fn readdir(
        &self,
        node: NodeId,
        offset: u64,
        add: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> OpResult<()> {
        if node == NodeId::ROOT {
            return root::readdir(self, offset, add);
        }
        if node.slot().is_none() {
            return control_tree::readdir(self, node, offset, add);
        }
        if let Some((volume, view)) = self.view_of(node)? {
            return self.view_list((&volume, &view), node, offset, add);
        }
        let (at, dir) = self.open_listing(node, offset)?;
        self.each_entry(&dir, BUFFER_BYTES, |host| {
            if lost_found::is_hidden(&at, &dir, host.name) {
                return Ok(false);
            }
            let node = self.listed_node(&at, &dir, host);
            Ok(add(&Listed {
                node,
                next: host.next,
                kind: host.kind,
                name: host.name,
            }))
        })
    }

    /// As [`readdir`](Self::readdir), with the attributes of each entry.
    ///
    /// # Errors
    /// What the host says to `getdents64(2)`.
    pub fn readdirplus(
        &self,
        node: NodeId,
        offset: u64,
        add: &mut dyn FnMut(&ListedPlus<'_>) -> bool,
    ) -> OpResult<()> {
        if node == NodeId::ROOT {
            return root::readdirplus(self, offset, add);
        }
        if node.slot().is_none() {
            return control_tree::readdirplus(self, node, offset, add);
        }
        if let Some((volume, view)) = self.view_of(node)? {
            return self.view_list_plus((&volume, &view), node, offset, add);
        }
        let (at, dir) = self.open_listing(node, offset)?;
        self.each_entry(&dir, PLUS_BYTES, |host| self.add_plus(&at, &dir, host, add))
    }

    fn add_plus(
        &self,
        at: &Located,
        dir: &OwnedFd,
        host: &HostDirEntry<'_>,
        add: &mut dyn FnMut(&ListedPlus<'_>) -> bool,
    ) -> OpResult<bool> {
        if lost_found::is_hidden(at, dir, host.name) {
            return Ok(false);
        }
        let is_dots = host.name == "." || host.name == "..";
        let entry = if is_dots {
            let id = self.listed_node(at, dir, host);
            dots_entry(id)
        } else {
            match node::open_path(dir, host.name) {
                Ok(fd) => self.entry(&at.volume, &at.ground, at.node, host.name, fd)?,
                // Removed meanwhile, or a mount on the host.
                Err(Errno::ENOENT | Errno::EXDEV) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        };
        let full = add(&ListedPlus {
            next: host.next,
            name: host.name,
            entry,
        });
        if full && !is_dots {
            self.nodes.not_told(entry.attr.node);
        }
        Ok(full)
    }

    /// Opens a directory and goes to where its listing goes on.
    fn open_listing(&self, node: NodeId, offset: u64) -> OpResult<(Located, OwnedFd)> {
        let at = self.locate(node)?;
        let flags = self.with_noatime(OFlag::O_RDONLY | OFlag::O_DIRECTORY);
        let dir = self.open_located(&at, flags)?;
        if offset != 0 {
            let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
            node::seek(&dir, offset, libc::SEEK_SET)?;
        }
        Ok((at, dir))
    }

    fn each_entry(
        &self,
        dir: &OwnedFd,
        bytes: usize,
        mut each: impl FnMut(&HostDirEntry<'_>) -> OpResult<bool>,
    ) -> OpResult<()> {
        BUFFER.with_borrow_mut(|buffer| {
            loop {
                let mut any = false;
                for entry in dir::read(dir, &mut buffer[..bytes])? {
                    any = true;
                    if each(&entry)? {
                        return Ok(());
                    }
                }
                if !any {
                    return Ok(());
                }
            }
        })
    }

    /// The node id of an entry; `..` of a volume's root is the mount's root.
    fn listed_node(&self, at: &Located, dir: &OwnedFd, host: &HostDirEntry<'_>) -> NodeId {
        let leads_out = host.name == ".."
            && at
                .ground
                .root_of(&at.volume)
                .and_then(|root| Ok(node::stat(root)?.st_ino == node::stat(dir)?.st_ino))
                .unwrap_or(false);
        if leads_out {
            return NodeId::ROOT;
        }
        NodeId::new(at.volume.slot, HostIno(host.ino)).unwrap_or(NodeId::NONE)
    }
}

/// `.` and `..` as the kernel wants them in a listing: it takes the id alone.
pub(in crate::fuse) fn dots_entry(node: NodeId) -> Entry {
    Entry {
        attr: Attr {
            node,
            size: 0,
            blocks: 0,
            atime: Default::default(),
            mtime: Default::default(),
            ctime: Default::default(),
            mode: libc::S_IFDIR | 0o755,
            nlink: 2,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
        },
        generation: Generation::FIXED,
        keep_attr: false,
    }
}
