//! `volfs stats`.

use clap::Args;
use comfy_table::Cell;
use serde_json::Value;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::open::daemon_of;
use crate::table::Listing;

/// Arguments of `volfs stats`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::STATS)]
pub struct StatsArgs {}

impl StatsArgs {
    /// Prints the counters of the store's daemon.
    pub fn run(self, context: &Context) -> Outcome {
        let Some((daemon, _)) = daemon_of(&context.store)? else {
            return Err(not_mounted(context));
        };
        let stats = daemon.stats()?;
        if context.output.is_json() {
            return context.output.value(&stats);
        }
        context.output.text(operations(&stats));
        let number = |name: &str| stats[name].as_u64().unwrap_or(0);
        context.output.text(format_args!(
            "\nopen files: {} ({} by passthrough)   cached nodes: {}\n\
             through the daemon: {} read, {} written",
            number("open_files"),
            number("open_files_passthrough"),
            number("cached_nodes"),
            volfs::model::Bytes(number("daemon_read_bytes")),
            volfs::model::Bytes(number("daemon_written_bytes")),
        ));
        Ok(())
    }
}

/// There is no daemon to be asked.
pub fn not_mounted(context: &Context) -> Failure {
    Failure::new(
        "not-mounted",
        format!(
            "the store {} is not mounted, and only a daemon counts; mount it with 'volfs mount'",
            context.store.display()
        ),
    )
}

fn operations(stats: &Value) -> Listing {
    let mut table = Listing::new(&["OPERATION", ">REQUESTS", ">?ERRORS", ">?MEAN", ">?99 %"]);
    let operations = stats["operations"].as_object().into_iter().flatten();
    for (name, op) in operations {
        let count = op["count"].as_u64().unwrap_or(0);
        let nanos = op["nanoseconds"].as_u64().unwrap_or(0);
        let mean = nanos as f64 / count.max(1) as f64 / 1000.0;
        table.row(vec![
            Cell::new(name),
            Cell::new(count),
            Cell::new(&op["errors"]),
            Cell::new(format!("{mean:.1} µs")),
            Cell::new(below(&op["latency_log2_us"], count)),
        ]);
    }
    table
}

/// The bound that 99 of 100 requests stay below, as exact as the buckets are:
/// bucket `i` holds what took less than 2^i microseconds.
fn below(buckets: &Value, count: u64) -> String {
    let buckets = buckets.as_array().map_or(&[][..], Vec::as_slice);
    let mut seen = 0;
    for (exponent, bucket) in buckets.iter().enumerate() {
        seen += bucket.as_u64().unwrap_or(0);
        if seen * 100 >= count * 99 {
            return format!("< {} µs", 1_u64 << exponent);
        }
    }
    String::new()
}
