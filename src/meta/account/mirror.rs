//! Whoever keeps a copy of an account up to date, for those who come after this
//! process.

use crate::model::Usage;

/// A copy of an account.
pub trait Mirror: Send + Sync + std::fmt::Debug {
    /// This is in the account now. Called with the account locked, for each
    /// change in turn, so it must not wait.
    fn changed(&self, used: Usage, how: Change);
}

/// What has changed in an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The usage, by something that was counted as it happened.
    Moved,
    /// It contradicts itself, or something happened uncounted.
    Distrusted,
    /// It is what a count has found.
    Counted,
}
