//! `.volfs/`: generated files about the mount. Can be entered, is not listed.

use std::ffi::OsStr;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use serde_json::json;

use super::error::{OpError, OpResult};
use super::fs::FileSystem;
use super::handles::can_write;
use super::node::{Generation, NodeId};
use super::open_texts::Owner;
use super::ops::{Listed, ListedPlus};
use super::passthrough::Register;
use super::types::{Attr, Caller, DataPath, Entry, Fh, Found, Opened};
use super::{image_file, root};
use crate::model::Timestamp;

/// Its name in the root of the mount.
pub(super) use crate::volume::holders::CONTROL_TREE as NAME;
/// Its node.
pub(super) const DIR: NodeId = NodeId::control(2);

/// The generated files: node number and name.
const FILES: [(u32, &str); 5] = [
    (3, "version"),
    (4, "stats.json"),
    (5, "volumes.json"),
    (6, "last_error"),
    (8, "events.jsonl"),
];
const VERSION: u64 = 3;
const STATS: u64 = 4;
const VOLUMES: u64 = 5;
const LAST_ERROR: u64 = 6;
const EVENTS: u64 = 8;

/// Whoever has opened a file in an earlier process.
const NOBODY: Caller = Caller {
    uid: u32::MAX,
    gid: u32::MAX,
    pid: 0,
};

pub(super) fn entry(fs: &FileSystem, node: NodeId) -> Entry {
    Entry {
        attr: made_attr(fs, node, fs.store.last_change()),
        generation: Generation::FIXED,
        keep_attr: false,
    }
}

/// The entry of the directory, of what is in it, or of an image.
///
/// # Errors
/// ESTALE when there is no such node.
pub(super) fn entry_of(fs: &FileSystem, node: NodeId) -> OpResult<Entry> {
    if image_file::is_image(node) {
        return image_file::entry_of(fs, node);
    }
    Ok(Entry {
        attr: attr(fs, node)?,
        ..entry(fs, node)
    })
}

/// What the directory `node` is in.
pub(super) fn parent_of(node: NodeId) -> Option<NodeId> {
    match node {
        DIR => Some(NodeId::ROOT),
        image_file::DIR => Some(DIR),
        _ => None,
    }
}

/// Whether its text tells of other users' volumes.
fn tells_of_volumes(node: NodeId) -> bool {
    ![VERSION, LAST_ERROR].contains(&node.raw())
}

fn made_attr(fs: &FileSystem, node: NodeId, changed: Timestamp) -> Attr {
    let (mode, nlink) = if node == DIR {
        (libc::S_IFDIR | 0o555, 2)
    } else if tells_of_volumes(node) {
        // Who may not list the root does not find its names here.
        (libc::S_IFREG | 0o444 & fs.options.root_mode, 1)
    } else {
        (libc::S_IFREG | 0o444, 1)
    };
    let changed = root::time(changed);
    Attr {
        node,
        // Like the files of /proc: the text is made when the file is opened.
        size: 0,
        blocks: 0,
        atime: changed,
        mtime: changed,
        ctime: changed,
        mode,
        nlink,
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        rdev: 0,
        blksize: 4096,
    }
}

pub(super) fn attr(fs: &FileSystem, node: NodeId) -> OpResult<Attr> {
    if node == image_file::DIR {
        return Ok(image_file::dir_attr(fs));
    }
    if image_file::is_image(node) {
        return image_file::attr(fs, node);
    }
    let known = node == DIR || FILES.iter().any(|&(n, _)| NodeId::control(n) == node);
    if !known {
        return Err(OpError::VolumeGone);
    }
    Ok(made_attr(fs, node, fs.store.last_change()))
}

pub(super) fn lookup(fs: &FileSystem, parent: NodeId, name: &OsStr) -> OpResult<Found> {
    if parent == image_file::DIR {
        return image_file::lookup(fs, name);
    }
    if parent != DIR {
        return Ok(Found::Nothing);
    }
    if name == image_file::NAME {
        return Ok(Found::Entry(entry_of(fs, image_file::DIR)?));
    }
    Ok(match FILES.iter().find(|&&(_, file)| name == file) {
        Some(&(number, _)) => Found::Entry(entry(fs, NodeId::control(number))),
        None => Found::Nothing,
    })
}

/// Names, nodes and cookies of what is in the directory.
fn listing() -> impl Iterator<Item = (u64, NodeId, &'static str)> {
    let dots = [(DIR, "."), (NodeId::ROOT, "..")];
    let files = FILES.iter().map(|&(n, name)| (NodeId::control(n), name));
    let disks = [(image_file::DIR, image_file::NAME)];
    (1..)
        .zip(dots.into_iter().chain(files).chain(disks))
        .map(|(cookie, (node, name))| (cookie, node, name))
}

pub(super) fn readdir(
    fs: &FileSystem,
    node: NodeId,
    offset: u64,
    add: &mut dyn FnMut(&Listed<'_>) -> bool,
) -> OpResult<()> {
    if node == image_file::DIR {
        return image_file::readdir(fs, offset, add);
    }
    if node != DIR {
        return Err(Errno::ENOTDIR.into());
    }
    for (next, node, name) in listing().filter(|&(cookie, ..)| cookie > offset) {
        let is_dir = [DIR, NodeId::ROOT, image_file::DIR].contains(&node);
        let kind = if is_dir { libc::DT_DIR } else { libc::DT_REG };
        if add(&Listed {
            node,
            next,
            kind,
            name: OsStr::new(name),
        }) {
            break;
        }
    }
    Ok(())
}

pub(super) fn readdirplus(
    fs: &FileSystem,
    node: NodeId,
    offset: u64,
    add: &mut dyn FnMut(&ListedPlus<'_>) -> bool,
) -> OpResult<()> {
    if node == image_file::DIR {
        return image_file::readdirplus(fs, offset, add);
    }
    if node != DIR {
        return Err(Errno::ENOTDIR.into());
    }
    for (next, node, name) in listing().filter(|&(cookie, ..)| cookie > offset) {
        let entry = if next <= 2 {
            super::ops::dots_entry(node)
        } else {
            Entry {
                attr: attr(fs, node)?,
                ..entry(fs, node)
            }
        };
        if add(&ListedPlus {
            next,
            name: OsStr::new(name),
            entry,
        }) {
            break;
        }
    }
    Ok(())
}

pub(super) fn open(
    fs: &FileSystem,
    caller: Caller,
    node: NodeId,
    flags: OFlag,
    register: &dyn Register,
) -> OpResult<Opened> {
    if image_file::is_image(node) {
        return image_file::open(fs, caller, node, flags, register);
    }
    if can_write(flags) {
        return Err(OpError::ControlTree);
    }
    let owner = Owner::of(caller.uid);
    let fh = fs.open_texts.open(owner, node, || text(fs, caller, node))?;
    Ok(Opened {
        fh,
        path: DataPath::Direct(None),
    })
}

/// Closes a generated file; `false` when `fh` is none.
pub(super) fn release(fs: &FileSystem, fh: Fh) -> bool {
    fs.open_texts.release(fh)
}

pub(super) fn read(
    fs: &FileSystem,
    node: NodeId,
    fh: Fh,
    offset: u64,
    buffer: &mut [u8],
) -> OpResult<usize> {
    if image_file::is_image(node) {
        return image_file::read(fs, fh, offset, buffer);
    }
    let text = fs.open_texts.text(fh, node, || text(fs, NOBODY, node))?;
    let start = usize::try_from(offset)
        .unwrap_or(usize::MAX)
        .min(text.len());
    let rest = &text[start..];
    let len = rest.len().min(buffer.len());
    buffer[..len].copy_from_slice(&rest[..len]);
    Ok(len)
}

fn text(fs: &FileSystem, caller: Caller, node: NodeId) -> OpResult<String> {
    let lines = |value: serde_json::Value| format!("{value:#}\n");
    match node.raw() {
        VERSION => Ok(concat!(env!("CARGO_PKG_VERSION"), "\n").to_owned()),
        STATS => Ok(lines(fs.stats_json())),
        VOLUMES => Ok(lines(json!({ "schema": 1, "volumes": fs.list()? }))),
        LAST_ERROR => Ok(fs
            .last_errors
            .get(caller.uid)
            .map_or_else(String::new, |sentence| sentence + "\n")),
        EVENTS => Ok(fs.store.events_text()),
        _ => Err(OpError::VolumeGone),
    }
}
