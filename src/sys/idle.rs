//! Who has nothing to do: processors, and threads.

use std::io;
use std::time::Duration;

/// How long the processors of this machine have been idle since it started, all
/// together: `/proc/uptime`, proc(5), in steps of 10 ms.
///
/// # Errors
/// `/proc` is not mounted, or has something else there.
pub fn idle_time() -> io::Result<Duration> {
    let text = std::fs::read_to_string("/proc/uptime")?;
    parse(&text).ok_or_else(|| io::Error::other(format!("/proc/uptime holds {text:?}")))
}

fn parse(uptime: &str) -> Option<Duration> {
    let seconds = uptime.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Whether the thread `tid` of this process waits for something other than a
/// processor; so it is taken of one that cannot be seen.
#[must_use]
pub fn is_asleep(tid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap_or_default();
    // Its name, in brackets, may hold anything; the state follows
    // (proc_pid_stat(5)).
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    !state.is_some_and(|state| state.starts_with('R'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_second_number() {
        assert_eq!(
            parse("350735.47 234388.90\n"),
            Some(Duration::from_millis(234_388_900))
        );
        for bad in ["", "1.0", "1.0 x", "1.0 -5"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_thread_that_runs_is_not_asleep() {
        assert!(!is_asleep(nix::unistd::gettid().as_raw()));
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ = stopped.recv();
        });
        let other_tid = told.recv().unwrap();
        let start = std::time::Instant::now();
        while !is_asleep(other_tid) {
            assert!(start.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        drop(stop);
        other.join().unwrap();
        assert!(is_asleep(other_tid), "it is gone");
    }

    #[test]
    fn it_does_not_go_back() {
        let before = idle_time().unwrap();
        assert!(idle_time().unwrap() >= before);
    }
}
