//! Surveys that are shared: one that began after somebody asked answers him,
//! and all who asked before it began.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::processes::KernelThreads;
use super::survey::Survey;

/// How many are made at a time: two who ask are served at once, on two
/// processors; of more, those who come later share what begins next.
const AT_ONCE: usize = 2;

/// Makes surveys for whoever asks.
#[derive(Debug, Default)]
pub(in crate::volume) struct Surveys {
    // Not held over a survey. A leaf lock.
    turn: Mutex<Turn>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Turn {
    /// How many have begun.
    begun: u64,
    /// How many are being made.
    running: usize,
    /// How many wait for one.
    waiting: usize,
    /// Whether one of those needs mappings.
    mappings: bool,
    /// The one that began last of those that have ended, for those who wait.
    last: Option<(u64, Arc<Survey>)>,
    threads: KernelThreads,
}

impl Surveys {
    /// A survey that began after this call, made by `make` unless another call
    /// makes it. `make` is told whether mapped files are wanted by anybody.
    pub(in crate::volume) fn get(
        &self,
        mappings: bool,
        make: impl FnOnce(bool, &mut KernelThreads) -> Survey,
    ) -> Arc<Survey> {
        let mut turn = self.turn.lock();
        let first = turn.begun + 1;
        while turn.running >= AT_ONCE {
            turn.mappings |= mappings;
            turn.waiting += 1;
            self.ended.wait(&mut turn);
            turn.waiting -= 1;
            let fitting = turn
                .last
                .as_ref()
                .filter(|(begun, survey)| *begun >= first && (survey.has_mappings() || !mappings));
            let fitting = fitting.map(|(_, survey)| Arc::clone(survey));
            if turn.waiting == 0 {
                turn.last = None;
                // Also what one wanted who woke while his was being made.
                turn.mappings = false;
            }
            if let Some(survey) = fitting {
                return survey;
            }
        }
        turn.begun += 1;
        turn.running += 1;
        let number = turn.begun;
        let mappings = std::mem::take(&mut turn.mappings) || mappings;
        let mut threads = turn.threads.clone();
        drop(turn);

        let running = Running(self);
        let survey = Arc::new(make(mappings, &mut threads));
        let mut turn = self.turn.lock();
        turn.threads = threads;
        let is_newer = turn.last.as_ref().is_none_or(|(begun, _)| *begun < number);
        if turn.waiting > 0 && is_newer {
            turn.last = Some((number, Arc::clone(&survey)));
        }
        drop(turn);
        drop(running);
        survey
    }
}

/// Ends a survey's turn, also when it panics.
struct Running<'a>(&'a Surveys);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.turn.lock().running -= 1;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    /// Nobody is answered by a survey that had begun before he asked, and many
    /// who wait by one that begins then.
    #[test]
    fn one_for_all_who_wait() {
        const WAITING: usize = 8;
        let surveys = Surveys::default();
        let made = AtomicUsize::new(0);
        let count = |mappings: bool, _: &mut KernelThreads| {
            made.fetch_add(1, Ordering::Relaxed);
            Survey::empty(mappings)
        };
        std::thread::scope(|scope| {
            let (begun, has_begun) = channel();
            let mut going_on = Vec::new();
            for _ in 0..AT_ONCE {
                let (go_on, may_go_on) = channel::<()>();
                going_on.push(go_on);
                let (begun, surveys, count) = (begun.clone(), &surveys, &count);
                scope.spawn(move || {
                    surveys.get(false, |mappings, threads| {
                        begun.send(()).unwrap();
                        may_go_on.recv().unwrap();
                        count(mappings, threads)
                    })
                });
                has_begun.recv().unwrap();
            }
            let waiting: Vec<_> = (0..WAITING)
                .map(|at| {
                    let (mappings, surveys, count) = (at == 0, &surveys, &count);
                    scope.spawn(move || {
                        let survey = surveys.get(mappings, count);
                        assert!(survey.has_mappings() || !mappings);
                        survey
                    })
                })
                .collect();
            while surveys.turn.lock().waiting < WAITING {
                std::thread::yield_now();
            }
            // They wait for one that is yet to begin.
            let _ = going_on.pop().map(|it| it.send(()));
            let served: Vec<_> = waiting.into_iter().map(|it| it.join().unwrap()).collect();
            assert!(served.iter().all(|it| Arc::ptr_eq(it, &served[0])));
            assert_eq!(made.load(Ordering::Relaxed), 2);
            let _ = going_on.pop().map(|it| it.send(()));
        });
        assert_eq!(made.load(Ordering::Relaxed), AT_ONCE + 1);
        let turn = surveys.turn.lock();
        assert!(turn.last.is_none() && turn.running == 0 && !turn.mappings);
        drop(turn);
        surveys.get(false, count);
        assert_eq!(made.load(Ordering::Relaxed), AT_ONCE + 2);
    }

    #[test]
    fn one_that_fails_is_followed_by_others() {
        let surveys = Surveys::default();
        for _ in 0..=AT_ONCE {
            let failing = std::panic::AssertUnwindSafe(|| {
                surveys.get(false, |_, _| panic!("for the test"));
            });
            assert!(std::panic::catch_unwind(failing).is_err());
        }
        surveys.get(true, |mappings, _| Survey::empty(mappings));
    }
}
