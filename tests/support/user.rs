//! Acting as another user, in a thread of this process or in a program.
//!
//! The kernel keeps credentials per thread, so that one thread can be an
//! unprivileged user while the others stay root.

use std::process::Command;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// A user with its groups.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: &'static [u32],
}

/// An ordinary user.
pub const ALICE: User = User {
    uid: 1000,
    gid: 1000,
    groups: &[],
};

/// Another one.
pub const BOB: User = User {
    uid: 1001,
    gid: 1001,
    groups: &[],
};

/// Alice as a member of group 2000 too.
pub const ALICE_IN_2000: User = User {
    uid: 1000,
    gid: 1000,
    groups: &[2000],
};

/// A user whom every Debian has by name (`www-data`): fusermount3 mounts for nobody who is
/// not in the passwd database, and the test must not depend on who else is.
pub const NAMED: User = User {
    uid: 33,
    gid: 33,
    groups: &[],
};

/// Runs `act` in a thread of its own that is `user` and nobody else: no saved
/// ids, no capabilities. Its umask and working directory are its own too.
pub fn as_user<T: Send>(user: User, act: impl FnOnce() -> T + Send) -> T {
    alone(|| {
        let groups: Vec<Gid> = user.groups.iter().map(|&g| Gid::from_raw(g)).collect();
        set_thread_groups(&groups).unwrap();
        let gid = Gid::from_raw(user.gid);
        set_thread_res_gid(gid, gid, gid).unwrap();
        let uid = Uid::from_raw(user.uid);
        set_thread_res_uid(uid, uid, uid).unwrap();
        act()
    })
}

/// Runs `act` in a thread of its own with its own umask and working directory.
pub fn alone<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
            act()
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A command that runs as `user`.
pub fn command_as(user: User, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={}", user.uid));
    command.arg(format!("--regid={}", user.gid));
    if user.groups.is_empty() {
        command.arg("--clear-groups");
    } else {
        let groups: Vec<String> = user.groups.iter().map(u32::to_string).collect();
        command.arg(format!("--groups={}", groups.join(",")));
    }
    command.arg("--").arg(program);
    command
}
