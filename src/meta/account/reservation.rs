//! Room in an account that was granted.

use super::Account;
use crate::model::{Bytes, Usage};

/// Room that was granted and is not used yet. What is not committed when it
/// is dropped is given back.
#[derive(Debug)]
#[must_use = "a reservation that is dropped is given back"]
pub struct Reservation<'a> {
    pub(super) account: &'a Account,
    pub(super) amount: Usage,
    /// What will mostly be given back in a moment.
    pub(super) passing: bool,
}

impl<'a> Reservation<'a> {
    /// Takes `bytes` of it, or all that it has, for something else.
    pub fn split(&mut self, bytes: Bytes) -> Reservation<'a> {
        let bytes = bytes.min(self.amount.bytes);
        self.amount.bytes.0 -= bytes.0;
        Reservation {
            account: self.account,
            amount: Usage { bytes, inodes: 0 },
            passing: self.passing,
        }
    }

    /// What was granted.
    #[must_use]
    pub const fn amount(&self) -> Usage {
        self.amount
    }

    /// All of it has been used.
    pub fn commit(self) {
        let amount = self.amount;
        self.commit_part(amount.bytes, amount.inodes);
    }

    /// This much of it has been used (more than was granted counts as what was
    /// granted); the rest is given back.
    pub fn commit_part(mut self, bytes: Bytes, inodes: u64) {
        let granted = std::mem::take(&mut self.amount);
        let used = Usage {
            bytes: bytes.min(granted.bytes),
            inodes: inodes.min(granted.inodes),
        };
        self.account.settle((granted, self.passing), used);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.amount != Usage::default() {
            let reserved = (self.amount, self.passing);
            self.account.settle(reserved, Usage::default());
        }
    }
}
