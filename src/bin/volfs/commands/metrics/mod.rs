//! `volfs metrics`: the daemon's figures in the text format of Prometheus
//! (version 0.0.4), printed once or served to those who ask.
//!
//! A process of its own: nothing listens unless it is started, and it tells
//! that the daemon is down.

mod clients;
mod serve;
mod text;

use clap::Args;
use volfs::volume::Volumes;

use self::serve::Address;
use self::text::Text;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::open::daemon_of;

/// Arguments of `volfs metrics`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::METRICS)]
pub struct MetricsArgs {
    /// Serve them over HTTP, at a loopback address and port or at the path of a
    /// unix socket
    #[arg(long, value_name = "ADDRESS:PORT|PATH", value_parser = Address::parse)]
    listen: Option<Address>,
}

impl MetricsArgs {
    /// Prints or serves the figures.
    pub fn run(self, context: &Context) -> Outcome {
        if context.output.is_json() {
            return Err(Failure::usage(
                "metrics have a format of their own; 'volfs stats --json' prints the counters as JSON",
            ));
        }
        match self.listen {
            Some(address) => serve::serve(&address, context, || collect(context)),
            None => {
                context.output.raw(collect(context)?);
                Ok(())
            }
        }
    }
}

/// All figures as they are now; without a daemon, that there is none.
fn collect(context: &Context) -> Outcome<String> {
    let mut text = Text::default();
    let daemon = daemon_of(&context.store)?;
    text.family("volfs_up", "gauge", "Whether the store is mounted.");
    text.sample("volfs_up", &[], u64::from(daemon.is_some()));
    let Some((daemon, status)) = daemon else {
        return Ok(text.into_string());
    };
    text.family("volfs_info", "gauge", "The daemon; always 1.");
    text.sample(
        "volfs_info",
        &[
            ("version", &status.version),
            ("store", &status.store.to_string_lossy()),
            ("mountpoint", &status.mountpoint.to_string_lossy()),
        ],
        1,
    );
    let stats = daemon.stats()?;
    text.volumes(&daemon.list()?, &stats);
    text.trash(&daemon.trash()?);
    text.operations(&stats);
    Ok(text.into_string())
}
