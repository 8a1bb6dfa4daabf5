//! Becoming another program.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a program may take to say its version. The supervisor waits for it,
/// and for nothing else meanwhile.
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether the program is volfs at all: executed, it would have to go on.
///
/// # Errors
/// Why not.
pub(super) fn check(program: &Path) -> Result<(), String> {
    let mut child = Command::new(program)
        .arg("--version")
        .stdin(crate::sys::null::no_input())
        .stdout(Stdio::piped())
        .stderr(crate::sys::null::no_output())
        .spawn()
        .map_err(|error| error.to_string())?;
    let deadline = Instant::now() + VERSION_TIMEOUT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(5));
            }
            ended => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(match ended {
                    Err(error) => error.to_string(),
                    Ok(_) => format!(
                        "it has not said its version within {} seconds",
                        VERSION_TIMEOUT.as_secs()
                    ),
                });
            }
        }
    };
    let mut said = [0; 6];
    // What it has started may have the pipe still: only what is there is read.
    let read = |out: &mut ChildStdout| {
        let mut fds = [PollFd::new(out.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
            && out.read_exact(&mut said).is_ok()
    };
    if status.success() && child.stdout.as_mut().is_some_and(read) && said == *b"volfs " {
        return Ok(());
    }
    Err("it does not say its version".to_owned())
}

/// Executes the program in this process, with these arguments from its name on
/// and these environment variables besides its own. Never a shell, as
/// `execvp(3)` would for what is no program.
///
/// # Errors
/// As `execve(2)`; nothing has changed then.
pub(super) fn become_program(
    program: &Path,
    arguments: &[OsString],
    set: &[(&str, OsString)],
) -> nix::Result<Infallible> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
    let path = text(program.as_os_str().as_bytes())?;
    let arguments = arguments
        .iter()
        .map(|argument| text(argument.as_bytes()))
        .collect::<nix::Result<Vec<_>>>()?;
    let is_set = |name: &OsStr| set.iter().any(|(other, _)| name == *other);
    let mut environment = Vec::new();
    for (name, value) in std::env::vars_os() {
        // What a test has told this program of itself.
        let of_test = cfg!(feature = "failpoints")
            && (name == "VOLFS_TEST_LAYOUT" || name == "VOLFS_TEST_SCHEMA");
        if !is_set(&name) && !of_test {
            environment.push(text(&pair(&name, &value))?);
        }
    }
    for (name, value) in set {
        environment.push(text(&pair(OsStr::new(name), value))?);
    }
    nix::unistd::execve(&path, &arguments, &environment)
}

fn pair(name: &OsStr, value: &OsStr) -> Vec<u8> {
    [name.as_bytes(), b"=", value.as_bytes()].concat()
}
