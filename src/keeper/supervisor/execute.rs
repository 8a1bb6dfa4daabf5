//! Becoming another program.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;

/// Whether the program is volfs at all: executed, it would have to go on.
///
/// # Errors
/// Why not.
pub(super) fn check(program: &Path) -> Result<(), String> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() && output.stdout.starts_with(b"volfs ") {
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
    set: [(&str, OsString); 2],
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
    for (name, value) in &set {
        environment.push(text(&pair(OsStr::new(name), value))?);
    }
    nix::unistd::execve(&path, &arguments, &environment)
}

fn pair(name: &OsStr, value: &OsStr) -> Vec<u8> {
    [name.as_bytes(), b"=", value.as_bytes()].concat()
}
