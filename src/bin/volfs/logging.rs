//! Where log lines go: stderr, plainly for a command, with time for a daemon,
//! with the level in front for the journal.

use std::io::Write;

use env_logger::{Builder, Env, Target};
use log::{Level, LevelFilter};

use crate::context::Global;
use crate::serve::journal;
use crate::serve::log_file::Log;

/// Who logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A command, for the person who gave it.
    Command,
    /// A daemon in the foreground.
    Foreground,
    /// A daemon in the background, to a file or to the journal.
    Background {
        /// Whether it is the journal.
        journal: bool,
    },
}

/// Starts logging. `RUST_LOG` goes before `-v` and `--quiet`.
pub fn start(global: &Global, who: Who) {
    start_at(global.verbose, global.quiet, who);
}

/// As [`start`], for the mount(8) helper.
pub fn start_at(verbose: u8, quiet: bool, who: Who) {
    let daemon = who != Who::Command;
    let level = match (quiet, verbose, daemon) {
        (true, _, _) => LevelFilter::Error,
        (_, 0, false) => LevelFilter::Warn,
        (_, 0, true) | (_, 1, false) => LevelFilter::Info,
        (_, 1, true) | (_, 2, _) => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let mut filter = level.to_string();
    if level <= LevelFilter::Info {
        // It warns of each request that we leave to the kernel's own answer, such
        // as an ioctl: anybody could push all else out of the log.
        filter.push_str(",fuser=error");
    }
    let mut builder = Builder::from_env(Env::default().default_filter_or(filter));
    match who {
        Who::Command => {
            builder.format(|to, record| match record.level() {
                Level::Error => writeln!(to, "volfs: {}", record.args()),
                Level::Warn => writeln!(to, "volfs: warning: {}", record.args()),
                _ => writeln!(to, "volfs: {}", record.args()),
            });
        }
        Who::Background { journal: true } => for_journal(&mut builder),
        Who::Foreground if journal::is_stderr() => for_journal(&mut builder),
        Who::Foreground => {
            builder.format_timestamp_micros();
        }
        Who::Background { journal: false } => {
            builder.format_timestamp_micros();
            builder.target(Target::Pipe(Box::<Log>::default()));
        }
    }
    // Fails only when a logger is set already.
    let _ = builder.try_init();
}

/// The journal has the time itself; a line of several is one entry for each.
fn for_journal(builder: &mut Builder) {
    builder.format(|to, record| {
        // The levels of syslog(3).
        let level = match record.level() {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        let text = record.args().to_string();
        for line in text.lines() {
            writeln!(to, "<{level}>{line}")?;
        }
        Ok(())
    });
}
