//! What `/proc` says about other processes.

/// The supplementary groups of a process; empty when it cannot be seen.
#[must_use]
pub fn groups_of(pid: u32) -> Vec<u32> {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else {
        return Vec::new();
    };
    status
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .map(|list| {
            list.split_whitespace()
                .filter_map(|n| n.parse().ok())
                .collect()
        })
        .unwrap_or_default()
}

/// Whether a process is in the user and the pid namespace of this one: its
/// user ids mean what they mean here, and it is in no container of its own.
/// `false` when it cannot be seen.
#[must_use]
pub fn shares_namespaces(pid: u32) -> bool {
    let of = |who: &str, which| std::fs::read_link(format!("/proc/{who}/ns/{which}")).ok();
    let shares =
        |which| of(&pid.to_string(), which).is_some_and(|theirs| of("self", which) == Some(theirs));
    pid != 0 && shares("user") && shares("pid")
}

/// Whether a process has CAP_SYS_ADMIN in effect in its user namespace;
/// `false` when it cannot be seen.
#[must_use]
pub fn has_sys_admin(pid: u32) -> bool {
    /// `linux/capability.h`.
    const CAP_SYS_ADMIN: u64 = 21;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_some_and(|set| set >> CAP_SYS_ADMIN & 1 == 1)
}

/// The command name of a process (`/proc/PID/comm`).
#[must_use]
pub fn command_of(pid: i32) -> Option<String> {
    let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(comm.trim_end().to_owned())
}

/// Whether a process is a thread of the kernel: it has no files of its own, and
/// is in its namespaces only by descent.
#[must_use]
pub fn is_kernel_thread(pid: i32) -> bool {
    /// `linux/sched.h`.
    const PF_KTHREAD: u64 = 0x0020_0000;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Its command, in brackets, may hold anything; the flags are the seventh
    // field after it (proc_pid_stat(5)).
    let flags = stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(6)?.parse().ok());
    flags.is_some_and(|flags: u64| flags & PF_KTHREAD != 0)
}

/// The number of a process's mount namespace, as `lsns` shows it; `None` when
/// it cannot be seen. `pid` may be `self`.
#[must_use]
pub fn mount_namespace(pid: &str) -> Option<u64> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
    let number = link.to_str()?.strip_prefix("mnt:[")?.strip_suffix(']')?;
    number.parse().ok()
}

/// Undoes what a parent may have set for itself: with SIGCHLD ignored nobody learns
/// of the end of a child (wait(2), "NOTES"), and who writes past a limit of the size
/// of files shall get EFBIG and not be killed by SIGXFSZ.
pub fn forget_inherited_signals() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no handler is set, and none is replaced: the program has begun.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    // SAFETY: as above.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// Takes away the limit of the size of files (`ulimit -f`), which a shell has for
/// itself and which would be one for all users of a mount. Returns the one that
/// stays, in bytes: for who may not raise the hard limit (CAP_SYS_RESOURCE).
pub fn lift_file_size_limit() -> Option<u64> {
    use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
    let limit = Resource::RLIMIT_FSIZE;
    let (soft, hard) = getrlimit(limit).ok()?;
    let most = match setrlimit(limit, RLIM_INFINITY, RLIM_INFINITY) {
        Ok(()) => RLIM_INFINITY,
        Err(_) => setrlimit(limit, hard, hard).map_or(soft, |()| hard),
    };
    (most != RLIM_INFINITY).then_some(most)
}

/// Raises the soft limit of open descriptors to the hard limit, and returns
/// the limit in effect.
pub fn raise_descriptor_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 1024;
    };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return hard;
    }
    soft
}

/// The limit of open descriptors in effect.
pub fn descriptor_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}

/// Takes over a descriptor that the kernel has just made for this process,
/// such as one that came over a socket.
#[must_use]
pub fn adopt(fd: std::os::fd::RawFd) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: by this function's contract nothing else owns the descriptor.
    unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) }
}

/// Ends this process at once, as a signal from outside would.
pub fn die() -> ! {
    use nix::sys::signal::{Signal, kill};
    let _ = kill(nix::unistd::Pid::this(), Signal::SIGKILL);
    std::process::abort()
}

/// Gives free memory of the heap back to the system.
pub fn trim_heap() {
    // SAFETY: takes a number and touches only the allocator's own free memory.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The process that the thread `tid` belongs to; `None` when it is gone or
/// cannot be seen.
#[must_use]
pub fn of_thread(tid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

/// Makes the calling thread yield to others: it runs when nothing else wants
/// to. Best effort.
pub fn lower_priority() {
    /// The most that nice(2) has is 19.
    const NICE: i32 = 15;
    // SAFETY: plain numbers; 0 is the calling thread (setpriority(2), "C
    // library/kernel differences").
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, NICE);
    }
}

/// Makes the number of `target` mean what `fd` is; what it was is closed. For
/// a descriptor whose owner does not let go of it.
///
/// # Errors
/// As `dup3(2)`.
pub fn put_over(
    fd: impl std::os::fd::AsFd,
    target: std::os::fd::BorrowedFd<'_>,
) -> nix::Result<()> {
    use std::os::fd::{AsRawFd, IntoRawFd};
    let mut number = adopt(target.as_raw_fd());
    let result = nix::unistd::dup3(fd, &mut number, nix::fcntl::OFlag::O_CLOEXEC);
    // It stays its owner's.
    let _ = number.into_raw_fd();
    result
}
