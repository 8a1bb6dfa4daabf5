//! What a volume that is being built is charged, and its limits: the same
//! rules as in a mount, before it has one.

use std::path::Path;

use crate::meta::{Account, Inode, charge};
use crate::model::{AllocationUnit, Bytes, Limits, Usage};
use crate::volume::{Error, Result};

/// The account of a volume that is being built.
#[derive(Debug)]
pub(super) struct Budget {
    account: Account,
}

impl Budget {
    /// Nothing in it; `limits` hold, and is charged in units of `unit`.
    pub(super) fn new(limits: Limits, unit: AllocationUnit) -> Self {
        Self {
            account: Account::new(Usage::default(), limits, unit),
        }
    }

    /// What has been charged.
    pub(super) fn used(&self) -> Usage {
        self.account.usage()
    }

    /// Charges one more inode.
    ///
    /// # Errors
    /// [`Error::NoSpace`]; it must not be made then.
    pub(super) fn take(&self, inode: Inode, path: &Path) -> Result<()> {
        let charge = charge(inode, self.account.unit());
        match self.account.reserve(charge.bytes, charge.inodes) {
            Ok(reservation) => {
                reservation.commit();
                Ok(())
            }
            Err(over) => Err(Error::NoSpace {
                path: path.to_owned(),
                why: over.to_string(),
            }),
        }
    }

    /// A file that was charged for `old` bytes has `new`.
    ///
    /// # Errors
    /// [`Error::NoSpace`].
    pub(super) fn resize(&self, old: u64, new: u64, path: &Path) -> Result<()> {
        let unit = self.account.unit();
        let (before, after) = (unit.round_up(old), unit.round_up(new));
        if after <= before {
            self.account.release(Bytes(before - after), 0);
            return Ok(());
        }
        match self.account.reserve(Bytes(after - before), 0) {
            Ok(reservation) => {
                reservation.commit();
                Ok(())
            }
            Err(over) => Err(Error::NoSpace {
                path: path.to_owned(),
                why: over.to_string(),
            }),
        }
    }

    /// A directory that was `old` bytes large is `new`.
    ///
    /// # Errors
    /// [`Error::NoSpace`].
    pub(super) fn resize_directory(&self, old: u64, new: u64, path: &Path) -> Result<()> {
        let unit = self.account.unit();
        self.resize(unit.directory_bytes(old), unit.directory_bytes(new), path)
    }

    /// What was charged is removed again.
    pub(super) fn give_back(&self, inode: Inode) {
        let charge = charge(inode, self.account.unit());
        self.account.release(charge.bytes, charge.inodes);
    }
}
