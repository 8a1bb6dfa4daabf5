//! System calls on a directory from a process of their own.
//!
//! A thread that calls into a file system which its own process serves cannot be
//! killed while the call is being served, and who waits for the end of the process
//! waits for ever. So the call is made by a child that has nothing of the parent but
//! its memory: it keeps no file open, and its end is nobody's concern.

use std::ffi::CStr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::{Result, check};

/// What is called.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// `mkdir(2)` with mode 0700.
    MakeDir(&'a CStr),
    /// `rmdir(2)`.
    RemoveDir(&'a CStr),
    /// `renameat2(2)` with `RENAME_NOREPLACE`.
    Rename(&'a CStr, &'a CStr),
}

/// What the child is to do, and where it says how that went.
struct Order<'a> {
    dir: &'a CStr,
    device: u64,
    call: Call<'a>,
    caller: &'a AtomicU32,
    errno: AtomicI32,
}

/// What the child needs of stack: a few frames of system calls.
const STACK_BYTES: usize = 64 << 10;

/// Makes `call` with names in the directory `dir`, if that is on the file system
/// `device` (`st_dev`). `caller` has the id of the process that calls, while it does.
///
/// The calling thread waits for it, and all of this process may end meanwhile.
///
/// # Errors
/// Those of the call; `EXDEV` where another file system is on `dir`; those of
/// `clone(2)`; `ENOSYS` before Linux 5.9; `EINTR` when the child was killed.
pub fn call(dir: &CStr, device: u64, call: Call<'_>, caller: &AtomicU32) -> Result<()> {
    let order = Order {
        dir,
        device,
        call,
        caller,
        errno: AtomicI32::new(libc::EINTR),
    };
    let mut stack: Vec<u128> = vec![0; STACK_BYTES / size_of::<u128>()];
    // No handler of this process may run in the child.
    let mut before = SigSet::empty();
    pthread_sigmask(
        SigmaskHow::SIG_SETMASK,
        Some(&SigSet::all()),
        Some(&mut before),
    )?;
    // SAFETY: as posix_spawn(3) does it. The stack is the child's alone, grows
    // downward from its end, and is aligned; with CLONE_VFORK this thread goes on
    // only when the child has ended, so that `order` and the stack outlive it. When
    // this process ends first, the child keeps their memory.
    let child = unsafe {
        let top = stack.as_mut_ptr().add(stack.len());
        libc::clone(
            child,
            top.cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            std::ptr::from_ref(&order).cast_mut().cast(),
        )
    };
    let child = check(child);
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    let _ = waitpid(Pid::from_raw(child?), None);
    caller.store(0, Ordering::Release);
    match order.errno.load(Ordering::Acquire) {
        0 => Ok(()),
        errno => Err(Errno::from_raw(errno)),
    }
}

/// All that the child does: nothing but system calls.
extern "C" fn child(order: *mut libc::c_void) -> libc::c_int {
    // SAFETY: what `call` has passed, which lives until the child has ended.
    let order = unsafe { &*order.cast_const().cast::<Order<'_>>() };
    let result = carry_out(order);
    let errno = result.map_or_else(|errno| errno as i32, |()| 0);
    order.errno.store(errno, Ordering::Release);
    0
}

fn carry_out(order: &Order<'_>) -> Result<()> {
    // SAFETY: system calls with numbers, and with C strings and a `stat` that live
    // meanwhile. The descriptors are the child's own copies, and it uses none.
    unsafe {
        check(libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0))?;
        order
            .caller
            .store(libc::getpid().unsigned_abs(), Ordering::Release);
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let dir = check(libc::open(order.dir.as_ptr(), flags))?;
        let mut stat: libc::stat = std::mem::zeroed();
        check(libc::fstat(dir, &raw mut stat))?;
        if stat.st_dev != order.device {
            return Err(Errno::EXDEV);
        }
        match order.call {
            Call::MakeDir(name) => check(libc::mkdirat(dir, name.as_ptr(), 0o700)),
            Call::RemoveDir(name) => check(libc::unlinkat(dir, name.as_ptr(), libc::AT_REMOVEDIR)),
            Call::Rename(from, to) => check(libc::renameat2(
                dir,
                from.as_ptr(),
                dir,
                to.as_ptr(),
                libc::RENAME_NOREPLACE,
            )),
        }
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn calls_are_made_and_their_errors_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = CString::new(dir.path().as_os_str().as_bytes()).unwrap();
        let device = dir.path().metadata().unwrap().dev();
        let caller = AtomicU32::new(0);
        let run = |what| call(&path, device, what, &caller);
        run(Call::MakeDir(c"a")).unwrap();
        assert_eq!(run(Call::MakeDir(c"a")), Err(Errno::EEXIST));
        run(Call::MakeDir(c"b")).unwrap();
        assert_eq!(run(Call::Rename(c"a", c"b")), Err(Errno::EEXIST));
        run(Call::Rename(c"a", c"c")).unwrap();
        assert!(dir.path().join("c").is_dir());
        run(Call::RemoveDir(c"c")).unwrap();
        assert_eq!(run(Call::RemoveDir(c"c")), Err(Errno::ENOENT));
        let elsewhere = call(&path, device + 1, Call::RemoveDir(c"b"), &caller);
        assert_eq!(elsewhere, Err(Errno::EXDEV));
        assert!(dir.path().join("b").is_dir());
        assert_eq!(caller.load(Ordering::Acquire), 0);
    }
}
