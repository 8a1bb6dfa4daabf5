//! Making a directory volume ready for its first limit of bytes: what its files
//! have allocated beyond their ends, which no size shows and so nothing is charged
//! for, is given back to the host.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode};
use nix::sys::time::TimeSpec;

use super::error::Result;
use super::walk;
use crate::model::AllocationUnit;
use crate::sys::{allocation, node, xattr};

/// Where the kernel has the capabilities of a file, which it takes off when the
/// file is truncated.
const CAPABILITIES: &str = "security.capability";

/// Frees what files below `root` have allocated beyond their ends; returns of how
/// many. Nothing may change them meanwhile. Contents and attributes stay as they
/// are, but for the times of change.
///
/// # Errors
/// The first file of which it cannot be freed, by the path of `root`.
pub(super) fn free(root: &Path, unit: AllocationUnit) -> Result<u64> {
    let mut freed = 0;
    walk::each(root, "free the unused space of", &mut |dir, name, stat| {
        if stat.st_mode & libc::S_IFMT == libc::S_IFREG
            && stat.st_blocks > 0
            && has_unused(dir, name, stat, unit)?
        {
            cut(dir, name)?;
            freed += 1;
        }
        Ok(())
    })?;
    Ok(freed)
}

fn has_unused(
    dir: &OwnedFd,
    name: &OsStr,
    stat: &FileStat,
    unit: AllocationUnit,
) -> nix::Result<bool> {
    let end = unit.round_up(stat.st_size.unsigned_abs());
    let more_than_its_size = allocation::blocks(stat) > end;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    match node::open_beneath(dir, name, flags, Mode::empty()) {
        Ok(file) => match allocation::extents_from(&file, end) {
            Ok(found) => Ok(found > 0),
            // It cannot be asked; what is there may be behind a hole.
            Err(_) => Ok(true),
        },
        // Its owner, who is this process's user, has closed it to himself.
        Err(Errno::EACCES | Errno::EPERM) => Ok(more_than_its_size),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Truncates a file to the size that it has.
fn cut(dir: &OwnedFd, name: &OsStr) -> nix::Result<()> {
    let fd = node::open_path(dir, name)?;
    let before = node::stat(&fd)?;
    let mut value = [0; 64];
    let capabilities = xattr::get(&fd, CAPABILITIES.as_ref(), &mut value);
    node::truncate(&fd, before.st_size)?;
    if let Ok(len) = capabilities {
        xattr::set(&fd, CAPABILITIES.as_ref(), &value[..len], 0)?;
    }
    if node::stat(&fd)?.st_mode != before.st_mode {
        node::chmod(&fd, Mode::from_bits_truncate(before.st_mode & 0o7777))?;
    }
    let modified = TimeSpec::new(before.st_mtime, before.st_mtime_nsec);
    node::set_times(&fd, &TimeSpec::UTIME_OMIT, &modified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::{FileExt, MetadataExt};

    #[test]
    fn what_is_beyond_the_end_is_freed_and_all_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let made = |name: &str, size: u64| {
            let file = File::create(at(name)).unwrap();
            file.set_len(size).unwrap();
            file
        };
        fs::create_dir(at("d")).unwrap();
        let keep_size = libc::FALLOC_FL_KEEP_SIZE;
        let whole = made("d/whole", 0);
        node::fallocate(&whole, keep_size, 0, 8 << 20).unwrap();
        // As many blocks as its size has, but behind its end.
        let hidden = made("hidden", 4 << 20);
        node::fallocate(&hidden, keep_size, 4 << 20, 4 << 20).unwrap();
        // Within its size: charged.
        let within = made("within", 4 << 20);
        node::fallocate(&within, 0, 0, 4 << 20).unwrap();
        hidden.write_all_at(b"text", 5000).unwrap();
        hidden
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_eq!(free(dir.path(), AllocationUnit::SMALLEST).unwrap(), 2);
        let blocks = |file: &File| file.metadata().unwrap().blocks() * 512;
        assert_eq!((blocks(&whole), blocks(&hidden)), (0, 4096));
        assert_eq!(blocks(&within), 4 << 20);
        let found = hidden.metadata().unwrap();
        assert_eq!((found.len(), found.mtime()), (4 << 20, 0));
        let mut text = [0; 4];
        fs::File::open(at("hidden"))
            .unwrap()
            .read_exact_at(&mut text, 5000)
            .unwrap();
        assert_eq!(&text, b"text");
        assert_eq!(free(dir.path(), AllocationUnit::SMALLEST).unwrap(), 0);
    }
}
