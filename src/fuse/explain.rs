//! What `.volfs/last_error` says of a request that was refused: the sentence
//! that an error number is too short for.

use std::cell::Cell;

use nix::errno::Errno;

use super::error::OpError;
use super::fs::FileSystem;
use super::node::NodeId;
use crate::model::Kind;

/// With more left on the store's disk it is the image of a disk volume that is
/// full.
const LITTLE: u64 = 1 << 20;

thread_local! {
    /// Who asks for what this thread is doing, if that is known.
    static ASKED_BY: Cell<Option<u32>> = const { Cell::new(None) };
}

/// The request that this thread serves is one of user `uid`.
pub(super) fn asked_by(uid: u32) {
    ASKED_BY.set(Some(uid));
}

/// Who asks for what this thread is doing.
pub(super) fn who_asks() -> Option<u32> {
    ASKED_BY.get()
}

/// The request has been served.
pub(super) fn served() {
    ASKED_BY.set(None);
}

impl FileSystem {
    /// Keeps why a request about `node` was refused, for who asked for it.
    /// What an error number says as well is not kept.
    pub(super) fn explain(&self, node: NodeId, error: &OpError) {
        if let OpError::Host(Errno::EUCLEAN) = error {
            // Not who asks is at fault, and the kernel may ask by itself.
            if let Some(sentence) = self.what_is_damaged(node) {
                self.last_errors.set_for_all(sentence);
            }
        } else if let Some(uid) = ASKED_BY.get()
            && let Some(sentence) = self.sentence(node, error)
        {
            self.last_errors.set(uid, sentence);
        }
    }

    fn sentence(&self, node: NodeId, error: &OpError) -> Option<String> {
        match error {
            OpError::Host(Errno::ENOSPC | Errno::EDQUOT) => self.what_is_full(node),
            OpError::OverQuota(over) if over.user.is_some() => {
                Some(self.store.over_user_limit(*over).to_string())
            }
            OpError::OverQuota(_) => self.what_is_reached(node),
            OpError::Host(Errno::ESTALE) => self.what_is_missing(node),
            // Programs ask for attributes that are not there all the time.
            OpError::Host(_) | OpError::NoProperty => None,
            error => Some(error.to_string()),
        }
    }

    fn what_is_damaged(&self, node: NodeId) -> Option<String> {
        let volume = self.store.volume_in(node.slot()?)?;
        let name = volume.name();
        (volume.kind == Kind::Disk).then(|| format!(
            "something in the image of volume {name:?} contradicts itself, or has no end, and is not read; the rest is; 'volfs disk check {name}' says more"
        ))
    }

    fn what_is_missing(&self, node: NodeId) -> Option<String> {
        let volume = self.store.volume_in(node.slot()?)?;
        let missing = self.store.check_files(&volume).err()?;
        Some(missing.to_string())
    }

    /// The host has no space, or the image of a disk volume.
    fn what_is_full(&self, node: NodeId) -> Option<String> {
        let volume = self.store.volume_in(node.slot()?)?;
        let name = volume.name();
        let disk = self.store.disk_space()?;
        if volume.kind == Kind::Disk && disk.available.0 > LITTLE {
            return Some(format!(
                "the image of volume {name:?} is full; remove something in it, or let its operator make it larger with 'volfs set {} --size'",
                name.as_shell_word()
            ));
        }
        if volume.kind == Kind::Directory {
            self.store.note_full(&volume);
        }
        let what = if disk.out_of_inodes {
            "has no inode left".to_owned()
        } else {
            format!("is full: {} of {} are left", disk.available, disk.size)
        };
        let (used, limits) = volume.account().snapshot();
        let own = match limits.bytes {
            Some(limit) => {
                let share = u128::from(used.bytes.0) * 100 / u128::from(limit.0.max(1));
                format!("is at {share} % of its own limit")
            }
            None => "has no limit of its own".to_owned(),
        };
        Some(format!(
            "the store's disk {what}; volume {name:?} {own}. Let the operator of this machine remove volumes, empty the trash, or make room beside the store {:?}",
            self.store.dir()
        ))
    }

    /// The volume's own limit is reached.
    fn what_is_reached(&self, node: NodeId) -> Option<String> {
        let volume = self.store.volume_in(node.slot()?)?;
        let name = volume.name();
        let (used, limits) = volume.account().snapshot();
        let mut of = Vec::new();
        if let Some(bytes) = limits.bytes {
            of.push(format!("{} of {} bytes", used.bytes.0, bytes.0));
        }
        if let Some(inodes) = limits.inodes_in_force(volume.unit()) {
            of.push(format!("{} of {inodes} inodes", used.inodes));
        }
        Some(format!(
            "volume {name:?} cannot hold that: it has {}; remove something, or let its operator raise the limit with 'volfs set {} --quota'",
            of.join(" and "),
            name.as_shell_word()
        ))
    }
}
