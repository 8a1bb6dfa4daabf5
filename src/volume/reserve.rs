//! A little space that is kept back, so that volumes can be removed when the
//! file system is full: the commit of a removal has to be written somewhere.
//!
//! Best effort: without it everything works but that.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::statvfs::statvfs;

/// Several times what the commit of one removal writes (a few pages of the
/// database).
const BYTES: u64 = 256 << 10;

/// No space is kept back on a file system with less than this left: not the
/// last space of all.
const LEAVE: u64 = 1 << 20;

/// The file that holds the space.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    there: AtomicBool,
}

impl Reserve {
    pub(super) fn new(path: PathBuf) -> Self {
        let reserve = Self {
            there: AtomicBool::new(path.exists()),
            path,
        };
        reserve.refill();
        reserve
    }

    /// Gives the space back to the file system. Says whether there was any.
    pub(super) fn release(&self) -> bool {
        self.there.swap(false, Ordering::AcqRel) && fs::remove_file(&self.path).is_ok()
    }

    /// Takes the space again, once there is plenty.
    pub(super) fn refill(&self) {
        if self.there.load(Ordering::Acquire) || !self.plenty() {
            return;
        }
        let fill = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&self.path)?;
            // Random enough that no file system stores it as less.
            let mut word = 0x9e37_79b9_7f4a_7c15_u64;
            let mut block = Vec::with_capacity(4096);
            for _ in 0..BYTES / 4096 {
                block.clear();
                while block.len() < 4096 {
                    word ^= word << 13;
                    word ^= word >> 7;
                    word ^= word << 17;
                    block.extend_from_slice(&word.to_le_bytes());
                }
                file.write_all(&block)?;
            }
            Ok(())
        };
        match fill() {
            Ok(()) => self.there.store(true, Ordering::Release),
            Err(error) => {
                log::debug!("no space is kept back in {:?}: {error}", self.path);
                let _ = fs::remove_file(&self.path);
            }
        }
    }

    fn plenty(&self) -> bool {
        let Some(dir) = self.path.parent() else {
            return false;
        };
        // The types differ from platform to platform.
        #[allow(clippy::useless_conversion)]
        statvfs(dir).is_ok_and(|fs| {
            u64::from(fs.blocks_available()).saturating_mul(u64::from(fs.fragment_size())) >= LEAVE
        })
    }
}
