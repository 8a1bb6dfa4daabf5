//! Starts the process that serves the mount in the background, and waits for
//! its word.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::options::MountPlan;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
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
        .stdin(Stdio::null())
        .stdout(writer)
        .spawn()
        .map_err(|error| Failure::io("start", &program, &error))?;
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
    /// Tells that it is mounted.
    pub fn tell(&self, output: Output) -> Outcome {
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
