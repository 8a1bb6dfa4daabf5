//! Programs run by a test, with all they said when they fail.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs a command to its end and returns what it printed.
///
/// # Panics
/// When it cannot be started or fails; the message has its output.
pub fn run(command: &mut Command) -> String {
    let out = output(command);
    assert!(
        out.status.success(),
        "{command:?} ended with {}\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Runs `program` with `arguments` in `dir`; see [`run`].
pub fn run_in(dir: &Path, program: &str, arguments: &[&str]) -> String {
    run(Command::new(program).args(arguments).current_dir(dir))
}

/// Runs a command to its end, however it ends.
///
/// # Panics
/// When it cannot be started.
pub fn output(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}; scripts/test installs it"))
}
