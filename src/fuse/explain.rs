//! What `.volfs/last_error` says of a request that was refused: the sentence
//! that an error number is too short for.

use std::cell::Cell;

use nix::errno::Errno;

use super::error::OpError;
use super::fs::FileSystem;
use super::node::NodeId;
use crate::model::Kind;

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
            OpError::Host(Errno::ENOSPC) => self.what_is_full(node),
            OpError::OverQuota(over) if over.user.is_some() => {
                Some(self.store.over_user_limit(*over).to_string())
            }
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

    fn what_is_full(&self, node: NodeId) -> Option<String> {
        let volume = self.store.volume_in(node.slot()?)?;
        let name = volume.name();
        if let Some(over) = volume.pool_of_contents().and_then(|pool| pool.reached()) {
            return Some(self.store.over_user_limit(over).to_string());
        }
        let (used, limits) = volume.account().snapshot();
        if limits.bytes.is_none() && limits.inodes.is_none() {
            return Some(format!(
                "no space is left for volume {name:?}: the file system that the store lies on, or its image, is full"
            ));
        }
        let mut of = Vec::new();
        if let Some(bytes) = limits.bytes {
            of.push(format!("{} of {} bytes", used.bytes.0, bytes.0));
        }
        if let Some(inodes) = limits.inodes_in_force() {
            of.push(format!("{} of {inodes} inodes", used.inodes));
        }
        Some(format!(
            "volume {name:?} cannot hold that: it has {}; remove something, or let its operator raise the limit with 'volfs set {} --quota'",
            of.join(" and "),
            name.as_shell_word()
        ))
    }
}
