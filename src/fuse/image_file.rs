//! `.volfs/disks/NAME.raw`: the images of disk volumes as files. Opening one
//! is attaching it; its directory cannot be used meanwhile.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::charge::check_writable;
use super::disks::{ImageUser, OpenImage};
use super::error::{OpError, OpResult};
use super::fs::FileSystem;
use super::handles::{Descriptor, Handle, Mode as InodeMode, NewHandle, can_write};
use super::live::PastHandle;
use super::node::{Generation, NodeId};
use super::ops::{Listed, ListedPlus};
use super::passthrough::Register;
use super::types::{Attr, Caller, DataPath, Entry, Fh, Found, Opened};
use super::{control_tree, root};
use crate::model::{Kind, Serial, Slot, VolumeName};
use crate::sys::creds::Acting;
use crate::sys::{node, process};
use crate::volume::Volume;

/// The directory that they are in.
pub(super) const DIR: NodeId = NodeId::control(7);
/// Its name in the control tree.
pub(super) const NAME: &str = "disks";
const SUFFIX: &str = ".raw";

/// Numbers of control nodes with this bit are images; the rest is the slot.
const IMAGE_BIT: u32 = 1 << 31;

/// Cookies 1 and 2 are `.` and `..`; an image's is its serial and this.
const DOTS: u64 = 2;
/// Volumes that one listing call looks at.
const PAGE: usize = 256;

/// The node of an image.
pub(super) const fn node_of(slot: Slot) -> NodeId {
    NodeId::control(IMAGE_BIT | slot.get())
}

/// The name of a volume's image.
pub(super) fn name_of(volume: &VolumeName) -> String {
    format!("{volume}{SUFFIX}")
}

/// The path of a volume's image in the mount at `mountpoint`.
#[must_use]
pub fn path_below(mountpoint: &Path, volume: &VolumeName) -> PathBuf {
    [control_tree::NAME, NAME, &name_of(volume)]
        .iter()
        .fold(mountpoint.to_owned(), |path, name| path.join(name))
}

/// The slot of the volume whose image `node` is.
pub(super) fn slot_of(node: NodeId) -> Option<Slot> {
    let number = u32::try_from(node.raw()).ok()?;
    (number & IMAGE_BIT != 0)
        .then(|| Slot::new(number & !IMAGE_BIT))
        .flatten()
}

/// Whether `node` is an image.
pub(super) fn is_image(node: NodeId) -> bool {
    slot_of(node).is_some()
}

fn volume_of(fs: &FileSystem, node: NodeId) -> OpResult<Arc<Volume>> {
    slot_of(node)
        .and_then(|slot| fs.store.volume_in(slot))
        .filter(|volume| volume.kind == Kind::Disk)
        .ok_or(OpError::VolumeGone)
}

fn open_image(fs: &FileSystem, volume: &Volume, flags: OFlag) -> OpResult<OwnedFd> {
    let _as = Acting::daemon();
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let path = fs.store.image_path(volume);
    Ok(nix::fcntl::open(&path, flags, Mode::empty())?)
}

pub(super) fn attr(fs: &FileSystem, node: NodeId) -> OpResult<Attr> {
    let volume = volume_of(fs, node)?;
    let stat = node::stat(open_image(fs, &volume, OFlag::O_PATH)?)?;
    Ok(Attr {
        // Only the daemon's user may open it, whatever the file is like.
        mode: libc::S_IFREG | 0o600,
        nlink: 1,
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        ..Attr::from_host(node, &stat)
    })
}

fn entry(fs: &FileSystem, volume: &Volume) -> OpResult<Entry> {
    Ok(Entry {
        attr: attr(fs, node_of(volume.slot))?,
        generation: Generation::new(volume.serial, 0),
        keep_attr: false,
    })
}

/// The entry of the image `node`.
///
/// # Errors
/// ESTALE when there is no such volume.
pub(super) fn entry_of(fs: &FileSystem, node: NodeId) -> OpResult<Entry> {
    entry(fs, &*volume_of(fs, node)?)
}

pub(super) fn lookup(fs: &FileSystem, name: &OsStr) -> OpResult<Found> {
    let volume = name
        .to_str()
        .and_then(|name| name.strip_suffix(SUFFIX))
        .and_then(|name| name.parse::<VolumeName>().ok())
        .and_then(|name| fs.store.volume(&name))
        .filter(|volume| volume.kind == Kind::Disk);
    match volume {
        Some(volume) => Ok(Found::Entry(entry(fs, &volume)?)),
        None => Ok(Found::Nothing),
    }
}

/// Calls `each` for the images after `offset`, until it says that the reply is
/// full.
fn each_image(
    fs: &FileSystem,
    offset: u64,
    mut each: impl FnMut(u64, &OsStr, &Volume) -> OpResult<bool>,
) -> OpResult<()> {
    let mut after = i64::try_from(offset.saturating_sub(DOTS)).map_or(Serial(i64::MAX), Serial);
    loop {
        let page = fs.store.volumes_after(Some(after), PAGE);
        for (name, volume) in &page {
            after = volume.serial;
            if volume.kind != Kind::Disk {
                continue;
            }
            let cookie = volume.serial.0.unsigned_abs() + DOTS;
            let name = name_of(name);
            if each(cookie, OsStr::new(&name), volume)? {
                return Ok(());
            }
        }
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

const DOT_NODES: [(u64, NodeId, &str); 2] = [(1, DIR, "."), (2, control_tree::DIR, "..")];

pub(super) fn readdir(
    fs: &FileSystem,
    offset: u64,
    add: &mut dyn FnMut(&Listed<'_>) -> bool,
) -> OpResult<()> {
    for (next, node, name) in DOT_NODES {
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
    each_image(fs, offset, |next, name, volume| {
        Ok(add(&Listed {
            node: node_of(volume.slot),
            next,
            kind: libc::DT_REG,
            name,
        }))
    })
}

pub(super) fn readdirplus(
    fs: &FileSystem,
    offset: u64,
    add: &mut dyn FnMut(&ListedPlus<'_>) -> bool,
) -> OpResult<()> {
    for (next, node, name) in DOT_NODES {
        let listed = ListedPlus {
            next,
            name: OsStr::new(name),
            entry: super::ops::dots_entry(node),
        };
        if next > offset && add(&listed) {
            return Ok(());
        }
    }
    each_image(fs, offset, |next, name, volume| {
        // One whose file is missing is not listed.
        let Ok(entry) = entry(fs, volume) else {
            return Ok(false);
        };
        Ok(add(&ListedPlus { next, name, entry }))
    })
}

/// Opens an image: attaches it.
pub(super) fn open(
    fs: &FileSystem,
    caller: Caller,
    node: NodeId,
    flags: OFlag,
    register: &dyn Register,
) -> OpResult<Opened> {
    let volume = volume_of(fs, node)?;
    let user = ImageUser {
        process: process::of_thread(caller.pid),
        writes: can_write(flags),
    };
    let result = try_open(fs, &volume, user, flags, register);
    if let Err(error) = &result {
        fs.last_errors.set(caller.uid, error.to_string());
    }
    result
}

fn try_open(
    fs: &FileSystem,
    volume: &Arc<Volume>,
    user: ImageUser,
    flags: OFlag,
    register: &dyn Register,
) -> OpResult<Opened> {
    let (node, writes) = (node_of(volume.slot), user.writes);
    if flags.contains(OFlag::O_APPEND) {
        return Err(OpError::ImageSize);
    }
    if writes && fs.options.read_only {
        return Err(Errno::EROFS.into());
    }
    if writes {
        check_writable(volume)?;
    }
    let access = flags & (OFlag::O_ACCMODE | OFlag::O_SYNC | OFlag::O_DSYNC);
    let share = fs.handles.shares().take(volume)?;
    // Before we open it: then nobody writes it, by the store's path either.
    fs.begin_image(volume, user)?;
    let opened = noted(fs, volume, writes).and_then(|()| {
        let file = open_image(fs, volume, access)?;
        let _lock = fs.size_locks.exclusive(node);
        let opening = fs.handles.opening(node);
        let path = match opening.mode() {
            InodeMode::Passthrough(backing) => DataPath::Passthrough(backing),
            _ => fs
                .register_image(&file, register)
                .map_or(DataPath::Direct(None), DataPath::Passthrough),
        };
        let size = node::shape(&file)?.size;
        let ground = Arc::clone(fs.store_ground());
        let own = match path {
            DataPath::Passthrough(_) => None,
            _ => Some(file.try_clone().map_err(|_| Errno::EMFILE)?),
        };
        let new = NewHandle {
            volume: Arc::clone(volume),
            ground,
            flags,
            file: own.map(Descriptor::of_one),
            size,
            generation: None,
            process: user.process,
        };
        let fh = opening.commit(new, &path);
        let file = Arc::new(file);
        let mut open = fs.disks.open_images.lock();
        open.insert(fh, OpenImage::new(user, file, share));
        Ok(Opened { fh, path })
    });
    if opened.is_err() {
        fs.end_image(volume, user);
    }
    opened
}

/// Opens an image again that was open in an earlier process: its user has it
/// still.
pub(super) fn restore(fs: &FileSystem, past: &PastHandle, path: &DataPath) -> OpResult<()> {
    let volume = volume_of(fs, past.node)?;
    let user = ImageUser {
        process: past.process,
        writes: can_write(past.flags),
    };
    let access = past.flags & (OFlag::O_ACCMODE | OFlag::O_SYNC | OFlag::O_DSYNC);
    let file = open_image(fs, &volume, access)?;
    let size = node::shape(&file)?.size;
    fs.go_on_with_image(&volume, user, size);
    let own = match path {
        DataPath::Passthrough(_) => None,
        _ => Some(file.try_clone().map_err(|_| Errno::EMFILE)?),
    };
    let share = fs.handles.shares().take_anyway(&volume);
    let new = NewHandle {
        volume,
        ground: Arc::clone(fs.store_ground()),
        flags: past.flags,
        file: own.map(Descriptor::of_one),
        size,
        generation: None,
        process: user.process,
    };
    fs.handles.opening(past.node).commit_as(past.fh, new, path);
    let file = Arc::new(file);
    let mut open = fs.disks.open_images.lock();
    open.insert(past.fh, OpenImage::new(user, file, share));
    Ok(())
}

/// Before the first byte is written the catalogue must know: the image is not
/// trusted from here on.
fn noted(fs: &FileSystem, volume: &Volume, writes: bool) -> OpResult<()> {
    if writes {
        fs.store.set_guest_written(volume, true)?;
    }
    Ok(())
}

/// Closes an image: detaches it.
pub(super) fn release(fs: &FileSystem, fh: Fh, handle: &Handle) {
    let open = fs.disks.open_images.lock().remove(&fh);
    let closed = {
        let _lock = fs.size_locks.exclusive(handle.node);
        fs.handles.close(fh)
    };
    if let (Some(_), Some(open)) = (closed, open) {
        fs.end_image(&handle.volume, open.user);
    }
}

/// The file of an open image.
fn with_file<T>(
    fs: &FileSystem,
    fh: Fh,
    run: impl FnOnce(&OwnedFd) -> nix::Result<T>,
) -> OpResult<T> {
    let open = fs.disks.open_images.lock();
    let file = open.get(&fh).map(|open| Arc::clone(&open.file));
    drop(open);
    Ok(run(&*file.ok_or(Errno::EBADF)?)?)
}

pub(super) fn read(fs: &FileSystem, fh: Fh, offset: u64, buffer: &mut [u8]) -> OpResult<usize> {
    with_file(fs, fh, |file| {
        let mut filled = 0;
        while filled < buffer.len() {
            let at = i64::try_from(offset + filled as u64).map_err(|_| Errno::EINVAL)?;
            match nix::sys::uio::pread(file, &mut buffer[filled..], at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(filled)
    })
}

/// Writes within the image: it does not grow by being written to.
pub(super) fn write(fs: &FileSystem, fh: Fh, offset: u64, data: &[u8]) -> OpResult<usize> {
    with_file(fs, fh, |file| {
        let size = node::shape(file)?.size;
        let fits = size.saturating_sub(offset).min(data.len() as u64) as usize;
        if fits == 0 && !data.is_empty() {
            return Err(Errno::ENOSPC);
        }
        let mut written = 0;
        while written < fits {
            let at = i64::try_from(offset + written as u64).map_err(|_| Errno::EFBIG)?;
            match nix::sys::uio::pwrite(file, &data[written..fits], at) {
                Ok(0) => break,
                Ok(more) => written += more,
                Err(Errno::EINTR) => {}
                Err(_) if written > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(written)
    })
}

pub(super) fn fsync(fs: &FileSystem, fh: Fh, data_only: bool) -> OpResult<()> {
    let handle = fs.handles.get(fh).ok_or(Errno::EBADF)?;
    if fs.cut_image(&handle.volume) {
        return Err(OpError::PastImage(handle.volume.name()));
    }
    with_file(fs, fh, |file| {
        if data_only {
            nix::unistd::fdatasync(file)
        } else {
            nix::unistd::fsync(file)
        }
    })
}

/// Allocates or punches, never past the end.
pub(super) fn fallocate(fs: &FileSystem, fh: Fh, offset: u64, len: u64, mode: i32) -> OpResult<()> {
    let moves = libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE;
    with_file(fs, fh, |file| {
        let size = node::shape(file)?.size;
        if mode & moves != 0 || offset.saturating_add(len) > size {
            return Err(Errno::EOPNOTSUPP);
        }
        node::fallocate(file, mode, offset, len)
    })
}

pub(super) fn seek(fs: &FileSystem, fh: Fh, offset: i64, whence: i32) -> OpResult<i64> {
    with_file(fs, fh, |file| node::seek(file, offset, whence))
}

/// The directory's own attributes. It is listed by who may list the root.
pub(super) fn dir_attr(fs: &FileSystem) -> Attr {
    let changed = root::time(fs.store.last_change());
    Attr {
        atime: changed,
        mtime: changed,
        ctime: changed,
        mode: libc::S_IFDIR | 0o111 | 0o444 & fs.options.root_mode,
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        ..super::ops::dots_entry(DIR).attr
    }
}
