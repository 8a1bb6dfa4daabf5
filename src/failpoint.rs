//! Points at which a test kills the process, as power loss would.
//!
//! Built only with the feature `failpoints`; otherwise a call is nothing.

/// Kills the process with SIGKILL if the environment variable
/// `VOLFS_FAILPOINT` is `name`, or `name:N` on the N-th call (from 1).
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let Ok(wanted) = std::env::var("VOLFS_FAILPOINT") else {
        return;
    };
    let (wanted, count) = match wanted.split_once(':') {
        Some((wanted, count)) => (wanted, count.parse().unwrap_or(1)),
        None => (wanted.as_str(), 1),
    };
    if wanted == name && CALLS.fetch_add(1, Ordering::SeqCst) + 1 == count {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::SIGKILL);
    }
}

/// Nothing in a build without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_name: &str) {}

/// Waits for the file that the environment variable `VOLFS_PAUSE` names, if it
/// is `name=PATH`: a test decides when this goes on.
#[cfg(feature = "failpoints")]
pub fn pause(name: &str) {
    let wanted = std::env::var("VOLFS_PAUSE").unwrap_or_default();
    let Some((_, path)) = wanted.split_once('=').filter(|(wanted, _)| *wanted == name) else {
        return;
    };
    while !std::path::Path::new(path).exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Nothing in a build without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn pause(_name: &str) {}
