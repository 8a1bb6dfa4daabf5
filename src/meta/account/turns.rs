//! Turns of those who wait: who came first is served first.

/// Numbers of turns, in the order in which they are taken and served.
#[derive(Debug, Default)]
pub(super) struct Turns {
    first: u64,
    next: u64,
}

impl Turns {
    /// Whether anybody waits.
    pub(super) fn any_waits(&self) -> bool {
        self.first != self.next
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> u64 {
        self.next - self.first
    }

    /// A turn after all others, which must come to its [`end`](Self::end).
    pub(super) fn take(&mut self) -> u64 {
        let turn = self.next;
        self.next += 1;
        turn
    }

    /// Whether it is the turn of `turn`.
    pub(super) fn is(&self, turn: u64) -> bool {
        self.first == turn
    }

    /// The turn that it is has ended.
    pub(super) fn end(&mut self) {
        self.first += 1;
    }
}
