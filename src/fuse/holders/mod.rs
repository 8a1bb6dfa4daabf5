//! Who uses a volume, of those who can be seen by `/proc`: what of the mount is
//! which volume's.

mod writers;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use self::writers::writers;
use super::fs::FileSystem;
use super::image_file;
use super::node::NodeId;
use crate::model::{Kind, Slot};
use crate::sys::node::cached_identity;
use crate::sys::procfs::Proc;
use crate::volume::holders::{self, Called, MountSide, Namespaces, Shown, Survey, Wanted, holder};
use crate::volume::{Hold, Holder, Volume};

/// How long the close of a file that nobody has open any more may take to
/// reach us: the kernel sends it after the call has returned.
const RELEASE_GRACE: Duration = Duration::from_millis(200);

/// Who uses `volume` now.
pub(super) fn of_volume(fs: &FileSystem, volume: &Volume) -> Vec<Holder> {
    find(fs, volume, Namespaces::All)
}

/// Who uses each of `volumes` now, found in one look for all.
pub(super) fn of_each(fs: &FileSystem, volumes: &[Arc<Volume>]) -> Vec<Vec<Holder>> {
    let survey = fs.store.survey(true);
    let touched = survey.touched();
    let nodes = touched.of_mount.iter().map(|ino| NodeId::from_raw(*ino));
    let (slots, others): (Vec<NodeId>, Vec<NodeId>) = nodes.partition(|it| it.slot().is_some());
    let slots: HashSet<Slot> = slots.into_iter().filter_map(NodeId::slot).collect();
    let of_volume = |volume: &Arc<Volume>| {
        // Most are used by nobody.
        let may_be_used = touched.by_name
            || slots.contains(&volume.slot)
            || touched.stored.contains(&volume.id)
            || others.contains(&image_file::node_of(volume.slot));
        match may_be_used {
            true => holders_in(&survey, fs, volume, Namespaces::All),
            false => Vec::new(),
        }
    };
    let mut each: Vec<Vec<Holder>> = volumes.iter().map(of_volume).collect();
    let unseen = || {
        let open = fs.handles.by_volume();
        let all = volumes.iter().zip(&each).enumerate();
        let is_unseen = |volume: &Volume| open.contains_key(&volume.slot);
        all.filter(|(_, (volume, seen))| seen.is_empty() && is_unseen(volume))
            .map(|(at, _)| at)
            .collect::<Vec<usize>>()
    };
    let unseen = match stays(|| !unseen().is_empty()) {
        true => unseen(),
        false => Vec::new(),
    };
    for at in unseen {
        each[at].push(UNSEEN);
    }
    each
}

/// Detaches the bind mounts of `volume` in this mount namespace, if nobody
/// uses it in any other way; see [`Volumes::detach`](crate::volume::Volumes::detach).
///
/// # Errors
/// Who does.
pub(super) fn detach(fs: &FileSystem, volume: &Volume) -> Result<Vec<String>, Vec<Holder>> {
    // A container that has it bound runs on what it would lose; the mount
    // namespace of the daemon is where people bind by hand.
    let others = find(fs, volume, Namespaces::Others);
    if !others.is_empty() {
        return Err(others);
    }
    let wanted = Wanted {
        is_node: &|ino| is_of(volume, ino),
        called: &|shown, before| called(fs, volume, shown, before),
        is_stored: &fs.store.is_stored(volume),
    };
    let mount = fs.device().map(|device| mount_side(fs, device));
    holders::detach(&wanted, mount, fs.store.dir())
}

/// Whether an inode of the mount is the volume's, or its image.
fn is_of(volume: &Volume, ino: u64) -> bool {
    let node = NodeId::from_raw(ino);
    node.slot() == Some(volume.slot) || node == image_file::node_of(volume.slot)
}

/// Whether the volume, or its image, is or was called so.
fn called(fs: &FileSystem, volume: &Volume, shown: &Shown, before: Option<u64>) -> Called {
    match shown {
        Shown::Volume(name) => fs.former_names.called(&fs.store, volume, name, before),
        Shown::Image(_) if volume.kind != Kind::Disk => Called::Never,
        Shown::Image(name) => fs.former_names.called(&fs.store, volume, name, before),
        Shown::Control => Called::Never,
    }
}

/// The mount with this device number, as surveys see it.
pub(super) fn mount_side(fs: &FileSystem, device: u64) -> MountSide {
    let keeper = || nix::unistd::getppid().as_raw();
    MountSide {
        device,
        in_volume: |ino| NodeId::from_raw(ino).slot().is_some(),
        keeper: fs.live.is_supervised().then(keeper),
    }
}

fn holders_in(
    survey: &Survey,
    fs: &FileSystem,
    volume: &Volume,
    namespaces: Namespaces,
) -> Vec<Holder> {
    let wanted = Wanted {
        is_node: &|ino| is_of(volume, ino),
        called: &|shown, before| called(fs, volume, shown, before),
        is_stored: &fs.store.is_stored(volume),
    };
    survey.holders(&wanted, namespaces)
}

fn find(fs: &FileSystem, volume: &Volume, namespaces: Namespaces) -> Vec<Holder> {
    // A mapping of a file that the kernel reads by itself keeps nothing open
    // that we know of. In an empty volume there is nothing to be mapped.
    let mappings = volume.kind == Kind::Disk || volume.usage().inodes > 0;
    let survey = fs.store.survey(mappings);
    let found = holders_in(&survey, fs, volume, namespaces);
    let still_open = || !fs.handles.in_volume(volume.slot).is_empty();
    if found.is_empty() && stays(still_open) {
        return vec![UNSEEN];
    }
    found
}

/// Who has the image of a disk volume open.
pub(super) fn of_image(fs: &FileSystem, volume: &Volume) -> Vec<Holder> {
    let image = image_file::node_of(volume.slot);
    let wanted = Wanted {
        is_node: &|ino| NodeId::from_raw(ino) == image,
        called: &|shown, before| match shown {
            Shown::Image(_) => called(fs, volume, shown, before),
            Shown::Volume(_) | Shown::Control => Called::Never,
        },
        is_stored: &fs.store.is_stored(volume),
    };
    let found = fs.store.survey(true).holders(&wanted, Namespaces::All);
    if found.is_empty() {
        vec![UNSEEN]
    } else {
        found
    }
}

/// A file is open, and no process can be seen that has it.
const UNSEEN: Holder = Holder::unseen(Hold::OpenFile);

/// Whether `is` stays true for longer than a close takes to reach us.
fn stays(is: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + RELEASE_GRACE;
    while is() {
        if Instant::now() >= deadline {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// Who has files of the volume open that the kernel writes to by itself.
pub(super) fn unaccounted_writers(fs: &FileSystem, volume: &Volume) -> Vec<Holder> {
    let writes = || {
        let open = fs.handles.in_volume(volume.slot);
        open.iter()
            .any(|handle| handle.writes() && handle.file.is_none())
    };
    // Pages that were cached before the kernel wrote by itself are old.
    fs.distrust_cache(volume.slot);
    // One that was decided before the limit was set is to be seen below.
    fs.handles.settle_openings();
    if !stays(writes) {
        return writers_of_a_dead_mount(fs, volume);
    }
    let mut holders = of_volume(fs, volume);
    holders.retain(|holder| holder.how == Hold::OpenFile);
    if holders.is_empty() {
        holders.push(UNSEEN);
    }
    holders
}

/// Who has files of the volume open for writing through a mount whose daemon
/// was killed: to a file that was in passthrough the kernel goes on writing.
fn writers_of_a_dead_mount(fs: &FileSystem, volume: &Volume) -> Vec<Holder> {
    let Some(device) = fs.device() else {
        return Vec::new();
    };
    let is_one = |pid: i32, fd: &std::ffi::OsStr| {
        let path = proc_file(pid, "fd").join(fd);
        // Node ids are the same in every mount of a store.
        cached_identity(&path).is_some_and(|(dev, ino)| {
            dev != device && NodeId::from_raw(ino).slot() == Some(volume.slot)
        }) && opened_for_writing(&proc_file(pid, "fdinfo").join(fd))
            // Asks nobody: a mount without a daemon.
            && nix::sys::statvfs::statvfs(&path) == Err(nix::errno::Errno::ENOTCONN)
    };
    let own = std::process::id().cast_signed();
    let processes = Proc::open().map(|mut proc| proc.processes());
    let pids = processes.unwrap_or_default().into_iter().map(|it| it.pid);
    pids.filter(|&pid| pid != own)
        .filter(|&pid| {
            std::fs::read_dir(proc_file(pid, "fd"))
                .is_ok_and(|files| files.flatten().any(|file| is_one(pid, &file.file_name())))
        })
        .map(|pid| holder(pid, Hold::OpenFile))
        .collect()
}

/// By the octal `flags:` of `/proc/PID/fdinfo/FD` (proc_pid_fdinfo(5)).
fn opened_for_writing(fdinfo: &Path) -> bool {
    let text = std::fs::read_to_string(fdinfo).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok())
        .is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

/// Who uses anything of the mount, other than the mount itself.
pub(super) fn of_mount(fs: &FileSystem) -> Vec<Holder> {
    let survey = fs.store.survey(true);
    let wanted = Wanted {
        is_node: &|ino| {
            let node = NodeId::from_raw(ino);
            node.slot().is_some() || image_file::is_image(node)
        },
        called: &|_, _| Called::Now,
        is_stored: &|_, _| false,
    };
    let mut holders = survey.holders(&wanted, Namespaces::OfMount);
    holders.extend(survey.working_in(NodeId::ROOT.raw()));
    holders
}

/// Who has a bind mount out of the mount. umount(2) does not see them: they
/// keep the file system alive, not its mountpoint busy.
pub(super) fn bind_mounts(fs: &FileSystem) -> Vec<Holder> {
    let wanted = Wanted {
        is_node: &|ino| NodeId::from_raw(ino) != NodeId::ROOT,
        called: &|_, _| Called::Now,
        is_stored: &|_, _| false,
    };
    let mut holders = fs.store.survey(false).holders(&wanted, Namespaces::All);
    holders.retain(|holder| holder.how == Hold::BindMount);
    holders
}

fn proc_file(pid: i32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}
