//! The operations on an image that a guest has written: looking, and nothing
//! else.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::list::{Listed, ListedPlus, dots_entry};
use crate::diskimg::Seek;
use crate::fuse::disks::lost_found;
use crate::fuse::error::{OpError, OpResult};
use crate::fuse::fs::FileSystem;
use crate::fuse::handles::{NewHandle, can_write};
use crate::fuse::node::{Generation, NodeId};
use crate::fuse::nodes::Way;
use crate::fuse::types::{Attr, DataPath, Entry, Found, Opened};
use crate::fuse::view::{Seen, View, is_view};
use crate::volume::Volume;

/// Entries that one listing call looks at.
const PAGE: usize = 256;
/// Cookies 1 and 2 are `.` and `..`; an entry's is its number and these.
const DOTS: u64 = 2;

impl FileSystem {
    /// The view that shows `node`, if it is in an image that is not mounted.
    ///
    /// # Errors
    /// ESTALE for a node of a view that is no more; EBUSY while the image is
    /// open; EUCLEAN where it cannot be read.
    pub(in crate::fuse) fn view_of(
        &self,
        node: NodeId,
    ) -> OpResult<Option<(Arc<Volume>, Arc<View>)>> {
        let Some(volume) = node.slot().and_then(|slot| self.store.volume_in(slot)) else {
            return Ok(None);
        };
        match self.view(&volume)? {
            Some(view) => Ok(Some((volume, view))),
            None if is_view(node) => Err(Errno::ESTALE.into()),
            None => Ok(None),
        }
    }

    pub(super) fn view_attr(&self, view: &View, node: NodeId) -> OpResult<Attr> {
        Ok(attr(&view.attr(node)?))
    }

    pub(super) fn view_lookup(
        &self,
        volume: &Volume,
        view: &View,
        parent: NodeId,
        name: &OsStr,
    ) -> OpResult<Found> {
        let found = view.lookup(parent, name)?;
        if is_hidden(volume, view, parent, name, found.as_ref()).unwrap_or(false) {
            return Ok(Found::Nothing);
        }
        Ok(match found {
            Some(seen) => Found::Entry(self.view_entry(volume, view, &seen)),
            None => Found::Nothing,
        })
    }

    /// The entry of a node other than the root.
    pub(in crate::fuse) fn view_entry_of(
        &self,
        volume: &Volume,
        view: &View,
        node: NodeId,
    ) -> OpResult<Entry> {
        Ok(self.view_entry(volume, view, &view.attr(node)?))
    }

    fn view_entry(&self, volume: &Volume, view: &View, seen: &Seen) -> Entry {
        self.nodes
            .remember(seen.node, Way::Generation(view.epoch()));
        Entry {
            attr: attr(seen),
            generation: Generation::new(volume.serial, view.epoch()),
            keep_attr: true,
        }
    }

    pub(super) fn view_list(
        &self,
        (volume, view): (&Volume, &View),
        node: NodeId,
        offset: u64,
        add: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> OpResult<()> {
        for (next, name) in [(1, "."), (2, "..")] {
            let listed = Listed {
                node,
                next,
                kind: libc::DT_DIR,
                name: OsStr::new(name),
            };
            if next > offset && add(&listed) {
                return Ok(());
            }
        }
        each(volume, view, node, offset, |next, name, seen| {
            add(&Listed {
                node: seen.node,
                next,
                kind: ((seen.mode & libc::S_IFMT) >> 12) as u8,
                name,
            })
        })
    }

    pub(super) fn view_list_plus(
        &self,
        (volume, view): (&Volume, &View),
        node: NodeId,
        offset: u64,
        add: &mut dyn FnMut(&ListedPlus<'_>) -> bool,
    ) -> OpResult<()> {
        for (next, name) in [(1, "."), (2, "..")] {
            let listed = ListedPlus {
                next,
                name: OsStr::new(name),
                entry: dots_entry(node),
            };
            if next > offset && add(&listed) {
                return Ok(());
            }
        }
        each(volume, view, node, offset, |next, name, seen| {
            let entry = self.view_entry(volume, view, seen);
            let full = add(&ListedPlus { next, name, entry });
            if full {
                self.nodes.not_told(seen.node);
            }
            full
        })
    }

    pub(super) fn view_open(
        &self,
        volume: Arc<Volume>,
        view: &View,
        node: NodeId,
        flags: OFlag,
    ) -> OpResult<Opened> {
        if can_write(flags) {
            return Err(self.said_read_only(&volume));
        }
        let seen = view.attr(node)?;
        let path = DataPath::Cached { keep: false };
        let ground = Arc::clone(self.store_ground());
        let opening = self.handles.opening(node);
        let new = NewHandle {
            volume,
            ground,
            flags,
            file: None,
            size: seen.size,
            generation: None,
            process: None,
        };
        let fh = opening.commit(new, &path);
        Ok(Opened { fh, path })
    }

    /// As [`lseek`](Self::lseek).
    pub(super) fn view_seek(view: &View, node: NodeId, offset: i64, whence: i32) -> OpResult<i64> {
        let wanted = match whence {
            libc::SEEK_DATA => Seek::Data,
            libc::SEEK_HOLE => Seek::Hole,
            _ => return Err(Errno::EINVAL.into()),
        };
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        let found = view.seek(node, offset, wanted)?;
        Ok(i64::try_from(found).map_err(|_| Errno::EOVERFLOW)?)
    }

    /// The names of the extended attributes that are shown, each ended by a zero byte.
    pub(super) fn view_attribute_names(view: &View, node: NodeId) -> OpResult<Vec<u8>> {
        let mut names = Vec::new();
        for attribute in view.attributes(node)? {
            names.extend(attribute.name);
            names.push(0);
        }
        Ok(names)
    }

    /// The value of an extended attribute that is shown.
    pub(super) fn view_attribute(view: &View, node: NodeId, name: &OsStr) -> OpResult<Vec<u8>> {
        let mut attributes = view.attributes(node)?.into_iter();
        let found = attributes.find(|it| it.name == name.as_bytes());
        Ok(found.ok_or(Errno::ENODATA)?.value)
    }

    fn said_read_only(&self, volume: &Volume) -> OpError {
        let why = self.read_only_because(volume);
        let error = why.map_or(OpError::Host(Errno::EROFS), |why| why.error(volume));
        self.last_errors.set_for_all(error.to_string());
        error
    }
}

/// Whether it is what ext4 keeps for e2fsck, and empty.
fn is_hidden(
    volume: &Volume,
    view: &View,
    parent: NodeId,
    name: &OsStr,
    found: Option<&Seen>,
) -> OpResult<bool> {
    let is_its_name = lost_found::is_its_name(volume, parent, name);
    Ok(match found.filter(|_| is_its_name) {
        Some(seen) if seen.mode & libc::S_IFMT == libc::S_IFDIR => {
            view.list(seen.node, 0, 1)?.is_empty()
        }
        _ => false,
    })
}

fn each(
    volume: &Volume,
    view: &View,
    node: NodeId,
    offset: u64,
    mut add: impl FnMut(u64, &OsStr, &Seen) -> bool,
) -> OpResult<()> {
    let mut skip = usize::try_from(offset.saturating_sub(DOTS)).map_err(|_| Errno::EINVAL)?;
    loop {
        let page = view.list(node, skip, PAGE)?;
        for entry in &page {
            skip += 1;
            let cookie = skip as u64 + DOTS;
            let name = OsStr::from_bytes(&entry.name);
            // One that cannot be read is shown.
            let hidden = is_hidden(volume, view, node, name, Some(&entry.seen));
            if !hidden.unwrap_or(false) && add(cookie, name, &entry.seen) {
                return Ok(());
            }
        }
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

fn attr(seen: &Seen) -> Attr {
    Attr {
        node: seen.node,
        size: seen.size,
        blocks: seen.sectors,
        atime: seen.accessed,
        mtime: seen.modified,
        // The reader does not tell it.
        ctime: seen.modified,
        mode: seen.mode,
        nlink: 1,
        uid: seen.uid,
        gid: seen.gid,
        rdev: 0,
        blksize: 4096,
    }
}
