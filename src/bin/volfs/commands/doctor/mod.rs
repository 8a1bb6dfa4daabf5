//! `volfs doctor`: what this machine and this store can do, and what is lost
//! without what they cannot.

mod access;
mod host;
mod rebuild;
mod store;

use clap::Args;
use comfy_table::{Cell, Color};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::table::{self, Listing};

/// Arguments of `volfs doctor`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::DOCTOR)]
pub struct DoctorArgs {
    /// Make a lost or damaged catalogue anew from the volumes' own files; the
    /// old one is kept aside
    #[arg(long)]
    rebuild_catalogue: bool,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// A mount works, without something.
    Degraded,
    /// A mount would fail.
    Missing,
}

/// A check and its outcome.
#[derive(Clone, Debug, Serialize)]
struct Check {
    /// What was looked at.
    check: String,
    state: State,
    /// What was found.
    found: String,
    /// What that means; absent when all is well.
    means: Option<String>,
    /// What to do about it.
    fix: Option<String>,
}

impl Check {
    fn ok(check: &str, found: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            state: State::Ok,
            found: found.into(),
            means: None,
            fix: None,
        }
    }

    fn bad(
        state: State,
        check: &str,
        found: impl Into<String>,
        means: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            state,
            means: Some(means.into()),
            fix: Some(fix.into()),
            ..Self::ok(check, found)
        }
    }

    fn degraded(
        check: &str,
        found: impl Into<String>,
        means: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::bad(State::Degraded, check, found, means, fix)
    }

    fn missing(
        check: &str,
        found: impl Into<String>,
        means: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::bad(State::Missing, check, found, means, fix)
    }
}

impl DoctorArgs {
    /// Runs the checks.
    pub fn run(self, context: &Context) -> Outcome {
        if self.rebuild_catalogue {
            return rebuild::run(&context.store, context.output);
        }
        let mut checks = host::checks();
        checks.extend(access::checks());
        checks.push(host::outlives(&context.store));
        checks.push(host::file_handles(&context.store));
        checks.extend(store::checks(&context.store));
        let missing = checks.iter().filter(|c| c.state == State::Missing).count();
        if context.output.is_json() {
            context.output.value(&serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"),
                "store": context.store,
                "can_mount": missing == 0,
                "checks": checks,
            }))?;
        } else {
            context.output.text(shown(&checks));
        }
        match missing {
            0 => Ok(()),
            _ if context.output.is_json() => Err(Failure::Reported),
            1 => Err(Failure::new(
                "cannot-mount",
                "1 check says that a mount would fail",
            )),
            _ => Err(Failure::new(
                "cannot-mount",
                format!("{missing} checks say that a mount would fail"),
            )),
        }
    }
}

fn shown(checks: &[Check]) -> String {
    let mut overview = Listing::new(&["STATE", "CHECK", "~FOUND"]);
    let mut advice = Vec::new();
    for check in checks {
        let (text, colour) = match check.state {
            State::Ok => ("ok", Color::Green),
            State::Degraded => ("degraded", Color::Yellow),
            State::Missing => ("missing", Color::Red),
        };
        let state = Cell::new(text);
        overview.row(vec![
            if table::may_colour() {
                state.fg(colour)
            } else {
                state
            },
            Cell::new(&check.check),
            Cell::new(&check.found),
        ]);
        if let (Some(means), Some(fix)) = (&check.means, &check.fix) {
            advice.push(format!("{}: {means}.\n  To mend it: {fix}.", check.check));
        }
    }
    let mut text = overview.to_string();
    for advice in advice {
        text += "\n\n";
        text += &advice;
    }
    text
}
