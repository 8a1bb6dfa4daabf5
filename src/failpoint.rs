//! Points at which a test kills the process, as power loss would, or lets it
//! panic.
//!
//! Built only with the feature `failpoints`; otherwise a call is nothing.

/// Kills the process with SIGKILL if the environment variable
/// `VOLFS_FAILPOINT` is `name`, or `name:N` on the N-th call (from 1), or if
/// `name` is the first line of the file that `VOLFS_FAILPOINT_FILE` names: that
/// line is removed first, so that one process dies of it, and the file with its
/// last line.
#[cfg(feature = "failpoints")]
pub fn hit(name: &str) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let die = || nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::SIGKILL);
    let armed = take_armed(name);
    if armed.is_some() {
        let _ = die();
    }
    let Ok(wanted) = std::env::var("VOLFS_FAILPOINT") else {
        return;
    };
    let (wanted, count) = match wanted.split_once(':') {
        Some((wanted, count)) => (wanted, count.parse().unwrap_or(1)),
        None => (wanted.as_str(), 1),
    };
    if wanted == name && CALLS.fetch_add(1, Ordering::SeqCst) + 1 == count {
        let _ = die();
    }
}

/// Whether `name` is the first line of the file that `VOLFS_FAILPOINT_FILE`
/// names; once. `Some` is held until the process is dead: another thread that is
/// killed while it takes a line away would leave an empty file.
#[cfg(feature = "failpoints")]
fn take_armed(name: &str) -> Option<parking_lot::MutexGuard<'static, ()>> {
    static TAKING: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let path = std::env::var_os("VOLFS_FAILPOINT_FILE")?;
    let taking = TAKING.lock();
    let armed = std::fs::read_to_string(&path).unwrap_or_default();
    let taken = match armed.split_once('\n') {
        Some((first, others)) => first == name && std::fs::write(&path, others).is_ok(),
        None => armed == name && std::fs::remove_file(&path).is_ok(),
    };
    taken.then_some(taking)
}

/// As [`hit`] of `name`, a space and `what`.
#[cfg(feature = "failpoints")]
pub fn hit_of(name: &str, what: &str) {
    hit(&format!("{name} {what}"));
}

/// Nothing in a build without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit_of(_name: &str, _what: &str) {}

/// Nothing in a build without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_name: &str) {}

/// Panics if the file that `VOLFS_FAILPOINT_FILE` names holds `panic NAME`,
/// once, or `panic NAME always`.
#[cfg(feature = "failpoints")]
pub fn panic(name: &str) {
    let Some(path) = std::env::var_os("VOLFS_FAILPOINT_FILE") else {
        return;
    };
    let armed = std::fs::read_to_string(&path).unwrap_or_default();
    let always = armed == format!("panic {name} always");
    assert!(
        !always && take_armed(&format!("panic {name}")).is_none(),
        "in {name}, as a test asked for"
    );
}

/// Nothing in a build without the feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn panic(_name: &str) {}

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
