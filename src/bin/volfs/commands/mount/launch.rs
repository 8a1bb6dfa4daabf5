//! Starts the process that serves the mount in the background, and waits for
//! its word.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, PipeReader, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::options::MountPlan;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::processes::DaemonProcesses;
use crate::serve::log_file;
use crate::serve::ready::{MARK, MountedAs, Word};

/// How many lines of the log are shown when the daemon died without a word.
const SHOWN_LINES: usize = 10;

/// How much of the end of the log is looked at for them.
const SHOWN_BYTES: u64 = 16 << 10;

/// Starts this program again as the daemon, with the same arguments, and
/// returns when the mount can be used.
pub fn launch(plan: &MountPlan, argv: &[OsString]) -> Outcome<MountedAs> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::io("find", "this program's file", &error))?;
    let (reader, writer) =
        std::io::pipe().map_err(|error| Failure::io("make a pipe for", &program, &error))?;
    let (name, arguments) = match argv.split_first() {
        Some((name, arguments)) => (name.clone(), arguments),
        None => (program.clone().into_os_string(), argv),
    };
    // The command keeps the writing end; at its end only the child has it.
    let mut child = Command::new(&program)
        .arg0(name)
        .arg(MARK)
        .args(arguments)
        .stdin(volfs::sys::null::no_input())
        .stdout(writer)
        .spawn()
        .map_err(|error| Failure::io("start", &program, &error))?;
    wait_for_word(&reader, child.id().cast_signed())?;
    let mut line = String::new();
    let heard = BufReader::new(reader).read_line(&mut line);
    match heard.ok().and_then(|_| Word::parse(&line)) {
        Some(Word::Mounted(mounted)) => Ok(mounted),
        Some(Word::Failed(report)) => {
            // It ends by itself; its exit code says nothing more.
            let _ = child.wait();
            Err(report.into())
        }
        None => Err(without_a_word(&mut child, &plan.store)),
    }
}

/// Waits until the daemon says something, or ends. To open a store may take long,
/// which is said; a process that is stopped says nothing.
fn wait_for_word(reader: &PipeReader, daemon: i32) -> Outcome {
    const HALTED_TIMEOUT: Duration = Duration::from_secs(5);
    const WORD_AFTER: Duration = Duration::from_secs(10);
    let look = PollTimeout::from(500_u16);
    let start = Instant::now();
    let (mut halted_since, mut told) = (None, false);
    loop {
        let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, look) != Ok(0) {
            return Ok(());
        }
        let processes = DaemonProcesses::started_as(daemon);
        match processes.why_halted() {
            None => halted_since = None,
            Some(why) => {
                let since = *halted_since.get_or_insert_with(Instant::now);
                if since.elapsed() > HALTED_TIMEOUT {
                    return Err(Failure::new(
                        "daemon-stopped",
                        format!(
                            "the daemon has not mounted yet: {why}, or end it with 'kill -KILL {daemon}'"
                        ),
                    ));
                }
            }
        }
        if !told && start.elapsed() > WORD_AFTER {
            told = true;
            log::warn!(
                "waiting for the daemon, {}, which opens the store; its log is daemon.log in the store",
                processes.named()
            );
        }
    }
}

fn without_a_word(child: &mut Child, store: &Path) -> Failure {
    let how = match child.wait() {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let log = log_file::path(store);
    let tail = match last_lines(&log) {
        Ok(lines) if !lines.is_empty() => {
            format!("; the last lines of its log {log:?}:\n{}", lines.join("\n"))
        }
        _ => format!("; its log {log:?} says nothing"),
    };
    Failure::new(
        "daemon-died",
        format!("the daemon ended without a word ({how}){tail}"),
    )
}

fn last_lines(log: &Path) -> std::io::Result<Vec<String>> {
    let mut file = std::fs::File::open(log)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(SHOWN_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(SHOWN_LINES);
    Ok(lines[from..]
        .iter()
        .map(|line| format!("  {line}"))
        .collect())
}

impl MountedAs {
    /// Tells that it is mounted, and what was found amiss, whoever wants it
    /// quiet.
    pub fn tell(&self, output: Output) -> Outcome {
        for finding in &self.findings {
            output.warn(finding);
        }
        if output.is_json() {
            return output.value(self);
        }
        output.confirm(format_args!(
            "{} is mounted on {}",
            self.store.display(),
            self.mountpoint.display()
        ));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_is_stopped_before_it_has_mounted_is_named() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let mut child = Command::new("sleep").arg("100").spawn().unwrap();
        let pid = child.id().cast_signed();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGSTOP,
        )
        .unwrap();
        let failure = wait_for_word(&reader, pid).unwrap_err();
        child.kill().unwrap();
        child.wait().unwrap();
        let said = &failure.report().unwrap().message;
        let wanted = format!(
            "the daemon has not mounted yet: process {pid} is stopped; let it go on with 'kill -CONT {pid}', or end it with 'kill -KILL {pid}'"
        );
        assert_eq!(*said, wanted);
    }

    #[test]
    fn a_daemon_that_dies_without_a_word_is_told_with_its_last_lines() {
        let store = tempfile::tempdir().unwrap();
        let log: String = (1..=30).map(|n| format!("line {n}\n")).collect();
        std::fs::write(log_file::path(store.path()), log).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "kill -9 $$"])
            .spawn()
            .unwrap();
        let failure = without_a_word(&mut child, store.path());
        let said = &failure.report().unwrap().message;
        assert!(
            said.starts_with("the daemon ended without a word (") && said.contains("signal: 9"),
            "{said}"
        );
        assert!(said.contains("daemon.log"), "{said}");
        assert!(
            said.ends_with("line 30") && said.contains("line 21"),
            "{said}"
        );
        assert!(!said.contains("line 20"), "{said}");
    }
}
