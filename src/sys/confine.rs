//! Programs that are started with as few rights as can be.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use super::creds;
use super::procfs::{Listed, Proc};

/// What a program that is started may do.
#[derive(Clone, Copy, Debug)]
pub struct Confinement {
    /// The user and the group that it is, and no other group; without one it
    /// stays this process's user.
    pub id: Option<u32>,
    /// How long it may make files, in bytes.
    pub file_bytes: u64,
    /// How long it may keep a processor busy, in seconds.
    pub processor_seconds: u64,
}

/// Descriptors that a program may open; it has its libraries one by one.
const DESCRIPTORS: u64 = 64;

/// The lowest id of a user that a program can have for its own.
const LOWEST: u32 = 60_000;

/// What forks while it is looked is found in the next round; its number is limited.
const MOST_ROUNDS: u32 = 1000;
const ROUND: Duration = Duration::from_millis(1);

/// Confines what `command` starts: it is who it is said to be, has no
/// capabilities and can get none, has limits, and dies with the thread that
/// starts it.
pub fn confine(command: &mut Command, how: Confinement) {
    let parent = nix::unistd::getpid().as_raw();
    let processors = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_CONF);
    let processors = processors.ok().flatten().unwrap_or(1).unsigned_abs();
    let limits = [
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_FSIZE, how.file_bytes),
        (libc::RLIMIT_NOFILE, DESCRIPTORS),
        (libc::RLIMIT_MEMLOCK, 0),
        (libc::RLIMIT_MSGQUEUE, 0),
    ];
    let started = move || {
        if let Some(id) = how.id {
            become_alone(id)?;
            // e2fsck reads bitmaps with a thread for each processor, and those
            // that have just ended still count. Counted by user: for a user of
            // its own alone.
            limit(libc::RLIMIT_NPROC, 4 * processors + 8, 0)?;
        }
        // What a program that is started as root would get again is kept from
        // it by the next line.
        creds::give_up_all()?;
        // SAFETY: prctl with plain numbers.
        done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
        for (resource, most) in limits {
            limit(resource, most, 0)?;
        }
        // SIGXCPU, which says why, and only later SIGKILL.
        limit(libc::RLIMIT_CPU, how.processor_seconds, 60)?;
        // Last: forgotten by changes of ids.
        // SAFETY: prctl with plain numbers.
        done(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) }.into())?;
        // SAFETY: takes nothing.
        if unsafe { libc::getppid() } != parent {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made, and nothing is
    // allocated.
    unsafe { command.pre_exec(started) };
}

/// Kills all processes of a user that nobody is but what [`confine`] has started:
/// those that such a program has left behind. One by one, each by a descriptor of it:
/// `kill(-1, …)` as that user would be everybody's end if a capability were left.
///
/// # Errors
/// `/proc` cannot be read; for a user that somebody may be.
pub fn end_all_of(id: u32) -> io::Result<()> {
    if id < LOWEST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for _ in 0..MOST_ROUNDS {
        let mut found = false;
        for Listed { pid, .. } in Proc::open()?.processes() {
            // Looked at again: the number may have become another's until then.
            if lives_as(pid, id)
                && let Ok(process) = pidfd_open(pid)
                && lives_as(pid, id)
            {
                found = true;
                kill_by(&process);
            }
        }
        if !found {
            return Ok(());
        }
        std::thread::sleep(ROUND);
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// Whether a process runs as this user; one that is dead and not waited for does
/// not.
fn lives_as(pid: i32, id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next())
    };
    field("Uid:").and_then(|uid| uid.parse().ok()) == Some(id) && field("State:") != Some("Z")
}

fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    done(fd)?;
    Ok(super::process::adopt(fd as RawFd))
}

fn kill_by(process: &OwnedFd) {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: an open descriptor and plain numbers.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            libc::SIGKILL,
            none,
            0,
        )
    };
    if let Err(error) = done(sent) {
        log::debug!("a process is not ended: {error}");
    }
}

/// By system calls: the C library would look for threads to change.
fn become_alone(id: u32) -> io::Result<()> {
    // SAFETY: no groups, and plain numbers.
    unsafe {
        done(libc::syscall(
            libc::SYS_setgroups,
            0,
            std::ptr::null::<u32>(),
        ))?;
        done(libc::syscall(libc::SYS_setresgid, id, id, id))?;
        done(libc::syscall(libc::SYS_setresuid, id, id, id))
    }
}

/// Lowers a limit, the hard one to `more` than that; one that is lower stays.
fn limit(resource: libc::__rlimit_resource_t, most: u64, more: u64) -> io::Result<()> {
    let mut now = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a live structure that is filled.
    done(unsafe { libc::getrlimit(resource, &raw mut now) }.into())?;
    let lower = libc::rlimit {
        rlim_cur: now.rlim_max.min(most),
        rlim_max: now.rlim_max.min(most + more),
    };
    // SAFETY: a live structure.
    done(unsafe { libc::setrlimit(resource, &raw const lower) }.into())
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Stdio;

    const ID: u32 = (1 << 31) + 77;

    fn confined(script: &str, id: u32) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let how = Confinement {
            id: Some(id),
            file_bytes: 4096,
            processor_seconds: 60,
        };
        confine(&mut command, how);
        command
    }

    #[test]
    fn a_confined_program_has_no_rights() {
        let out = confined("cat /proc/self/status", ID).output();
        let out = String::from_utf8(out.unwrap().stdout).unwrap();
        let status = out.replace('\t', " ");
        for line in [
            format!("Uid: {ID} {ID} {ID} {ID}"),
            format!("Gid: {ID} {ID} {ID} {ID}"),
            "CapPrm: 0000000000000000".to_owned(),
            "CapEff: 0000000000000000".to_owned(),
            "NoNewPrivs: 1".to_owned(),
        ] {
            assert!(status.contains(&line), "{line}: {status}");
        }
    }

    #[test]
    fn what_it_leaves_behind_is_ended() {
        // One that is a leader of its own, and holds what the first has held.
        let mut command = confined("setsid sleep 1000 & echo", ID + 1);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        assert!(child.wait().unwrap().success());
        end_all_of(ID + 1).unwrap();
        // To the end, which comes when nobody has it any more.
        out.read_to_end(&mut Vec::new()).unwrap();
    }

    #[test]
    fn others_are_left_alone_by_a_thread_that_keeps_its_capabilities() {
        let mut other = confined("exec sleep 1000", ID + 3).spawn().unwrap();
        std::thread::scope(|scope| {
            let ended = scope.spawn(|| {
                assert!(creds::can_switch());
                // It ends what it is told to as well.
                let mut one = confined("exec sleep 1000", ID + 4).spawn().unwrap();
                end_all_of(ID + 4).unwrap();
                one.wait().unwrap().signal()
            });
            assert_eq!(ended.join().unwrap(), Some(libc::SIGKILL));
        });
        let status = other.try_wait().unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(status, None);
        // Somebody may be these.
        for id in [0, 1000, 59_999] {
            let kind = end_all_of(id).unwrap_err().kind();
            assert_eq!(kind, io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn one_that_keeps_a_processor_busy_is_told() {
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do :; done"]);
        let how = Confinement {
            id: Some(ID + 2),
            file_bytes: 0,
            processor_seconds: 1,
        };
        confine(&mut command, how);
        let status = command.status().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGXCPU));
    }
}
