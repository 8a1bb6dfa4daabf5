//! Who can write to a volume by what it has open or mapped: an open file goes on to
//! be written whatever becomes of the volume, and by passthrough without us.

use std::path::Path;

use super::{UNSEEN, is_of, opened_for_writing, proc_file, stays, writers_of_a_dead_mount};
use crate::fuse::fs::FileSystem;
use crate::sys::node::cached_identity;
use crate::sys::procfs::Proc;
use crate::volume::holders::{holder, mapped_file};
use crate::volume::{Hold, Holder, Volume};

/// Who has files of the volume, or its image, open for writing, or mapped so that they
/// may write to them.
pub(in crate::fuse) fn writers(fs: &FileSystem, volume: &Volume) -> Vec<Holder> {
    // One that was decided before the volume was made read-only is to be seen below.
    fs.handles.settle_openings();
    let writes = || {
        let open = fs.handles.in_volume(volume.slot);
        open.iter().any(|handle| handle.writes())
    };
    let is_open = stays(writes);
    let mut holders = writers_of_a_dead_mount(fs, volume);
    if let Some(device) = fs.device() {
        let is_its = |(dev, ino): (u64, u64)| dev == device && is_of(volume, ino);
        let own = std::process::id().cast_signed();
        let processes = Proc::open().map(|mut proc| proc.processes());
        let pids = processes.unwrap_or_default().into_iter().map(|it| it.pid);
        for pid in pids.filter(|&pid| pid != own) {
            if is_open && has_open(pid, &is_its) {
                holders.push(holder(pid, Hold::OpenFile));
            } else if has_mapped(pid, &is_its) {
                holders.push(holder(pid, Hold::Mapping));
            }
        }
    }
    if holders.is_empty() && is_open {
        holders.push(UNSEEN);
    }
    holders
}

fn has_open(pid: i32, is_its: &dyn Fn((u64, u64)) -> bool) -> bool {
    let Ok(files) = std::fs::read_dir(proc_file(pid, "fd")) else {
        return false;
    };
    files.flatten().any(|file| {
        cached_identity(&file.path()).is_some_and(is_its)
            && opened_for_writing(&proc_file(pid, "fdinfo").join(file.file_name()))
    })
}

/// Whether a process shares pages of such a file, and may write to them: also those
/// that it may not now, and may let itself (mprotect(2)).
fn has_mapped(pid: i32, is_its: &dyn Fn((u64, u64)) -> bool) -> bool {
    let is_shared = |line: &str| {
        let permissions = line.split_ascii_whitespace().nth(1);
        permissions.is_some_and(|it| it.ends_with('s'))
            && mapped_file(line).is_some_and(|(_, file)| is_its(file))
    };
    // A look at `maps` is cheap, and of most processes enough.
    let Ok(maps) = std::fs::read(proc_file(pid, "maps")) else {
        return false;
    };
    if !String::from_utf8_lossy(&maps).lines().any(is_shared) {
        return false;
    }
    may_write(&proc_file(pid, "smaps"), &is_shared)
}

/// By the flag `mw` (VM_MAYWRITE) of proc_pid_smaps(5); as if they might where that
/// cannot be read.
fn may_write(smaps: &Path, is_its: &dyn Fn(&str) -> bool) -> bool {
    let Ok(text) = std::fs::read(smaps) else {
        return true;
    };
    let text = String::from_utf8_lossy(&text);
    let mut shared = false;
    for line in text.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            if shared && flags.split_ascii_whitespace().any(|flag| flag == "mw") {
                return true;
            }
            shared = false;
        } else if line
            .split_ascii_whitespace()
            .next()
            .is_some_and(|it| it.contains('-'))
        {
            shared = is_its(line);
        }
    }
    false
}
