//! Keeping the account of a directory volume whose files this process changes
//! by itself, in a store that has no mount.
//!
//! In a mount, and in an image, the kernel keeps the account: there everything
//! here does nothing.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::stat::FileStat;
use parking_lot::{MutexGuard, RwLock, RwLockReadGuard};

use super::super::error::{Error, Result};
use super::super::in_memory::Volume;
use super::super::lease::Lease;
use crate::meta::{DirGrowth, Inode, Reservation, charge};
use crate::model::{AllocationUnit, Bytes, Kind};
use crate::sys::node;

/// Whether the store is still open. Held shared while a file is changed, so
/// that the store closes between two changes.
pub(in super::super) type Gate = Arc<RwLock<bool>>;

/// The account of a volume, and the right to change it.
#[derive(Debug)]
pub(in super::super) struct Ledger {
    lease: Lease,
    gate: Gate,
    store: PathBuf,
    growth: DirGrowth,
    read_only: bool,
}

impl Ledger {
    /// The volume is in use until this is dropped.
    pub(in super::super) fn new(
        lease: Lease,
        gate: &Gate,
        store: PathBuf,
        growth: DirGrowth,
        read_only: bool,
    ) -> Self {
        Self {
            lease,
            gate: Arc::clone(gate),
            store,
            growth,
            read_only,
        }
    }
}

/// A change of the volume's files that is under way.
pub(super) struct Change<'a> {
    account: Option<Open<'a>>,
    _gate: Option<RwLockReadGuard<'a, bool>>,
}

struct Open<'a> {
    volume: &'a Volume,
    growth: DirGrowth,
    // One change of a volume at a time, as the account has to move by what the
    // size moves; held over the system call that does it for that reason.
    _lock: MutexGuard<'a, ()>,
}

/// Begins a change.
///
/// # Errors
/// [`Error::ReadOnly`]; [`Error::BadStore`] when the store was closed.
pub(super) fn begin(ledger: Option<&Ledger>) -> Result<Change<'_>> {
    let Some(ledger) = ledger else {
        return Ok(Change {
            account: None,
            _gate: None,
        });
    };
    if ledger.read_only {
        return Err(Error::ReadOnly {
            store: ledger.store.clone(),
        });
    }
    let gate = ledger.gate.read();
    if !*gate {
        return Err(Error::BadStore {
            store: ledger.store.clone(),
            why: "it has been closed".to_owned(),
        });
    }
    let volume = &**ledger.lease.volume();
    if volume.is_read_only() {
        let name = volume.name();
        return Err(Error::VolumeReadOnly { name });
    }
    let account = (volume.kind == Kind::Directory).then(|| Open {
        volume,
        growth: ledger.growth,
        _lock: volume.changing.lock(),
    });
    Ok(Change {
        account,
        _gate: Some(gate),
    })
}

/// Room for something new, given back unless it is taken.
#[derive(Default)]
pub(super) struct Room<'a> {
    reservation: Option<Reservation<'a>>,
    unit: AllocationUnit,
}

impl<'a> Room<'a> {
    pub(super) fn of(reservation: Reservation<'a>, unit: AllocationUnit) -> Self {
        Self {
            reservation: Some(reservation),
            unit,
        }
    }

    pub(super) fn take(&mut self) -> Option<Reservation<'a>> {
        self.reservation.take()
    }

    /// What it was for is there, and is this.
    pub(super) fn commit_as(self, made: Inode) {
        if let Some(reservation) = self.reservation {
            let charge = charge(made, self.unit);
            reservation.commit_part(charge.bytes, charge.inodes);
        }
    }
}

impl Change<'_> {
    /// The volume whose account is kept, and how its directories grow.
    pub(super) fn keeps(&self) -> Option<(&Volume, DirGrowth)> {
        let open = self.account.as_ref()?;
        Some((open.volume, open.growth))
    }

    /// A name of what `found` was before is gone.
    pub(super) fn name_removed(&self, found: &FileStat) {
        let Some(open) = &self.account else {
            return;
        };
        let inode = Inode::of(found);
        if inode.is_directory() || found.st_nlink <= 1 {
            let charge = charge(inode, open.volume.unit());
            open.volume.account().release(charge.bytes, charge.inodes);
        }
    }

    /// Empties a file.
    pub(super) fn truncate(&self, file: impl AsFd) -> nix::Result<()> {
        let before = node::stat(&file)?.st_size.unsigned_abs();
        nix::unistd::ftruncate(&file, 0)?;
        if let Some(open) = &self.account {
            open.volume
                .account()
                .release(Bytes(open.volume.unit().round_up(before)), 0);
        }
        Ok(())
    }

    /// Runs a write of `len` bytes at `offset` with as much of it as there is
    /// room for; `write` says how many bytes it has written.
    pub(super) fn write(
        &self,
        file: impl AsFd,
        offset: u64,
        len: usize,
        write: impl FnOnce(usize) -> std::io::Result<usize>,
    ) -> std::io::Result<usize> {
        let Some(open) = &self.account else {
            return write(len);
        };
        let found = node::stat(&file)?;
        if found.st_nlink == 0 {
            // Its charge was given back with its last name.
            return Err(nix::errno::Errno::ESTALE.into());
        }
        let old = found.st_size.unsigned_abs();
        let unit = open.volume.unit();
        let wanted = unit.grow(old, offset.saturating_add(len as u64));
        let account = open.volume.account();
        let room = account.reserve_up_to(Bytes(wanted));
        let granted = room.amount().bytes.0;
        let most = if granted == wanted {
            len
        } else {
            let end = unit.round_up(old) + granted;
            usize::try_from(end.saturating_sub(offset)).map_or(len, |fits| fits.min(len))
        };
        if most == 0 && len > 0 {
            drop(room);
            let why = match account.reserve(Bytes(wanted), 0) {
                Err(over) => over.to_string(),
                // There is room since a moment ago; the next try will find it.
                Ok(_) => "the limit of the volume is reached".to_owned(),
            };
            return Err(std::io::Error::new(std::io::ErrorKind::StorageFull, why));
        }
        let written = write(most);
        match node::stat(&file) {
            Ok(after) => {
                let grown = unit.grow(old, after.st_size.unsigned_abs());
                room.commit_part(Bytes(grown), 0);
            }
            Err(_) => account.distrust(),
        }
        written
    }
}
