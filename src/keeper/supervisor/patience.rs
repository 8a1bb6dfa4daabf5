//! How soon a process that has died is followed by another, and when no more.

use std::time::{Duration, Instant};

use nix::poll::PollTimeout;

/// One that has served for so long was not killed by its start.
const GOOD_LIFE: Duration = Duration::from_millis(50);
/// So many short lives in a row are too many.
const MOST_DEATHS: u32 = 12;
/// The pause after the third short life; it doubles with each.
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

/// Counts short lives.
#[derive(Debug, Default)]
pub(super) struct Patience {
    deaths: u32,
    /// When the process of now began to serve.
    serves: Option<Instant>,
    due: Option<Instant>,
}

impl Patience {
    /// The process serves.
    pub(super) fn serves(&mut self) {
        self.serves = Some(Instant::now());
    }

    /// The process has died.
    pub(super) fn died(&mut self) -> Verdict {
        let served = self.serves.take().map(|since| since.elapsed());
        if served.is_some_and(|served| served >= GOOD_LIFE) {
            self.deaths = 0;
        }
        self.failed()
    }

    /// A process came to nothing.
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
            patience.serves();
            let Verdict::Again(pause) = patience.died() else {
                panic!("gave up after {n}");
            };
            assert!(pause >= last && pause <= LONGEST_PAUSE);
            last = pause;
        }
        assert_eq!(patience.died(), Verdict::GiveUp);
        patience.reset();
        assert_eq!(patience.died(), Verdict::Again(Duration::ZERO));
    }

    #[test]
    fn a_good_life_makes_up_for_short_ones() {
        let mut patience = Patience::default();
        for _ in 0..5 {
            patience.died();
        }
        patience.serves = Instant::now().checked_sub(GOOD_LIFE);
        assert_eq!(patience.died(), Verdict::Again(Duration::ZERO));
        assert!(patience.is_due());
    }
}
