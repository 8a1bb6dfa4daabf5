//! Something long that goes on: a bar on a terminal, and Ctrl-C that ends it
//! without harm.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use volfs::transfer::Watch;

use crate::output::Output;

/// How often the bar moves by itself.
const TICK: Duration = Duration::from_millis(120);

/// A signal that asks a command to end is noted, from when this is made on; what
/// the command does looks at it where it can stop without harm.
#[derive(Debug)]
pub struct Interrupt {
    stopped: Arc<AtomicBool>,
}

impl Interrupt {
    /// Notes SIGINT, SIGTERM and SIGHUP from now on.
    pub fn caught() -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // A second one ends the process where it is; what it was building
            // is swept away by the next who uses the store.
            let caught = signal_hook::flag::register_conditional_shutdown(
                signal,
                128 + signal,
                Arc::clone(&stopped),
            )
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stopped)));
            if let Err(error) = caught {
                log::debug!("signal {signal} ends this command at once: {error}");
            }
        }
        Self { stopped }
    }

    /// Whether such a signal has come.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// A bar that can be stopped by a signal.
pub struct Progress {
    bar: ProgressBar,
    interrupt: Interrupt,
}

impl Progress {
    /// Of bytes; of how many, if that is known.
    pub fn bytes(output: Output, what: &str, total: Option<u64>) -> Self {
        let template = match total {
            Some(_) => "{msg}  {wide_bar}  {bytes}/{total_bytes}  {bytes_per_sec}  {eta}",
            None => "{msg}  {spinner}  {bytes}  {bytes_per_sec}",
        };
        Self::new(output, what, total, template, Interrupt::caught())
    }

    /// Of files; of how many, if that is known.
    pub fn files(output: Output, what: &str, total: Option<u64>, interrupt: Interrupt) -> Self {
        let template = match total {
            Some(_) => "{msg}  {wide_bar}  {pos}/{len} files  {eta}",
            None => "{msg}  {spinner}  {pos} files",
        };
        Self::new(output, what, total, template, interrupt)
    }

    fn new(
        output: Output,
        what: &str,
        total: Option<u64>,
        template: &str,
        interrupt: Interrupt,
    ) -> Self {
        let bar = if std::io::stderr().is_terminal() && !output.is_json() && !output.is_quiet() {
            let bar = total.map_or_else(ProgressBar::new_spinner, |it| ProgressBar::new(it.max(1)));
            bar.enable_steady_tick(TICK);
            bar
        } else {
            ProgressBar::hidden()
        };
        // A template that does not parse would be a bar without one.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self { bar, interrupt }
    }

    /// So much is done.
    pub fn set(&self, done: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.bar.set_length(total.max(1));
        }
        self.bar.set_position(done);
    }

    /// It is over; the bar goes.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}

impl Watch for Progress {
    fn advanced(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn is_stopped(&self) -> bool {
        self.interrupt.is_stopped()
    }
}
