//! The charges of inodes that the requests under way change: what a successor
//! must know to bring the accounts to what the inodes are charged.

use std::sync::atomic::Ordering::{Relaxed, Release};

use super::{at, with};
use crate::fuse::node::NodeId;
use crate::meta::BLOCK;
use crate::model::{Bytes, Serial, Usage};

/// The charge of an inode that is about to change.
pub(in crate::fuse::live) mod charge_at {
    /// [`Progress`](super::Progress).
    pub(in crate::fuse::live) const PROGRESS: usize = 0;
    pub(in crate::fuse::live) const SERIAL: usize = 1;
    /// 0: what the name of the intent leads to.
    pub(in crate::fuse::live) const NODE: usize = 2;
    pub(in crate::fuse::live) const GENERATION: usize = 3;
    pub(in crate::fuse::live) const BEFORE: usize = 4;
    pub(in crate::fuse::live) const AFTER: usize = 5;
    pub(in crate::fuse::live) const TOKEN: usize = 6;
}

/// How far a change of a charge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(in crate::fuse::live) enum Progress {
    /// The account has what was before.
    Open = 1,
    /// The account has what is after.
    Applied = 2,
}

/// Which of the charges that one request can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(in crate::fuse) enum Item {
    /// Of the inode that is made, changed or removed.
    First = 0,
    /// Of another: what a rename makes or replaces.
    Second = 1,
    /// Of the directory that names change in.
    Dir = 2,
    /// Of the other one.
    OtherDir = 3,
}

impl Item {
    /// All of them.
    pub(in crate::fuse::live) const ALL: [Self; 4] =
        [Self::First, Self::Second, Self::Dir, Self::OtherDir];
}

/// A change of a charge that has begun, until this is dropped: then the account
/// has what the inode is charged, whatever that is.
#[must_use]
pub(in crate::fuse) struct Charging(Item);

pub(in crate::fuse::live) const GENERATION_KNOWN: u64 = 1 << 32;

/// The charge of an inode of the volume `serial` may change; the account has
/// `before` of it. Without a node it is what the intent's name leads to.
pub(in crate::fuse) fn charging(
    item: Item,
    serial: Serial,
    node: Option<(NodeId, Option<u32>)>,
    before: Usage,
) -> Charging {
    with(|active| {
        active.tokens = active.tokens.wrapping_add(1).max(1);
        let token = u64::from(active.index) << 32 | u64::from(active.tokens);
        let record = &active.record()[at::CHARGES[item as usize].clone()];
        record[charge_at::PROGRESS].store(0, Release);
        record[charge_at::SERIAL].store(serial.0.cast_unsigned(), Relaxed);
        let (node, generation) = node.unwrap_or((NodeId::NONE, None));
        let generation = generation.map_or(0, |known| u64::from(known) | GENERATION_KNOWN);
        let before = charge_word(before);
        record[charge_at::NODE].store(node.raw(), Relaxed);
        record[charge_at::GENERATION].store(generation, Relaxed);
        record[charge_at::BEFORE].store(before, Relaxed);
        record[charge_at::AFTER].store(before, Relaxed);
        record[charge_at::TOKEN].store(token, Relaxed);
        record[charge_at::PROGRESS].store(Progress::Open as u64, Release);
    });
    Charging(item)
}

impl Charging {
    /// The next change of an account by this thread makes the charge `after`.
    pub(in crate::fuse) fn becomes(&self, after: Usage) {
        with(|active| {
            active.charging = self.0 as usize + 1;
            let record = &active.record()[at::CHARGES[self.0 as usize].clone()];
            record[charge_at::AFTER].store(charge_word(after), Release);
        });
    }
}

impl Drop for Charging {
    fn drop(&mut self) {
        with(|active| {
            active.charging = 0;
            let record = &active.record()[at::CHARGES[self.0 as usize].clone()];
            record[charge_at::PROGRESS].store(0, Release);
        });
    }
}

/// The charge of one inode as a word: charges are multiples of [`BLOCK`].
fn charge_word(charge: Usage) -> u64 {
    (charge.bytes.0 / BLOCK) << 1 | (charge.inodes & 1)
}

/// The charge that a word stands for.
pub(in crate::fuse::live) fn charge_of(word: u64) -> Usage {
    Usage {
        bytes: Bytes((word >> 1).saturating_mul(BLOCK)),
        inodes: word & 1,
    }
}

/// The token of the change that this thread makes now, or 0.
pub(in crate::fuse::live) fn token() -> u64 {
    with(|active| {
        let item = active.charging.checked_sub(1)?;
        let record = &active.record()[at::CHARGES[item].clone()];
        Some(record[charge_at::TOKEN].load(Relaxed))
    })
    .flatten()
    .unwrap_or(0)
}

/// The account has the change.
pub(in crate::fuse::live) fn applied() {
    with(|active| {
        if let Some(item) = active.charging.checked_sub(1) {
            let record = &active.record()[at::CHARGES[item].clone()];
            record[charge_at::PROGRESS].store(Progress::Applied as u64, Release);
            active.charging = 0;
        }
    });
}
