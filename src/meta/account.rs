//! The running account of one volume: what it holds, what is about to be
//! added, and how much it may hold.
//!
//! Pure memory: no I/O, no catalogue. All amounts are charges by the rule in
//! [`super::charge`].

mod mirror;
mod over_limit;
mod reservation;
mod turns;

use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};

pub use self::mirror::{Change, Mirror};
pub use self::over_limit::{OverLimit, Resource};
pub use self::reservation::Reservation;
use self::turns::Turns;
use super::crossing::Crossing;
use super::pool::{Member, Pool};
use crate::model::{AllocationUnit, Bytes, Limits, Timestamp, Usage};

/// The account of one volume, shared by everything that changes it.
///
/// What is reserved counts as used when a later reservation is checked, so
/// that no number of racing writers exceeds a limit, and what fits beside
/// them is never refused.
///
/// A name is reserved more than it will mostly take, for a moment: how far its
/// directory grows is known afterwards. Nothing is refused because of that. Who
/// would have room but for such reservations waits for their end, and no new
/// ones are made before it is served.
///
/// Lowering a limit below what is used is allowed: growth then fails until
/// usage is below it; giving back always works.
#[derive(Debug)]
pub struct Account {
    // One mutex and not two atomics: bytes and inodes are granted together or
    // not at all, and exactly. Held for a few additions, never over a call.
    state: Mutex<State>,
    // Somebody waits, and what it waits for may have changed.
    changed: Condvar,
    // Told of changes with the state locked.
    mirror: OnceLock<Box<dyn Mirror>>,
    unit: AllocationUnit,
}

#[derive(Debug)]
struct State {
    used: Usage,
    reserved: Usage,
    // Of that, what will mostly be given back in a moment.
    passing: Usage,
    turns: Turns,
    limits: Limits,
    // Its part in what all volumes of its user take.
    member: Option<Member>,
    unit: AllocationUnit,
    trusted: bool,
    // How far the bytes and the inodes are, and what they have crossed that
    // nobody has been told yet.
    bytes: Crossing,
    inodes: Crossing,
    crossed: Vec<Crossed>,
}

/// The most crossings that wait to be told: use can go up and down quickly.
const MOST_CROSSED: usize = 16;

/// Use has reached a share of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossed {
    /// Whose limit.
    pub resource: Resource,
    /// The share, in per cent.
    pub percent: u8,
    /// Use at that moment.
    pub used: u64,
    /// The limit at that moment.
    pub limit: u64,
    /// When.
    pub time: Timestamp,
}

impl Account {
    /// An account that starts at `used`, of what is charged in units of `unit`.
    #[must_use]
    pub fn new(used: Usage, limits: Limits, unit: AllocationUnit) -> Self {
        Self {
            state: Mutex::new(State {
                used,
                reserved: Usage::default(),
                passing: Usage::default(),
                turns: Turns::default(),
                limits,
                member: None,
                unit,
                trusted: true,
                bytes: Crossing::at(used.bytes.0, limits.bytes.map(|bytes| bytes.0)),
                inodes: Crossing::at(used.inodes, limits.inodes_in_force(unit)),
                crossed: Vec::new(),
            }),
            changed: Condvar::new(),
            mirror: OnceLock::new(),
            unit,
        }
    }

    /// Whether a copy is kept up to date.
    #[must_use]
    pub fn has_mirror(&self) -> bool {
        self.mirror.get().is_some()
    }

    /// Has a copy kept up to date from now on, if none is; `make` gets what is
    /// in the account.
    pub fn set_mirror(&self, make: impl FnOnce(Usage) -> Option<Box<dyn Mirror>>) {
        let state = self.state.lock();
        if !self.has_mirror()
            && let Some(mirror) = make(state.used)
        {
            let _ = self.mirror.set(mirror);
        }
    }

    fn tell(&self, state: &State, change: Change) {
        if let Some(mirror) = self.mirror.get() {
            mirror.changed(state.used, change);
        }
    }

    /// What the volume holds, without what is only reserved.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.state.lock().used
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.state.lock().limits
    }

    /// Puts other limits in force, for every later reservation.
    pub fn set_limits(&self, limits: Limits) {
        let mut state = self.state.lock();
        state.limits = limits;
        let (used, unit) = (state.used, state.unit);
        let bytes = limits.bytes.map(|bytes| bytes.0);
        let crossed = state.bytes.set_limit(used.bytes.0, bytes);
        state.note(Resource::Bytes, crossed);
        let crossed = state
            .inodes
            .set_limit(used.inodes, limits.inodes_in_force(unit));
        state.note(Resource::Inodes, crossed);
        self.wake(&state);
    }

    /// Is a part of what a user's volumes take together, from now on, and of
    /// nothing else.
    pub fn join(&self, member: Member) {
        let mut state = self.state.lock();
        state.member = Some(member);
        state.follow();
    }

    /// Is no part of that any more; returns which it was.
    pub fn leave(&self) -> Option<Member> {
        self.state.lock().member.take()
    }

    /// What the volumes of its user take together, where that is limited.
    #[must_use]
    pub fn pool(&self) -> Option<Arc<Pool>> {
        let state = self.state.lock();
        state.member.as_ref().map(|it| Arc::clone(it.pool()))
    }

    /// As [`Member::set_own`], if it is part of a pool.
    ///
    /// # Errors
    /// As there.
    pub fn set_own(&self, own: Usage) -> Result<(), OverLimit> {
        match &mut self.state.lock().member {
            Some(member) => member.set_own(own),
            None => Ok(()),
        }
    }

    /// The unit in which is charged.
    #[must_use]
    pub fn unit(&self) -> AllocationUnit {
        self.unit
    }

    /// What has been crossed since the last call, oldest first.
    #[must_use]
    pub fn take_crossed(&self) -> Vec<Crossed> {
        std::mem::take(&mut self.state.lock().crossed)
    }

    /// Usage and limits of one moment.
    #[must_use]
    pub fn snapshot(&self) -> (Usage, Limits) {
        let state = self.state.lock();
        (state.used, state.limits)
    }

    /// Room for `bytes` charged bytes and `inodes` inodes: both or nothing.
    /// Nothing asked is granted even above a limit.
    ///
    /// # Errors
    /// [`OverLimit`]; nothing has changed then.
    pub fn reserve(&self, bytes: Bytes, inodes: u64) -> Result<Reservation<'_>, OverLimit> {
        self.grant(Usage { bytes, inodes }, false)
    }

    /// As [`reserve`](Self::reserve), of more than will mostly be used: others
    /// wait until that is known. Whoever holds it must not wait for a lock that
    /// somebody holds while reserving.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub fn reserve_passing(&self, bytes: Bytes, inodes: u64) -> Result<Reservation<'_>, OverLimit> {
        self.grant(Usage { bytes, inodes }, true)
    }

    fn grant(&self, amount: Usage, passing: bool) -> Result<Reservation<'_>, OverLimit> {
        self.in_turn(passing, |state| {
            let all = sum(state.used, state.reserved);
            match state.check(amount, all) {
                Ok(()) => {
                    if let Some(member) = &mut state.member
                        && let Err(over) = member.take(amount)
                    {
                        return Some(Err(over));
                    }
                    state.reserved = sum(state.reserved, amount);
                    if passing {
                        state.passing = sum(state.passing, amount);
                    }
                    Some(Ok(()))
                }
                Err(over) if state.passing == Usage::default() => Some(Err(over)),
                Err(_) => match state.check(amount, less(all, state.passing)) {
                    Ok(()) => None,
                    Err(over) => Some(Err(over)),
                },
            }
        })?;
        Ok(Reservation {
            account: self,
            amount,
            passing,
        })
    }

    /// As many whole units of `bytes` (a multiple of the unit) as fit, maybe
    /// none: for a write that does what a full disk would let it do.
    pub fn reserve_up_to(&self, bytes: Bytes) -> Reservation<'_> {
        let amount = self.in_turn(false, |state| {
            let room = state.room_bytes();
            let granted = if bytes.0 <= room {
                bytes.0
            } else if state.passing.bytes > Bytes(0) {
                return None;
            } else {
                room - room % state.unit.bytes()
            };
            let granted = match &mut state.member {
                Some(member) => member.take_up_to(granted, state.unit),
                None => granted,
            };
            let amount = Usage {
                bytes: Bytes(granted),
                inodes: 0,
            };
            state.reserved = sum(state.reserved, amount);
            Some(amount)
        });
        Reservation {
            account: self,
            amount,
            passing: false,
        }
    }

    /// Runs `decide`, and again when something has changed, until it has
    /// decided. What it decides at once need not wait for others, unless it is
    /// `passing`: of those none begins while others wait for the end of some.
    fn in_turn<T>(&self, passing: bool, decide: impl Fn(&mut State) -> Option<T>) -> T {
        let mut state = self.state.lock();
        if !(passing && state.turns.any_waits())
            && let Some(decided) = decide(&mut state)
        {
            return decided;
        }
        let turn = state.turns.take();
        loop {
            if state.turns.is(turn)
                && let Some(decided) = decide(&mut state)
            {
                state.turns.end();
                self.wake(&state);
                return decided;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Something has changed: whoever waits looks again.
    fn wake(&self, state: &State) {
        if state.turns.any_waits() {
            self.changed.notify_all();
        }
    }

    /// Takes off what was deleted or cut. Taking off more than is there means
    /// that the account is wrong: it stops at 0 and is no longer
    /// [trusted](Self::is_trusted).
    pub fn release(&self, bytes: Bytes, inodes: u64) {
        let mut state = self.state.lock();
        let less = state.used.bytes.0.checked_sub(bytes.0);
        let fewer = state.used.inodes.checked_sub(inodes);
        state.trusted &= less.is_some() && fewer.is_some();
        state.used = Usage {
            bytes: Bytes(less.unwrap_or(0)),
            inodes: fewer.unwrap_or(0),
        };
        state.follow();
        state.see();
        let change = if state.trusted {
            Change::Moved
        } else {
            Change::Distrusted
        };
        self.tell(&state, change);
        self.wake(&state);
    }

    /// What was charged `old` bytes is charged `new` from now on, whatever the
    /// limits say: it has happened. `reserved` was room for that, and is given
    /// back in the same moment.
    pub fn resettle(&self, reserved: Option<Reservation<'_>>, old: Bytes, new: Bytes) {
        let mut state = self.state.lock();
        if let Some(mut reserved) = reserved {
            let granted = std::mem::take(&mut reserved.amount);
            state.give_back(granted, reserved.passing);
        }
        let bytes = state.used.bytes.0.saturating_add(new.0).checked_sub(old.0);
        state.trusted &= bytes.is_some();
        state.used.bytes = Bytes(bytes.unwrap_or(0));
        state.follow();
        state.see();
        let change = if bytes.is_some() {
            Change::Moved
        } else {
            Change::Distrusted
        };
        self.tell(&state, change);
        self.wake(&state);
    }

    /// Replaces the usage by what a count found, and trusts it again.
    pub fn set_counted(&self, used: Usage) {
        let mut state = self.state.lock();
        state.used = used;
        state.trusted = true;
        state.follow();
        state.see();
        self.tell(&state, Change::Counted);
        self.wake(&state);
    }

    /// Whether no contradiction has been seen since the last count.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.state.lock().trusted
    }

    /// Says that usage may be wrong: something changed without being counted.
    pub fn distrust(&self) {
        let mut state = self.state.lock();
        state.trusted = false;
        self.tell(&state, Change::Distrusted);
    }

    fn settle(&self, (reserved, passing): (Usage, bool), used: Usage) {
        let mut state = self.state.lock();
        state.give_back(reserved, passing);
        if used != Usage::default() {
            state.used = sum(state.used, used);
            state.see();
            self.tell(&state, Change::Moved);
        }
        state.follow();
        self.wake(&state);
    }
}

impl State {
    /// Takes a reservation off.
    fn give_back(&mut self, reserved: Usage, passing: bool) {
        // Cannot wrap: a reservation gives back what it has taken, once.
        self.reserved = less(self.reserved, reserved);
        if passing {
            self.passing = less(self.passing, reserved);
        }
    }

    /// Has what the user's volumes take together follow a change.
    fn follow(&mut self) {
        let holds = sum(self.used, self.reserved);
        if let Some(member) = &mut self.member {
            member.follow(holds);
        }
    }

    /// Use has changed. Four comparisons when nothing is crossed.
    fn see(&mut self) {
        let bytes = self.limits.bytes.map(|bytes| bytes.0);
        let crossed = self.bytes.see(self.used.bytes.0, bytes);
        self.note(Resource::Bytes, crossed);
        let crossed = self
            .inodes
            .see(self.used.inodes, self.limits.inodes_in_force(self.unit));
        self.note(Resource::Inodes, crossed);
    }

    fn note(&mut self, resource: Resource, crossed: Option<u8>) {
        let Some(percent) = crossed else {
            return;
        };
        let (used, limit) = match resource {
            Resource::Bytes => (self.used.bytes.0, self.limits.bytes.map(|bytes| bytes.0)),
            Resource::Inodes | Resource::Volumes => {
                (self.used.inodes, self.limits.inodes_in_force(self.unit))
            }
        };
        if self.crossed.len() == MOST_CROSSED {
            self.crossed.remove(0);
        }
        self.crossed.push(Crossed {
            resource,
            percent,
            used,
            limit: limit.unwrap_or(u64::MAX),
            time: Timestamp::now(),
        });
    }

    /// Whether `amount` fits when so much is `taken`.
    fn check(&self, amount: Usage, taken: Usage) -> Result<(), OverLimit> {
        let fits = |limit: Option<u64>, taken: u64, asked: u64, resource| match limit {
            Some(limit) if asked > limit.saturating_sub(taken) => Err(OverLimit {
                resource,
                limit,
                taken,
                asked,
                user: None,
            }),
            _ => Ok(()),
        };
        let limit_bytes = self.limits.bytes.map(|bytes| bytes.0);
        fits(limit_bytes, taken.bytes.0, amount.bytes.0, Resource::Bytes)?;
        fits(
            self.limits.inodes_in_force(self.unit),
            taken.inodes,
            amount.inodes,
            Resource::Inodes,
        )
    }

    fn room_bytes(&self) -> u64 {
        match self.limits.bytes {
            Some(limit) => limit
                .0
                .saturating_sub(self.used.bytes.0.saturating_add(self.reserved.bytes.0)),
            None => u64::MAX,
        }
    }
}

const fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        bytes: Bytes(a.bytes.0.saturating_add(b.bytes.0)),
        inodes: a.inodes.saturating_add(b.inodes),
    }
}

/// `b` is a part of `a`.
const fn less(a: Usage, b: Usage) -> Usage {
    Usage {
        bytes: Bytes(a.bytes.0 - b.bytes.0),
        inodes: a.inodes - b.inodes,
    }
}

#[cfg(test)]
mod passing_tests;
#[cfg(test)]
mod tests;
