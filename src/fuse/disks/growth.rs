//! Growing a disk volume: by who has its image.

use std::sync::Arc;

use nix::errno::Errno;

use super::Face;
use super::directory::ReadOnly;
use crate::diskimg::ImageSize;
use crate::fuse::fs::FileSystem;
use crate::sys::creds::{self, Acting, Capability};
use crate::volume::{Growth, Volume};

impl FileSystem {
    /// Grows the image of `volume` where that is for its users to do, and says
    /// what is left to do for the store.
    pub(in crate::fuse) fn grow_image(&self, volume: &Volume, size: ImageSize) -> Growth {
        let disk = self.disks.of(volume.slot);
        let mut face = disk.lock();
        let ground = match &mut *face {
            Face::Directory(ground) => Arc::clone(ground),
            Face::Block(open) if open.users.iter().any(|user| user.writes) => {
                open.length = open.length.max(size.bytes());
                return Growth::FileOnly;
            }
            _ => {
                return match self.read_only_because(volume) {
                    Some(ReadOnly::GuestWritten) => Growth::FileOnly,
                    Some(ReadOnly::NoWay(_)) | None => Growth::Unmounted { why: None },
                };
            }
        };
        // Stays attached for as long as the ground is held.
        drop(face);
        let _as = Acting::daemon();
        if !creds::has(Capability::SysResource) {
            return Growth::Unmounted {
                why: Some(why_not(Errno::EPERM)),
            };
        }
        match ground.grow(size) {
            Ok(()) => Growth::Done,
            Err(errno) => {
                let why = why_not(errno);
                log::warn!("volume {} is not grown while mounted: {why}", volume.name());
                Growth::Unmounted { why: Some(why) }
            }
        }
    }
}

fn why_not(errno: Errno) -> String {
    match errno {
        Errno::EPERM => {
            "growing a mounted file system needs CAP_SYS_RESOURCE, which the daemon lacks"
                .to_owned()
        }
        Errno::EOPNOTSUPP => "fuse2fs, which serves it here, does not grow it".to_owned(),
        _ => format!(
            "the kernel does not grow it while it is mounted: {}",
            errno.desc()
        ),
    }
}
