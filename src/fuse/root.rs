//! The root of the mount: a directory whose entries are the volumes.

use std::ffi::OsStr;

use nix::errno::Errno;

use super::error::{OpError, OpResult};
use super::fs::{FileSystem, volume_name};
use super::live::journal;
use super::node::{Generation, NodeId};
use super::nodes::{Place, Way};
use super::ops::{Listed, ListedPlus};
use super::options::RmdirPolicy;
use super::resting::root_generation;
use super::types::{Attr, Caller, Entry, Found, Time};
use super::{announce, control_tree, image_file, observer};
use crate::control::audit::{self, Who};
use crate::model::{Kind, Owner, Serial, Timestamp, VolumeName, VolumeSpec};
use crate::volume::{Error as VolumeError, Removal, Volume, Volumes};

/// Volumes that one listing call looks at.
const PAGE: usize = 256;
/// Cookies 1 and 2 are `.` and `..`; a volume's is its serial and this.
const DOTS: u64 = 2;

/// The attributes of the root.
pub(super) fn attr(fs: &FileSystem) -> Attr {
    let changed = fs.store.last_change();
    Attr {
        node: NodeId::ROOT,
        size: 4096,
        blocks: 8,
        atime: time(changed),
        mtime: time(changed),
        ctime: time(changed),
        mode: libc::S_IFDIR | fs.options.root_mode,
        nlink: u32::try_from(fs.store.volume_count()).map_or(u32::MAX, |n| n.saturating_add(2)),
        uid: nix::unistd::geteuid().as_raw(),
        gid: nix::unistd::getegid().as_raw(),
        rdev: 0,
        blksize: 4096,
    }
}

pub(super) fn time(at: Timestamp) -> Time {
    Time {
        seconds: at.as_nanos().div_euclid(1_000_000_000),
        nanoseconds: at.as_nanos().rem_euclid(1_000_000_000) as u32,
    }
}

/// Whether `node` stands for the root of a volume whose files are missing.
pub(super) fn is_missing(node: NodeId) -> bool {
    node.slot().is_some() && node.ino().0 == 0
}

/// Whether the host says by this that what is in a volume's place is not there, or is
/// not the volume, or cannot be reached for now; and not that this process lacks
/// something.
fn is_away(errno: Errno) -> bool {
    !matches!(
        errno,
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN | Errno::EINTR
    )
}

/// The attributes of the root of a volume whose files were missing.
///
/// # Errors
/// ESTALE when they are back, so that the kernel looks its name up again.
pub(super) fn attr_of_missing(fs: &FileSystem, node: NodeId) -> OpResult<Attr> {
    let volume = fs.volume_of(node)?;
    match fs.volume_root(&volume) {
        Ok(_) => Err(OpError::Host(Errno::ESTALE)),
        Err(_) => Ok(missing_attr(node)),
    }
}

/// What a volume looks like whose files are missing: a directory that nobody
/// can enter. It can be seen, and removed by command.
pub(super) fn missing_attr(node: NodeId) -> Attr {
    Attr {
        mode: libc::S_IFDIR,
        ..super::ops::dots_entry(node).attr
    }
}

/// The entry of a volume's root directory.
pub(super) fn volume_entry(fs: &FileSystem, volume: &Volume, name: &OsStr) -> OpResult<Entry> {
    let _as = crate::sys::creds::Acting::daemon();
    if let Some(resting) = fs.resting_entry(volume) {
        return Ok(resting);
    }
    let found = fs.ground(volume).and_then(|ground| {
        let root = ground.root_of(volume)?;
        fs.entry(volume, &ground, NodeId::ROOT, name, root)
    });
    match found {
        Ok(entry) if volume.kind == Kind::Disk => Ok(Entry {
            generation: root_generation(volume),
            ..entry
        }),
        Ok(entry) => Ok(entry),
        // An image that cannot be mounted must not hide the other volumes.
        Err(_) if volume.kind == Kind::Disk => fs.unreadable_entry(volume),
        // Nor must files that somebody has removed, or mounted something over, nor
        // a file system that is away.
        Err(OpError::Host(errno)) if is_away(errno) => {
            let node = NodeId::missing(volume.slot);
            let place = Place {
                parent: NodeId::ROOT,
                name: name.to_owned(),
            };
            fs.nodes.remember(node, Way::Place(0, Box::new(place)));
            Ok(Entry {
                attr: missing_attr(node),
                generation: Generation::new(volume.serial, 0),
                keep_attr: false,
            })
        }
        Err(error) => Err(error),
    }
}

pub(super) fn lookup(fs: &FileSystem, name: &OsStr) -> OpResult<Found> {
    if name == control_tree::NAME {
        return Ok(Found::Entry(control_tree::entry(fs, control_tree::DIR)));
    }
    if name.len() > crate::model::VolumeName::MAX_BYTES {
        return Err(OpError::Host(Errno::ENAMETOOLONG));
    }
    // What cannot be a volume's name is simply not there.
    let volume = volume_name(name)
        .ok()
        .and_then(|name| fs.store.volume(&name));
    match volume {
        Some(volume) => Ok(Found::Entry(volume_entry(fs, &volume, name)?)),
        None => Ok(Found::Nothing),
    }
}

/// Runs a change of a volume that a request asked for; why it is refused is
/// kept for the caller to read in `.volfs/last_error`.
fn change<T>(fs: &FileSystem, caller: Caller, run: impl FnOnce() -> OpResult<T>) -> OpResult<T> {
    let result = observer::in_request(run);
    if let Err(error) = &result {
        fs.last_errors.set(caller.uid, error.to_string());
    }
    result
}

/// What the process before noted when it began the request that this thread
/// serves.
fn begun_before() -> Option<u64> {
    let again = journal::again()?;
    again.intent.as_ref().map(|intent| intent.before)
}

/// The serial of the volume with this name; 0 when there is none.
fn serial_of(fs: &FileSystem, name: &VolumeName) -> u64 {
    let volume = fs.store.volume(name);
    volume.map_or(0, |volume| volume.serial.0.unsigned_abs())
}

/// Whether the volume has been made for the request that this thread serves:
/// it has come since that was begun.
fn is_made_already(fs: &FileSystem, name: &VolumeName) -> bool {
    let Some(begun) = begun_before() else {
        return false;
    };
    let info = fs.store.get(name);
    info.is_ok_and(|info| info.created.as_nanos().cast_unsigned() >= begun)
}

pub(super) fn mkdir(fs: &FileSystem, caller: Caller, name: &OsStr, mode: u32) -> OpResult<Entry> {
    if let Some(announced) = fs.kernel.announced_by(caller.pid) {
        return announce::mkdir(fs, &announced, name);
    }
    change(fs, caller, || {
        if name == control_tree::NAME {
            return Err(OpError::Host(Errno::EEXIST));
        }
        // The volume's mode is set as asked.
        let _as = crate::sys::creds::Acting::keeping_set_id();
        let mut spec = VolumeSpec::directory(volume_name(name)?);
        spec.kind = fs.options.default_kind;
        match spec.kind {
            Kind::Directory => spec.limits = fs.options.default_limits,
            Kind::Disk => spec.size = fs.options.default_size,
        }
        spec.owner = Some(Owner {
            uid: caller.uid,
            gid: caller.gid,
            mode: mode & 0o7777,
        });
        if !is_made_already(fs, &spec.name) {
            let now = Timestamp::now().as_nanos().cast_unsigned();
            journal::intend_one(NodeId::ROOT, name, now);
            fs.store.create(&spec)?;
            note(caller, format_args!("mkdir {name:?}"));
        }
        let volume = fs.store.volume(&spec.name).ok_or(OpError::VolumeGone)?;
        volume_entry(fs, &volume, name)
    })
}

pub(super) fn rmdir(fs: &FileSystem, caller: Caller, name: &OsStr) -> OpResult<()> {
    if let Some(announced) = fs.kernel.announced_by(caller.pid) {
        return announce::rmdir(fs, &announced, name);
    }
    change(fs, caller, || {
        if name == control_tree::NAME {
            return Err(OpError::ControlTree);
        }
        let (given, name) = (name, volume_name(name)?);
        let serial = serial_of(fs, &name);
        if begun_before().is_some_and(|before| before != 0 && before != serial) {
            return Ok(());
        }
        journal::intend_one(NodeId::ROOT, given, serial);
        match (fs.store.remove(&name, Removal::Empty), fs.options.rmdir) {
            (Err(VolumeError::NotEmpty { .. }), RmdirPolicy::Trash) => {
                fs.store.remove(&name, Removal::Trash)?;
            }
            (result, RmdirPolicy::Empty | RmdirPolicy::Trash) => result?,
        }
        note(caller, format_args!("rmdir {given:?}"));
        Ok(())
    })
}

pub(super) fn rename(
    fs: &FileSystem,
    caller: Caller,
    name: &OsStr,
    new_name: &OsStr,
    flags: u32,
) -> OpResult<()> {
    if let Some(announced) = fs.kernel.announced_by(caller.pid) {
        return announce::rename(fs, &announced, (name, new_name));
    }
    change(fs, caller, || {
        if name == control_tree::NAME || new_name == control_tree::NAME {
            return Err(OpError::ControlTree);
        }
        let (from, to) = (volume_name(name)?, volume_name(new_name)?);
        if begun_before().is_some_and(|before| before != 0 && before == serial_of(fs, &to)) {
            return Ok(());
        }
        let places = ((NodeId::ROOT, name), (NodeId::ROOT, new_name));
        journal::intend(places.0, places.1, serial_of(fs, &from));
        match flags {
            0 | libc::RENAME_NOREPLACE => {
                fs.store.rename(&from, &to)?;
            }
            libc::RENAME_EXCHANGE => fs.store.exchange(&from, &to)?,
            _ => return Err(OpError::Host(Errno::EINVAL)),
        }
        note(caller, format_args!("rename {name:?} to {new_name:?}"));
        Ok(())
    })
}

/// Records a change that somebody has made through the mount.
pub(super) fn note(caller: Caller, what: std::fmt::Arguments<'_>) {
    let who = Who::of_request(caller.uid, caller.pid);
    log::info!(target: audit::TARGET, "{who}, in the mount: {what}: done");
}

/// Has the kernel ask again for all names that there are and were, and list the root
/// again. What is mounted in volumes stays.
pub(super) fn ask_again(fs: &FileSystem) {
    let live = fs.store.volumes_after(None, usize::MAX);
    let names = live.into_iter().map(|(name, _)| name);
    let gone = fs.store.removed_names().into_iter();
    for name in names.chain(gone).chain(fs.former_names.names()) {
        let image = image_file::name_of(&name);
        fs.kernel.entry_expired(image_file::DIR, OsStr::new(&image));
        fs.kernel
            .entry_expired(NodeId::ROOT, OsStr::new(name.as_str()));
    }
    for dir in [NodeId::ROOT, image_file::DIR] {
        fs.kernel.listing_changed(dir);
    }
}

fn dot(cookie: u64) -> Listed<'static> {
    Listed {
        node: NodeId::ROOT,
        next: cookie,
        kind: libc::DT_DIR,
        name: OsStr::new(if cookie == 1 { "." } else { ".." }),
    }
}

/// Calls `each` for the volumes after `offset` with each one's cookie, until
/// it says that the reply is full.
fn each_volume(
    fs: &FileSystem,
    offset: u64,
    mut each: impl FnMut(u64, &OsStr, &Volume) -> OpResult<bool>,
) -> OpResult<()> {
    let mut after = i64::try_from(offset.saturating_sub(DOTS)).map_or(Serial(i64::MAX), Serial);
    loop {
        let page = fs.store.volumes_after(Some(after), PAGE);
        for (name, volume) in &page {
            let cookie = volume.serial.0.unsigned_abs() + DOTS;
            if each(cookie, OsStr::new(name.as_str()), volume)? {
                return Ok(());
            }
            after = volume.serial;
        }
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

pub(super) fn readdir(
    fs: &FileSystem,
    offset: u64,
    add: &mut dyn FnMut(&Listed<'_>) -> bool,
) -> OpResult<()> {
    for cookie in offset + 1..=DOTS {
        if add(&dot(cookie)) {
            return Ok(());
        }
    }
    each_volume(fs, offset, |next, name, volume| {
        let node = match fs.volume_root_without_attaching(volume) {
            Ok(Some(root)) => match crate::sys::node::stat(root) {
                Ok(stat) => fs.node_id(volume, &stat)?,
                Err(_) => NodeId::missing(volume.slot),
            },
            Ok(None) => super::resting::root_node(volume.slot)?,
            Err(_) => NodeId::missing(volume.slot),
        };
        Ok(add(&Listed {
            node,
            next,
            kind: libc::DT_DIR,
            name,
        }))
    })
}

pub(super) fn readdirplus(
    fs: &FileSystem,
    offset: u64,
    add: &mut dyn FnMut(&ListedPlus<'_>) -> bool,
) -> OpResult<()> {
    for cookie in offset + 1..=DOTS {
        let listed = dot(cookie);
        if add(&ListedPlus {
            next: cookie,
            name: listed.name,
            entry: super::ops::dots_entry(NodeId::ROOT),
        }) {
            return Ok(());
        }
    }
    each_volume(fs, offset, |next, name, volume| {
        let entry = volume_entry(fs, volume, name)?;
        let full = add(&ListedPlus { next, name, entry });
        if full {
            fs.nodes.not_told(entry.attr.node);
        }
        Ok(full)
    })
}
