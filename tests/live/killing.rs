//! Killing the serving process at random moments while others work, and how long
//! that keeps them waiting.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::support::mount::answers;
use crate::support::random::Random;
use crate::support::{Mount, proc};

/// How often the serving process is killed.
pub fn kills(few: usize) -> usize {
    if std::env::var_os("VOLFS_LONG").is_some() {
        200
    } else {
        few
    }
}

/// Kills the serving process at random moments, `times` times, while others work
/// until they are told to stop. Reports how long each time nobody was answered.
pub fn killing(what: &str, mount: &Mount, times: usize, stop: &AtomicBool) {
    let mut random = Random::new(Random::seed());
    let mut killed: Vec<Kill> = Vec::new();
    std::thread::scope(|scope| {
        let probe = scope.spawn(|| probe(mount, stop));
        while killed.len() < times && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_micros(20_000 + random.below(150_000) as u64));
            // Whatever it does now, and be it its start.
            if let Some(pid) = mount.serving_pid() {
                killed.push(Kill::now());
                proc::kill(pid);
            }
        }
        // The last one is followed by an answer too.
        let end = Instant::now();
        while !stop.load(Ordering::Relaxed) && end.elapsed() < Duration::from_secs(20) {
            if answers(mount.path()).is_ok() {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let answered = probe.join().unwrap();
        report_pauses(what, mount, &killed, &answered);
    });
}

struct Kill {
    at: Instant,
    /// As the log has it.
    time: SystemTime,
}

impl Kill {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            time: SystemTime::now(),
        }
    }
}

/// When small requests were begun and answered, one after the other.
fn probe(mount: &Mount, stop: &AtomicBool) -> Vec<(Instant, Instant)> {
    let _stop = StopOnPanic(stop);
    let mut answered = Vec::new();
    loop {
        let last = stop.load(Ordering::Relaxed);
        let begun = Instant::now();
        answers(mount.path()).expect("the mount answers");
        answered.push((begun, Instant::now()));
        if last {
            return answered;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// From each kill to the first answer to what was asked afterwards.
fn report_pauses(what: &str, mount: &Mount, kills: &[Kill], answered: &[(Instant, Instant)]) {
    let mut pauses: Vec<(Duration, &Kill)> = kills
        .iter()
        .filter_map(|kill| {
            let after = answered.partition_point(|(begun, _)| *begun < kill.at);
            let (_, end) = answered.get(after)?;
            Some((*end - kill.at, kill))
        })
        .collect();
    pauses.sort_by_key(|(pause, _)| *pause);
    let (Some((median, _)), Some((worst, kill))) = (pauses.get(pauses.len() / 2), pauses.last())
    else {
        return;
    };
    println!(
        "{what}: {} kills, from each to the next answer: median {median:?}, worst {worst:?}",
        pauses.len()
    );
    if *worst > Duration::from_secs(1) {
        // What the log says of that moment.
        let since = kill.time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        println!(
            "killed {:.6} s after the epoch\n{}",
            since.as_secs_f64(),
            mount.daemon_log()
        );
    }
}

/// Sets a flag when a thread panics, so that others end.
pub struct StopOnPanic<'a>(pub &'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// The pauses that were seen: all that took longer than usual.
pub fn report(what: &str, times: usize, mut pauses: Vec<Duration>) {
    pauses.sort();
    // The longest of each kill.
    let from = pauses.len().saturating_sub(times);
    let pauses = &pauses[from..];
    if let (Some(median), Some(worst)) = (pauses.get(pauses.len() / 2), pauses.last()) {
        println!("{what}: {times} kills, longest steps: median {median:?}, worst {worst:?}");
        assert!(*worst < Duration::from_secs(10), "{what}: {worst:?}");
    }
}
