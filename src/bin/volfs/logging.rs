//! Where log lines go: stderr, plainly for a command, with time for a daemon.

use std::io::Write;

use env_logger::{Builder, Env};
use log::{Level, LevelFilter};

use crate::context::Global;

/// Starts logging. `RUST_LOG` goes before `-v` and `--quiet`.
pub fn start(global: &Global, daemon: bool) {
    start_at(global.verbose, global.quiet, daemon);
}

/// As [`start`], for the mount(8) helper.
pub fn start_at(verbose: u8, quiet: bool, daemon: bool) {
    let level = match (quiet, verbose, daemon) {
        (true, _, _) => LevelFilter::Error,
        (_, 0, false) => LevelFilter::Warn,
        (_, 0, true) | (_, 1, false) => LevelFilter::Info,
        (_, 1, true) | (_, 2, _) => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let mut builder = Builder::from_env(Env::default().default_filter_or(level.as_str()));
    if daemon {
        builder.format_timestamp_micros();
    } else {
        builder.format(|to, record| match record.level() {
            Level::Error => writeln!(to, "volfs: {}", record.args()),
            Level::Warn => writeln!(to, "volfs: warning: {}", record.args()),
            _ => writeln!(to, "volfs: {}", record.args()),
        });
    }
    // Fails only when a logger is set already.
    let _ = builder.try_init();
}
