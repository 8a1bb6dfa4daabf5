//! How soon a process that has died is followed by another, and when no more.

use std::time::{Duration, Instant};

use nix::poll::PollTimeout;

/// So many deaths in a row, of processes that have served no request, are too
/// many.
const MOST_DEATHS: u32 = 12;
/// The pause after the third; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is done after a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another is started after this pause.
    Again(Duration),
    /// It would be in vain.
    GiveUp,
}

/// Counts deaths that came to nothing.
#[derive(Debug, Default)]
pub(super) struct Patience {
    deaths: u32,
    due: Option<Instant>,
}

impl Patience {
    /// The process has served a request. One that kills each process which
    /// serves it is refused after a while, by the process itself.
    pub(super) fn works(&mut self) {
        self.deaths = 0;
    }

    /// A process has died, or could not be started.
    pub(super) fn failed(&mut self) -> Verdict {
        self.deaths += 1;
        if self.deaths > MOST_DEATHS {
            return Verdict::GiveUp;
        }
        let pause = match self.deaths {
            1 | 2 => Duration::ZERO,
            more => (FIRST_PAUSE * (1 << (more - 3))).min(LONGEST_PAUSE),
        };
        self.due = Some(Instant::now() + pause);
        Verdict::Again(pause)
    }

    /// The process has ended as it was asked to.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Deaths in a row.
    pub(super) fn deaths(&self) -> u32 {
        self.deaths
    }

    /// Whether the next may be started now.
    pub(super) fn is_due(&self) -> bool {
        self.due.is_none_or(|due| Instant::now() >= due)
    }

    /// How long to wait for that.
    pub(super) fn timeout(&self) -> PollTimeout {
        let left = self.due.map_or(Duration::ZERO, |due| {
            due.saturating_duration_since(Instant::now())
        });
        // Rounded up: not a moment too early, again and again.
        let millis = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        PollTimeout::from(millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lives_are_followed_ever_later_and_then_no_more() {
        let mut patience = Patience::default();
        let mut last = Duration::ZERO;
        for n in 1..=MOST_DEATHS {
            let Verdict::Again(pause) = patience.failed() else {
                panic!("gave up after {n}");
            };
            assert!(pause >= last && pause <= LONGEST_PAUSE);
            last = pause;
        }
        assert_eq!(patience.failed(), Verdict::GiveUp);
        patience.reset();
        assert_eq!(patience.failed(), Verdict::Again(Duration::ZERO));
    }

    #[test]
    fn one_that_works_makes_up_for_those_that_did_not() {
        let mut patience = Patience::default();
        for _ in 0..5 {
            patience.failed();
        }
        patience.works();
        assert_eq!(patience.failed(), Verdict::Again(Duration::ZERO));
        assert!(patience.is_due());
    }
}
