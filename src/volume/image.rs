//! What the store does with the image of a disk volume: making it, growing it,
//! looking into it. Mounts nothing.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::api::DiskState;
use super::error::{Error, Result};
use crate::diskimg::{self, ImageSize, ImageState, Options, RootDirectory, Summary};
use crate::model::{Bytes, InvalidSpec, Owner, Usage};

/// Whether an image can have this size.
pub(super) fn check_size(size: Bytes) -> Result<ImageSize> {
    ImageSize::from_bytes(size.0).map_err(|error| {
        let why = error.to_string();
        InvalidSpec::DiskSize { why }.into()
    })
}

/// Makes the image of a new volume; on disk in full when this returns.
pub(super) fn make(path: &Path, size: Bytes, owner: Owner) -> Result<()> {
    let root = RootDirectory {
        uid: owner.uid,
        gid: owner.gid,
        mode: (owner.mode & 0o7777) as u16,
    };
    let options = Options::new(check_size(size)?)
        .root(root)
        // Root of the host is not who fills a volume: all of it can be used.
        .and_then(|options| options.reserved_basis_points(0))
        .map_err(|error| failed(path, &error))?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Error::io("create", path, &error))?;
    diskimg::format_file(&file, &options).map_err(|error| failed(path, &error))?;
    Ok(())
}

/// Grows an image that nobody uses.
pub(super) fn grow(path: &Path, size: Bytes) -> Result<()> {
    diskimg::grow(path, check_size(size)?).map_err(|error| failed(path, &error))?;
    Ok(())
}

/// Makes an image longer, and leaves what is in it as it is.
pub(super) fn lengthen(path: &Path, size: Bytes) -> Result<()> {
    check_size(size)?;
    let failed = |error: std::io::Error| Error::io("lengthen", path, &error);
    let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.len() < size.0 {
        file.set_len(size.0).map_err(failed)?;
        file.sync_all().map_err(failed)?;
    }
    Ok(())
}

/// Whether a volume holds nothing but an empty `lost+found`. Reads the image
/// without the kernel, with what its journal has. A guest may have written it:
/// what is there is not believed further than needed.
pub(super) fn is_empty(path: &Path) -> Result<bool> {
    // The reader may be led into a panic.
    std::panic::catch_unwind(|| holds_nothing(path)).unwrap_or_else(|_| {
        Err(Error::Image {
            path: path.to_owned(),
            why: "what is in it makes no sense; 'volfs disk check' says more".to_owned(),
        })
    })
}

fn holds_nothing(path: &Path) -> Result<bool> {
    /// An empty directory has two; one that goes on and on is not looked
    /// through.
    const MANY: usize = 1000;
    let unreadable = |error: ext4_view::Ext4Error| failed(path, &error);
    let file = File::open(path).map_err(|error| Error::io("open", path, &error))?;
    // The reader takes memory for what an image claims to have.
    if !diskimg::inspect(&file).is_ok_and(|found| found.bytes <= found.file_bytes) {
        return Err(Error::Image {
            path: path.to_owned(),
            why: "it has no file system that can be read".to_owned(),
        });
    }
    let image = ext4_view::Ext4::load(Box::new(file)).map_err(unreadable)?;
    let holds = |dir: &str, but: Option<&str>| -> Result<bool> {
        for (index, entry) in image.read_dir(dir).map_err(unreadable)?.enumerate() {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let name = name.as_ref();
            let own = name == b"." || name == b".." || Some(name) == but.map(str::as_bytes);
            if !own || index >= MANY {
                return Ok(true);
            }
        }
        Ok(false)
    };
    if holds("/", Some("lost+found"))? {
        return Ok(false);
    }
    let lost = image.exists("/lost+found").map_err(unreadable)?;
    Ok(!(lost && holds("/lost+found", None)?))
}

/// What an image says of itself; `None` when it cannot be read.
pub(super) fn look(path: &Path) -> Option<Summary> {
    let file = File::open(path).ok()?;
    diskimg::inspect(&file).ok()
}

/// What the file system holds, by its own account.
pub(super) fn usage(summary: &Summary) -> Usage {
    let block = u64::from(summary.block_bytes);
    let blocks = summary
        .blocks
        .saturating_sub(summary.overhead_blocks)
        .saturating_sub(summary.free_blocks);
    Usage {
        bytes: Bytes(blocks.saturating_mul(block)),
        inodes: u64::from(summary.inodes)
            .saturating_sub(summary.free_inodes)
            .saturating_sub(diskimg::RESERVED_INODES),
    }
}

/// How the image is, in one word.
pub(super) fn state(summary: Option<&Summary>) -> DiskState {
    match summary {
        None => DiskState::Unreadable,
        Some(summary) => match summary.state {
            ImageState::Clean if summary.damage_count > 0 => DiskState::Damaged,
            ImageState::Clean => DiskState::Clean,
            ImageState::NeedsRecovery | ImageState::NotUnmounted => DiskState::NotUnmounted,
            ImageState::HasErrors => DiskState::Damaged,
        },
    }
}

/// What the library says, as the store says it: the system's error number,
/// where there is one.
fn failed(path: &Path, error: &(dyn std::error::Error + 'static)) -> Error {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>()
            && io.raw_os_error().is_some()
        {
            return Error::io("write the image", path, io);
        }
        cause = inner.source();
    }
    Error::Image {
        path: path.to_owned(),
        why: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Owner = Owner {
        uid: 65534,
        gid: 65533,
        mode: 0o1750,
    };

    #[test]
    fn a_new_image_is_empty_and_owned_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.raw");
        make(&path, Bytes(8 << 20), NOBODY).unwrap();
        assert!(is_empty(&path).unwrap());
        let summary = look(&path).unwrap();
        assert_eq!(state(Some(&summary)), DiskState::Clean);
        assert_eq!(usage(&summary).inodes, 1, "lost+found");
        let root = diskimg::root_inode(&File::open(&path).unwrap()).unwrap();
        assert_eq!((root.uid, root.gid, root.mode), (65534, 65533, 0o041_750));
        grow(&path, Bytes(16 << 20)).unwrap();
        assert!(is_empty(&path).unwrap());
        assert!(matches!(
            grow(&path, Bytes(8 << 20)),
            Err(Error::Image { .. })
        ));
    }

    #[test]
    fn sizes_that_cannot_be_are_said() {
        for size in [1, 4 << 20, (8 << 20) + 1] {
            assert!(matches!(
                check_size(Bytes(size)),
                Err(Error::InvalidSpec(InvalidSpec::DiskSize { .. }))
            ));
        }
    }
}
