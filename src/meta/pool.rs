//! What the volumes of one user take together: the sum of their accounts, and
//! how much it may be.
//!
//! Pure memory, as [`super::Account`], whose changes end up here. Lock order: an
//! account, then a pool.

use std::sync::Arc;

use parking_lot::Mutex;

use super::account::{OverLimit, Resource};
use super::quota::BLOCK;
use crate::model::{AllocationUnit, Bytes, Usage, UserLimits};

/// What the volumes of one user take together.
#[derive(Debug)]
pub struct Pool {
    user: u32,
    limits: UserLimits,
    state: Mutex<Taken>,
}

/// What is taken of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Volumes, those in the trash included.
    pub volumes: u64,
    /// What they hold and what is reserved in them.
    pub usage: Usage,
}

impl Pool {
    /// A pool of user `user`, of which nothing is taken.
    #[must_use]
    pub fn new(user: u32, limits: UserLimits) -> Self {
        Self {
            user,
            limits,
            state: Mutex::default(),
        }
    }

    /// Whose it is.
    #[must_use]
    pub const fn user(&self) -> u32 {
        self.user
    }

    /// The limits.
    #[must_use]
    pub const fn limits(&self) -> UserLimits {
        self.limits
    }

    /// What is taken.
    #[must_use]
    pub fn taken(&self) -> Taken {
        *self.state.lock()
    }

    /// The bytes that may still be taken.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        let taken = self.taken().usage.bytes.0;
        let limit = self.limits.bytes.map_or(u64::MAX, |bytes| bytes.0);
        limit.saturating_sub(taken)
    }

    /// The inodes that may still be taken.
    #[must_use]
    pub fn room_inodes(&self) -> u64 {
        let taken = self.taken().usage.inodes;
        let limit = self.limits.inodes_in_force().unwrap_or(u64::MAX);
        limit.saturating_sub(taken)
    }

    /// Which limit on contents is reached, if one is: nothing more fits.
    #[must_use]
    pub fn reached(&self) -> Option<OverLimit> {
        let all = Usage {
            bytes: Bytes(BLOCK),
            inodes: 1,
        };
        self.check(&self.taken(), all).err()
    }

    /// Takes one volume more, which is charged `own` by itself.
    ///
    /// # Errors
    /// [`OverLimit`]; nothing has changed then.
    pub fn admit(self: &Arc<Self>, own: Usage) -> Result<Member, OverLimit> {
        let mut state = self.state.lock();
        if let Some(limit) = self.limits.volumes
            && state.volumes >= limit
        {
            return Err(self.over(Resource::Volumes, limit, state.volumes, 1));
        }
        self.check(&state, own)?;
        state.take(own);
        state.volumes += 1;
        Ok(self.member(own))
    }

    /// Takes a volume that is there, whatever the limits say.
    #[must_use]
    pub fn admit_anyway(self: &Arc<Self>, own: Usage) -> Member {
        let mut state = self.state.lock();
        state.take(own);
        state.volumes += 1;
        self.member(own)
    }

    fn member(self: &Arc<Self>, own: Usage) -> Member {
        Member {
            pool: Arc::clone(self),
            own,
            charged: own,
        }
    }

    fn over(&self, resource: Resource, limit: u64, taken: u64, asked: u64) -> OverLimit {
        OverLimit {
            resource,
            limit,
            taken,
            asked,
            user: Some(self.user),
        }
    }

    fn check(&self, state: &Taken, amount: Usage) -> Result<(), OverLimit> {
        let over = |limit: Option<u64>, taken: u64, asked: u64| {
            limit.filter(|limit| asked > 0 && asked > limit.saturating_sub(taken))
        };
        let (bytes, taken) = (amount.bytes.0, state.usage.bytes.0);
        if let Some(limit) = over(self.limits.bytes.map(|it| it.0), taken, bytes) {
            return Err(self.over(Resource::Bytes, limit, taken, bytes));
        }
        let (inodes, taken) = (amount.inodes, state.usage.inodes);
        if let Some(limit) = over(self.limits.inodes_in_force(), taken, inodes) {
            return Err(self.over(Resource::Inodes, limit, taken, inodes));
        }
        Ok(())
    }
}

impl Taken {
    fn take(&mut self, amount: Usage) {
        self.usage.bytes.0 = self.usage.bytes.0.saturating_add(amount.bytes.0);
        self.usage.inodes = self.usage.inodes.saturating_add(amount.inodes);
    }

    fn give_back(&mut self, amount: Usage) {
        self.usage.bytes.0 = self.usage.bytes.0.saturating_sub(amount.bytes.0);
        self.usage.inodes = self.usage.inodes.saturating_sub(amount.inodes);
    }
}

/// A volume's part in the pool of its user. Given back when it is dropped.
#[derive(Debug)]
pub struct Member {
    pool: Arc<Pool>,
    /// What the volume is charged without what is in it.
    own: Usage,
    /// All that it is charged now.
    charged: Usage,
}

impl Member {
    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Takes this much more, all or nothing.
    ///
    /// # Errors
    /// [`OverLimit`]; nothing has changed then.
    pub fn take(&mut self, amount: Usage) -> Result<(), OverLimit> {
        let mut state = self.pool.state.lock();
        self.pool.check(&state, amount)?;
        state.take(amount);
        self.charged = sum(self.charged, amount);
        Ok(())
    }

    /// Takes as many whole units of `bytes` as fit; returns how many bytes.
    pub(super) fn take_up_to(&mut self, bytes: u64, unit: AllocationUnit) -> u64 {
        let mut state = self.pool.state.lock();
        let limit = self.pool.limits.bytes.map_or(u64::MAX, |limit| limit.0);
        let room = limit.saturating_sub(state.usage.bytes.0);
        let granted = if bytes <= room {
            bytes
        } else {
            room - room % unit.bytes()
        };
        let amount = Usage {
            bytes: Bytes(granted),
            inodes: 0,
        };
        state.take(amount);
        self.charged = sum(self.charged, amount);
        granted
    }

    /// The volume holds this much now, which has happened.
    pub(super) fn follow(&mut self, holds: Usage) {
        let charged = sum(self.own, holds);
        if charged == self.charged {
            return;
        }
        let mut state = self.pool.state.lock();
        state.give_back(self.charged);
        state.take(charged);
        self.charged = charged;
    }

    /// The volume by itself is charged `own` from now on.
    ///
    /// # Errors
    /// [`OverLimit`] if that is more and does not fit; nothing has changed then.
    pub fn set_own(&mut self, own: Usage) -> Result<(), OverLimit> {
        let mut state = self.pool.state.lock();
        let more = Usage {
            bytes: Bytes(own.bytes.0.saturating_sub(self.own.bytes.0)),
            inodes: own.inodes.saturating_sub(self.own.inodes),
        };
        self.pool.check(&state, more)?;
        state.give_back(self.own);
        state.take(own);
        let holds = Usage {
            bytes: Bytes(self.charged.bytes.0 - self.own.bytes.0),
            inodes: self.charged.inodes - self.own.inodes,
        };
        (self.own, self.charged) = (own, sum(own, holds));
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.give_back(self.charged);
        state.volumes = state.volumes.saturating_sub(1);
    }
}

const fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        bytes: Bytes(a.bytes.0.saturating_add(b.bytes.0)),
        inodes: a.inodes.saturating_add(b.inodes),
    }
}

#[cfg(test)]
mod tests;
