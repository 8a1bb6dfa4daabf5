//! Programs run by a test, with all they said when they fail.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::wait::poll;

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

/// Copies the program `from` to `to`, which everybody may execute then. A process of its own does it,
/// so that the copy is not busy: see [`when_free`].
pub fn install(from: &Path, to: &Path) {
    run(Command::new("install").args(["-m", "755"]).args([from, to]));
}

/// Makes the script `text` executable as `to`; like [`install`].
pub fn install_script(text: &str, to: &Path) {
    run(Command::new("sh")
        .args([
            "-c",
            "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"",
            "sh",
            text,
        ])
        .arg(to));
}

/// Tries `start` until the program is not busy any more, and at most ten seconds: a program that
/// this process has had open for writing is (ETXTBSY) until every child that another thread has
/// forked meanwhile has executed its own.
pub fn when_free<T>(mut start: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    let mut last = None;
    let started = poll(Duration::from_secs(10), || match start() {
        Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
            last = Some(error);
            None
        }
        other => Some(other),
    });
    started.unwrap_or_else(|| Err(last.expect("it was tried once")))
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
