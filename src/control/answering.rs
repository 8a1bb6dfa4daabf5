//! Whether a daemon answers: how long its silence is borne, and what is said of
//! one that is silent.
//!
//! A daemon gives a sign of life every second while a call takes its time, so
//! that a long call and a process that does not run are told apart. One of an
//! earlier version gives none; it is asked something else meanwhile.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::sys::halted::{self, halted};

/// How long a process may be stopped before nobody waits for it any more: a
/// shell or a debugger stops one for a moment.
const HALTED_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a daemon that seems to run may be silent: a machine that swaps is
/// slow.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// After so long a silence it is said whom the command waits for.
const WORD_AFTER: Duration = Duration::from_secs(5);

/// How often it is looked whether the process runs.
const LOOK: Duration = Duration::from_millis(250);

/// Why nobody waits for an answer any more.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The connection broke.
    Broken(io::Error),
    /// What is known of the daemon, and what to do.
    Silent(String),
}

/// Waits until the process `pid` runs, if it does within a moment.
///
/// # Errors
/// What keeps it from running, and what to do.
pub fn wait_until_it_runs(pid: i32) -> Result<(), String> {
    let deadline = Instant::now() + HALTED_TIMEOUT;
    while let Some(why) = why_it_does_not_run(pid) {
        if Instant::now() > deadline {
            return Err(why);
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// What keeps the serving process `pid` from running, and what to do; `None`
/// when nothing does.
#[must_use]
pub fn why_it_does_not_run(pid: i32) -> Option<String> {
    let halted = halted(pid)?;
    Some(format!(
        "process {pid} {halted}; {}, or {}",
        halted.way_out(pid),
        end_of(pid)
    ))
}

/// How to be rid of a serving process that does nothing.
fn end_of(pid: i32) -> String {
    if is_supervised(pid) {
        format!("end it with 'kill -KILL {pid}', and another process goes on with the mount")
    } else {
        "unmount with 'volfs umount --force', which ends it; whoever uses the mount gets errors"
            .to_owned()
    }
}

fn is_supervised(pid: i32) -> bool {
    let parent = halted::parent(pid);
    let name = parent.and_then(crate::sys::process::command_of);
    name.is_some_and(|name| name == super::SUPERVISOR)
}

/// Reads the reply line of a call, without the signs of life before it.
/// `process` serves at the other end, if that can be seen; `answers` asks it
/// something else.
pub(super) fn read_reply(
    mut stream: &UnixStream,
    process: Option<i32>,
    answers: impl Fn() -> bool,
) -> Result<Vec<u8>, NoAnswer> {
    let mut reply = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    let mut silence = Silence::new(process, SILENCE_TIMEOUT);
    stream
        .set_read_timeout(Some(LOOK))
        .map_err(NoAnswer::Broken)?;
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(reply),
            Ok(count) => {
                silence.end();
                let heard = &chunk[..count];
                let signs = match reply.is_empty() {
                    true => heard.iter().take_while(|byte| **byte == b' ').count(),
                    false => 0,
                };
                reply.extend_from_slice(&heard[signs..]);
                if reply.last() == Some(&b'\n') {
                    return Ok(reply);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                silence.go_on(&answers).map_err(NoAnswer::Silent)?;
            }
            // What was said before is the answer, if it is one.
            Err(_) if !reply.is_empty() => return Ok(reply),
            Err(error) => return Err(NoAnswer::Broken(error)),
        }
    }
}

/// The silence of a daemon.
struct Silence {
    process: Option<i32>,
    /// How long it is borne.
    limit: Duration,
    /// When it was last heard.
    since: Instant,
    /// Since when its process does not run.
    halted: Option<Instant>,
    /// It gives signs of life.
    beats: bool,
    told: bool,
}

impl Silence {
    fn new(process: Option<i32>, limit: Duration) -> Self {
        Self {
            process,
            limit,
            since: Instant::now(),
            halted: None,
            beats: false,
            told: false,
        }
    }

    fn end(&mut self) {
        self.since = Instant::now();
        self.halted = None;
        self.beats = true;
    }

    /// Whether it is borne any longer.
    ///
    /// # Errors
    /// What is known of the daemon, and what to do.
    fn go_on(&mut self, answers: impl Fn() -> bool) -> Result<(), String> {
        if let Some(why) = self.process.and_then(why_it_does_not_run) {
            let since = *self.halted.get_or_insert_with(Instant::now);
            if since.elapsed() >= HALTED_TIMEOUT {
                return Err(why);
            }
            return Ok(());
        }
        self.halted = None;
        if self.since.elapsed() >= self.limit {
            if self.beats || !answers() {
                let seconds = self.limit.as_secs();
                let what = format!("{} has said nothing for {seconds} seconds", self.who());
                let rid = self
                    .process
                    .map_or_else(String::new, |pid| format!(", or {}", end_of(pid)));
                return Err(format!("{what}; look into daemon.log in the store{rid}"));
            }
            // An earlier version, which is at work.
            self.since = Instant::now();
        } else if self.since.elapsed() >= WORD_AFTER && !std::mem::replace(&mut self.told, true) {
            log::warn!("waiting for the daemon: {}", self.who());
        }
        Ok(())
    }

    fn who(&self) -> String {
        let Some(pid) = self.process else {
            return "its process, which cannot be seen from here,".to_owned();
        };
        match halted::state(pid) {
            Some('D') => format!("process {pid}, which waits for a disk or another file system,"),
            _ => format!("process {pid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(1);

    fn after_a_while(silence: &mut Silence, answers: bool) -> Result<(), String> {
        std::thread::sleep(LIMIT * 2);
        silence.go_on(|| answers)
    }

    #[test]
    fn an_older_daemon_at_work_is_waited_for() {
        let mut silence = Silence::new(None, LIMIT);
        assert_eq!(after_a_while(&mut silence, true), Ok(()));
        assert_eq!(silence.go_on(|| false), Ok(()), "it was just heard");
        assert!(after_a_while(&mut silence, false).is_err());
    }

    #[test]
    fn a_daemon_that_gave_signs_and_gives_none_is_not() {
        let own = std::process::id().cast_signed();
        let mut silence = Silence::new(Some(own), LIMIT);
        silence.end();
        let why = after_a_while(&mut silence, true).unwrap_err();
        assert!(
            why.starts_with(&format!(
                "process {own} has said nothing for 0 seconds; look into"
            )),
            "{why}"
        );
        assert!(why.contains("volfs umount --force"), "{why}");
    }
}
