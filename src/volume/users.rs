//! Whose a volume is, and what all volumes of a user take together.
//!
//! A volume counts against the user that it was made for, in the trash too,
//! until it is deleted for good. Root and the user who serves the store are
//! not limited.

use std::collections::HashMap;
use std::sync::Arc;

use nix::unistd::geteuid;
use parking_lot::Mutex;

use super::error::{Error, Result, UserLimitReached};
use super::in_memory::Volume;
use super::layout::Place;
use super::store::Store;
use crate::meta::{BLOCK, Member, OverLimit, Pool, State, VolumeRow};
use crate::model::{Bytes, Kind, Limits, Usage, UserLimits};

/// The pools of users, each made when it is first needed.
#[derive(Debug)]
pub(super) struct Users {
    limits: UserLimits,
    pools: Mutex<HashMap<u32, Arc<Pool>>>,
}

impl Users {
    /// `None` for who is not limited.
    fn pool(&self, user: u32) -> Option<Arc<Pool>> {
        if user == 0 || user == geteuid().as_raw() {
            return None;
        }
        let mut pools = self.pools.lock();
        let new = || Arc::new(Pool::new(user, self.limits));
        Some(Arc::clone(pools.entry(user).or_insert_with(new)))
    }
}

/// What a volume is charged without what is in it: its root directory, which
/// its own limits leave out, or its image, which may fill to its size.
fn own_charge(row: &VolumeRow) -> Usage {
    match row.disk {
        Some(disk) => Usage {
            bytes: disk.size,
            inodes: 1,
        },
        None => Usage {
            bytes: Bytes(BLOCK),
            inodes: 1,
        },
    }
}

impl Store {
    /// Limits what each user's volumes take together, from now on and while the
    /// store is open. To be called before anything of a volume is changed.
    ///
    /// # Errors
    /// It cannot be written down whose volumes of earlier versions are.
    pub fn limit_users(&self, limits: UserLimits) -> Result<()> {
        if limits == UserLimits::default() || self.is_read_only() {
            return Ok(());
        }
        let _life = self.life.lock();
        self.find_owners()?;
        let pools = Mutex::default();
        let _ = self.users.set(Users { limits, pools });
        for volume in self.all_volumes() {
            self.count_again(&volume);
        }
        Ok(())
    }

    /// Whose volumes are that earlier versions have made: their roots' owners'.
    fn find_owners(&self) -> Result<()> {
        for volume in self.all_volumes() {
            let row = volume.row();
            if row.owner.is_some() || volume.kind == Kind::Disk {
                continue;
            }
            let place = match row.state {
                State::Live => Place::Volumes,
                State::Trash | State::Purging | State::Rmdir => Place::Trash,
            };
            let root = self.layout.data(place, volume.id);
            if let Ok(found) = nix::sys::stat::lstat(&root) {
                self.save_owner(&volume, found.st_uid)?;
            }
        }
        Ok(())
    }

    fn save_owner(&self, volume: &Volume, user: u32) -> Result<()> {
        self.catalogue()?.set_owner(volume.serial, user)?;
        let mut row = (*volume.row()).clone();
        row.owner = Some(user);
        volume.set_row(row);
        Ok(())
    }

    /// Makes room among a user's volumes for the one that `row` describes;
    /// `None` where nothing is limited.
    pub(super) fn admit(&self, row: &VolumeRow) -> Result<Option<Member>> {
        let users = self.users.get();
        let pool = users.and_then(|users| users.pool(row.owner?));
        let member = pool.map(|pool| {
            let mut member = pool.admit(own_charge(row))?;
            member.take(row.used)?;
            Ok(member)
        });
        member
            .transpose()
            .map_err(|over| self.over_user_limit(over))
    }

    /// The part of `old` among its user's volumes, for the one that `new`
    /// describes and that takes its place.
    pub(super) fn take_over(&self, old: &Volume, new: &VolumeRow) -> Result<Option<Member>> {
        let Some(mut member) = old.account().leave() else {
            return Ok(None);
        };
        match member.set_own(own_charge(new)) {
            Ok(()) => Ok(Some(member)),
            Err(over) => {
                old.account().join(member);
                Err(self.over_user_limit(over))
            }
        }
    }

    /// Undoes [`take_over`](Self::take_over).
    pub(super) fn hand_back(&self, old: &Volume, member: Option<Member>) {
        if member.is_some() {
            drop(member);
            self.count_again(old);
        }
    }

    /// A volume that was on its way to be deleted stays.
    pub(super) fn count_again(&self, volume: &Volume) {
        let row = volume.row();
        let pool = self.users.get().and_then(|users| users.pool(row.owner?));
        if let Some(pool) = pool {
            volume.account().join(pool.admit_anyway(own_charge(&row)));
        }
    }

    /// A volume has another size of its own from now on.
    pub(super) fn resize_own(&self, volume: &Volume, row: &VolumeRow) -> Result<()> {
        let resized = volume.account().set_own(own_charge(row));
        resized.map_err(|over| self.over_user_limit(over))
    }

    /// The volume is another user's from now on: somebody who may has given it
    /// away, whatever the limits of that user. `give` does it.
    ///
    /// # Errors
    /// [`Error::Unaccounted`], what `give` says, I/O; nothing has changed then.
    pub fn give_away<E: From<Error>>(
        &self,
        volume: &Volume,
        user: u32,
        give: impl FnOnce() -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        if volume.row().owner == Some(user) {
            return give();
        }
        let _life = self.life.lock();
        let was_limited = volume.is_limited();
        let before = volume.account().leave();
        let pool = self.users.get().and_then(|users| users.pool(user));
        if let Some(pool) = pool {
            let own = own_charge(&volume.row());
            volume.account().join(pool.admit_anyway(own));
        }
        let check = || match was_limited {
            true => Ok(()),
            false => self.check_accounted(volume, Limits::default()),
        };
        let given = check()
            .map_err(E::from)
            .and_then(|()| give())
            .and_then(|()| self.save_owner(volume, user).map_err(E::from));
        if given.is_err() {
            drop(volume.account().leave());
            if let Some(before) = before {
                volume.account().join(before);
            }
        }
        given
    }

    /// What of a user's volumes is in the way, in words for who is refused.
    #[must_use]
    pub fn over_user_limit(&self, over: OverLimit) -> Error {
        let user = over.user.unwrap_or_default();
        let index = self.index.read();
        let is_theirs = |volume: &&Arc<Volume>| volume.row().owner == Some(user);
        let (live, trash) = (
            index.live().filter(is_theirs),
            index.trash().filter(is_theirs),
        );
        let in_trash: Vec<Usage> = trash.map(|it| held(it)).collect();
        Error::UserLimit(Box::new(UserLimitReached {
            over,
            volumes: live.count() as u64,
            trashed: in_trash.len() as u64,
            trashed_usage: Usage {
                bytes: Bytes(in_trash.iter().map(|usage| usage.bytes.0).sum()),
                inodes: in_trash.iter().map(|usage| usage.inodes).sum(),
            },
        }))
    }
}

/// All that a volume is charged to its user.
fn held(volume: &Volume) -> Usage {
    let (own, used) = (own_charge(&volume.row()), volume.usage());
    Usage {
        bytes: Bytes(own.bytes.0.saturating_add(used.bytes.0)),
        inodes: own.inodes.saturating_add(used.inodes),
    }
}
