//! The accounts of volumes in shared memory: what each holds, after the last
//! change that was made to it.
//!
//! A change is written beside what is in force and then put in force by one
//! store. It carries the token of the journal entry that made it, so that a
//! successor knows whether that entry's change is in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::Release};

use super::journal;
use super::layout::{State, Which};
use crate::meta::{AccountChange, Mirror};
use crate::model::{Bytes, Serial, Usage};
use crate::volume::Volume;

/// What the words of a record are.
mod at {
    /// The volume's serial, and 1 in the lowest bit.
    pub(super) const SERIAL: usize = 0;
    /// Which of the two sides is in force.
    pub(super) const SIDE: usize = 1;
    /// Bytes; inodes and in the lowest bit whether it is exact; token.
    pub(super) const SIDES: [usize; 2] = [2, 5];
    pub(super) const FLAGS: usize = 8;
}

/// Cached pages of the volume's files may be old.
const STALE_CACHE: u64 = 1;

/// The account of a volume in shared memory.
#[derive(Debug)]
struct SharedAccount {
    state: Arc<State>,
    index: u32,
    exact: AtomicBool,
}

/// The account of a volume as another process left it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PastAccount {
    pub(super) serial: Serial,
    pub(super) used: Usage,
    pub(super) exact: bool,
    pub(super) stale_cache: bool,
    /// Of the change that was made last.
    pub(super) token: u64,
}

/// Keeps the account of `volume` in shared memory from now on.
pub(super) fn share(state: &Arc<State>, volume: &Volume) {
    if volume.account().has_mirror() {
        return;
    }
    let exact = volume.usage_is_exact();
    volume.account().set_mirror(|used| {
        let index = state
            .take(Which::Volumes)
            .inspect_err(|error| log::error!("no memory to keep an account: {error}"))
            .ok()?;
        let shared = SharedAccount {
            state: Arc::clone(state),
            index,
            exact: AtomicBool::new(exact),
        };
        let record = shared.record();
        record[at::FLAGS].store(0, Relaxed);
        shared.write(used, 0);
        record[at::SERIAL].store(volume.serial.0.cast_unsigned() << 1 | 1, Release);
        Some(Box::new(shared))
    });
}

/// Cached pages of the volume's files may be old from now on.
pub(super) fn distrust_cache(state: &State, serial: Serial) {
    let wanted = serial.0.cast_unsigned() << 1 | 1;
    for record in state.table(Which::Volumes).used() {
        if record[at::SERIAL].load(Relaxed) == wanted {
            record[at::FLAGS].fetch_or(STALE_CACHE, Release);
        }
    }
}

impl SharedAccount {
    fn record(&self) -> &[AtomicU64] {
        self.state.record(Which::Volumes, self.index)
    }

    fn write(&self, used: Usage, token: u64) {
        let record = self.record();
        let side = 1 - (record[at::SIDE].load(Relaxed) & 1);
        let exact = u64::from(self.exact.load(Relaxed));
        let to = &record[at::SIDES[side as usize]..];
        to[0].store(used.bytes.0, Relaxed);
        to[1].store(used.inodes << 1 | exact, Relaxed);
        to[2].store(token, Relaxed);
        record[at::SIDE].store(side, Release);
    }
}

impl Mirror for SharedAccount {
    fn changed(&self, used: Usage, how: AccountChange) {
        match how {
            AccountChange::Moved => {}
            AccountChange::Distrusted => self.exact.store(false, Relaxed),
            AccountChange::Counted => self.exact.store(true, Relaxed),
        }
        self.write(used, journal::token());
        journal::applied();
    }
}

impl Drop for SharedAccount {
    fn drop(&mut self) {
        self.state.table(Which::Volumes).give_back(self.index);
    }
}

/// All accounts of a state that nobody changes.
pub(super) fn all(state: &State) -> Vec<PastAccount> {
    let alike = state.charges_alike();
    let table = state.table(Which::Volumes);
    let of = |record: &[AtomicU64]| {
        let side = (record[at::SIDE].load(Relaxed) & 1) as usize;
        let from = &record[at::SIDES[side]..];
        let inodes = from[1].load(Relaxed);
        PastAccount {
            serial: Serial((record[at::SERIAL].load(Relaxed) >> 1).cast_signed()),
            used: Usage {
                bytes: Bytes(from[0].load(Relaxed)),
                inodes: inodes >> 1,
            },
            exact: inodes & 1 == 1 && alike,
            stale_cache: record[at::FLAGS].load(Relaxed) & STALE_CACHE != 0,
            token: from[2].load(Relaxed),
        }
    };
    table.used().map(of).collect()
}
