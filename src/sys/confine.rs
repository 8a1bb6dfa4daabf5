//! Programs that are started with as few rights as can be.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::creds;

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
            // e2fsck reads bitmaps with a thread for each processor. Counted by
            // user: for a user of its own alone.
            limit(libc::RLIMIT_NPROC, processors + 1, 0)?;
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
