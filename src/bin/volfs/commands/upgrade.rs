//! `volfs upgrade`: the program that is installed now serves the mount from
//! here on.

use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use volfs::keeper::supervisor::NAME;
use volfs::volume::Error;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::open::{daemon_of, pause};
use crate::processes::DaemonProcesses;

/// How long the new process may take; the old one goes on when it cannot.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of `volfs upgrade`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::UPGRADE)]
pub struct UpgradeArgs {}

impl UpgradeArgs {
    /// Has the daemon of the store hand over.
    pub fn run(self, context: &Context) -> Outcome {
        let store = &context.store;
        let Some((daemon, before)) = daemon_of(store)? else {
            return Err(Failure::new(
                "not-mounted",
                format!(
                    "{} is not mounted: nothing runs that could be upgraded",
                    store.display()
                ),
            ));
        };
        let supervisor = i32::try_from(before.pid).unwrap_or_default();
        let name = std::fs::read_to_string(format!("/proc/{supervisor}/comm"));
        if !name.is_ok_and(|name| name.trim_end() == NAME) {
            return Err(Failure::new(
                "no-supervisor",
                format!(
                    "the daemon of {} (process {supervisor}) has no supervisor, or is in another pid namespace; unmount the store and mount it again instead",
                    store.display()
                ),
            ));
        }
        let processes = DaemonProcesses::of(&daemon)?;
        if let Some(why) = processes.why_halted() {
            return Err(not_upgraded(&why));
        }
        let start = Instant::now();
        kill(Pid::from_raw(supervisor), Signal::SIGHUP)
            .map_err(|errno| Failure::io("signal", "the supervisor", &errno.into()))?;
        let after = loop {
            match daemon_of(store) {
                Ok(Some((_, status))) if status.no_upgrade != before.no_upgrade => {
                    match status.no_upgrade {
                        Some(refused) => return Err(not_upgraded(&refused.why)),
                        // The new program has none to tell of.
                        None => break status,
                    }
                }
                Ok(Some((_, status))) if status.since != before.since => break status,
                Err(error @ Error::Unresponsive { .. }) => return Err(error.into()),
                _ if start.elapsed() > UPGRADE_TIMEOUT => {
                    return Err(Failure::new(
                        "no-upgrade",
                        format!(
                            "no other process has come within {} seconds; the log is daemon.log in the store",
                            UPGRADE_TIMEOUT.as_secs()
                        ),
                    ));
                }
                _ => pause(),
            }
        };
        if after.version != env!("CARGO_PKG_VERSION") {
            return Err(Failure::new(
                "kept-version",
                format!(
                    "{} is still served by version {}: this version, {}, could not go on with it (daemon.log says why), or is not the one that was installed where the daemon's program was. Unmount and mount again for another version",
                    store.display(),
                    after.version,
                    env!("CARGO_PKG_VERSION")
                ),
            ));
        }
        if context.output.is_json() {
            return context.output.value(&serde_json::json!({
                "store": store.to_string_lossy(), "from": before.version, "to": after.version,
                "seconds": start.elapsed().as_secs_f64(),
            }));
        }
        context.output.confirm(format_args!(
            "{} is served by version {} (before: {})",
            store.display(),
            after.version,
            before.version
        ));
        Ok(())
    }
}

fn not_upgraded(why: &str) -> Failure {
    Failure::new("no-upgrade", format!("the upgrade was not made: {why}"))
}
