//! How soon a process that has died is followed by another, and when no more.

use std::time::{Duration, Instant};

use nix::poll::PollTimeout;

/// So many deaths in a row, of processes that have served no request, are too
/// many.
const MOST_DEATHS: u32 = 12;
/// So many that were killed (SIGKILL) are: by somebody, or for lack of memory,
/// and not by what is in their way.
const MOST_KILLED: u32 = 100;
/// The pause after the third; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The pause after the third that was killed; each is longer by as much. Nobody
/// shall wait for a second because a few were killed while they started, and all
/// of them take as long as memory may be short.
const PAUSE_KILLED: Duration = Duration::from_millis(2);

/// How a process has ended that was not to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// It was killed.
    Killed,
    /// By its own doing, or it could not be started.
    Own,
}

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
    killed: u32,
    due: Option<Instant>,
}

impl Patience {
    /// The process has served a request. One that kills each process which
    /// serves it is refused after a while, by the process itself.
    pub(super) fn works(&mut self) {
        self.deaths = 0;
        self.killed = 0;
    }

    /// A process has died, or could not be started.
    pub(super) fn failed(&mut self, death: Death) -> Verdict {
        let (deaths, most) = match death {
            Death::Killed => (&mut self.killed, MOST_KILLED),
            Death::Own => (&mut self.deaths, MOST_DEATHS),
        };
        *deaths += 1;
        if *deaths > most {
            return Verdict::GiveUp;
        }
        let pause = match (deaths.checked_sub(3), death) {
            (None, _) => Duration::ZERO,
            (Some(more), Death::Killed) => PAUSE_KILLED.saturating_mul(more + 1),
            (Some(more), Death::Own) => FIRST_PAUSE
                .saturating_mul(1 << more.min(16))
                .min(LONGEST_PAUSE),
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
        self.deaths + self.killed
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
            let Verdict::Again(pause) = patience.failed(Death::Own) else {
                panic!("gave up after {n}");
            };
            assert!(pause >= last && pause <= LONGEST_PAUSE);
            last = pause;
        }
        assert_eq!(patience.failed(Death::Own), Verdict::GiveUp);
        patience.reset();
        assert_eq!(patience.failed(Death::Own), Verdict::Again(Duration::ZERO));
        let mut all = Duration::ZERO;
        for n in 1..=MOST_KILLED {
            let Verdict::Again(pause) = patience.failed(Death::Killed) else {
                panic!("those that were killed are not to blame");
            };
            all += pause;
            assert!(n > 10 || all < Duration::from_millis(100));
        }
        assert!(all > Duration::from_secs(5) && all < Duration::from_secs(20));
        assert_eq!(patience.failed(Death::Killed), Verdict::GiveUp);
    }

    #[test]
    fn one_that_works_makes_up_for_those_that_did_not() {
        let mut patience = Patience::default();
        for _ in 0..5 {
            patience.failed(Death::Own);
        }
        patience.works();
        assert_eq!(patience.failed(Death::Own), Verdict::Again(Duration::ZERO));
        assert!(patience.is_due());
    }
}
