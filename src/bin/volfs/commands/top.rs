//! `volfs top`: rates per volume, from the differences of the daemon's counters.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::Cell;
use serde::Serialize;
use serde_json::Value;
use volfs::control::Client;
use volfs::model::{Bytes, VolumeName};
use volfs::volume::{VolumeInfo, Volumes};

use crate::context::Context;
use crate::failure::Outcome;
use crate::open::daemon_of;
use crate::table::{self, Listing};

/// Clears the screen from its top left corner on (ECMA-48 CUP and ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Arguments of `volfs top`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::TOP)]
pub struct TopArgs {
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    interval: Duration,
    /// End after so many looks [default: none on a terminal, otherwise 1]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!(
            "{text:?} is not a number of seconds from 0.1 to 3600"
        )),
    }
}

/// One volume at one look.
#[derive(Debug, Serialize)]
struct Rates {
    name: VolumeName,
    used: Bytes,
    limit: Option<Bytes>,
    /// Change of `used`, in bytes per second.
    growth: f64,
    requests_per_second: f64,
    errors_per_second: f64,
    /// Through the daemon; what the kernel does by itself is not counted.
    read_bytes_per_second: f64,
    written_bytes_per_second: f64,
    open_files: u64,
}

/// What is counted of a volume.
#[derive(Clone, Copy, Default)]
struct Counted {
    used: u64,
    requests: u64,
    errors: u64,
    read: u64,
    written: u64,
    open: u64,
}

struct Look {
    at: Instant,
    volumes: Vec<(VolumeInfo, Counted)>,
}

impl Look {
    fn take(daemon: &Client) -> volfs::volume::Result<Self> {
        let stats = daemon.stats()?;
        let at = Instant::now();
        let volumes = daemon.list()?.into_iter().map(|info| {
            let counters = &stats["volumes"][info.name.as_str()];
            // A volume that got the name of another starts anew.
            let same = counters["id"] == info.id.to_string();
            let counted = Counted::new(&info, if same { counters } else { &Value::Null });
            (info, counted)
        });
        Ok(Self {
            at,
            volumes: volumes.collect(),
        })
    }

    /// Rates since `before`, busiest first.
    fn since(&self, before: &Self) -> Vec<Rates> {
        let old: HashMap<_, _> = before.volumes.iter().map(|(i, c)| (i.id, *c)).collect();
        let seconds = (self.at - before.at).as_secs_f64().max(1e-3);
        let mut rates: Vec<Rates> = self
            .volumes
            .iter()
            .map(|(info, now)| {
                // A volume that is new since then began with nothing.
                let then = old.get(&info.id).copied().unwrap_or_default();
                let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
                Rates {
                    name: info.name.clone(),
                    used: info.used.bytes,
                    limit: info.capacity(),
                    growth: (now.used as f64 - then.used as f64) / seconds,
                    requests_per_second: rate(now.requests, then.requests),
                    errors_per_second: rate(now.errors, then.errors),
                    read_bytes_per_second: rate(now.read, then.read),
                    written_bytes_per_second: rate(now.written, then.written),
                    open_files: now.open,
                }
            })
            .collect();
        let busy = |rates: &Rates| rates.requests_per_second + rates.growth.abs();
        rates.sort_by(|a, b| busy(b).total_cmp(&busy(a)));
        rates
    }
}

impl Counted {
    fn new(info: &VolumeInfo, counters: &Value) -> Self {
        let number = |name: &str| counters[name].as_u64().unwrap_or(0);
        Self {
            used: info.used.bytes.0,
            requests: number("requests"),
            errors: number("errors"),
            read: number("daemon_read_bytes"),
            written: number("daemon_written_bytes"),
            open: number("open_files"),
        }
    }
}

impl TopArgs {
    /// Shows rates until the end.
    pub fn run(self, context: &Context) -> Outcome {
        let output = context.output;
        let Some((daemon, status)) = daemon_of(&context.store)? else {
            return Err(super::stats::not_mounted(context));
        };
        let screen = std::io::stdout().is_terminal() && !output.is_json();
        let mut left = self.count.or((!screen).then_some(1));
        let mut before = Look::take(&daemon)?;
        while left != Some(0) {
            std::thread::sleep(self.interval);
            let now = Look::take(&daemon)?;
            let rates = now.since(&before);
            if output.is_json() {
                output.line(&rates)?;
            } else if screen {
                let text = format!(
                    "{} on {}, every {} s; Ctrl-C ends\n\n{}",
                    context.store.display(),
                    status.mountpoint.display(),
                    self.interval.as_secs_f64(),
                    listing(&rates)
                );
                output.raw(format!("{CLEAR}{}\n", table::first_lines(&text)));
            } else {
                output.text(listing(&rates));
            }
            if crate::output::is_gone() {
                break;
            }
            before = now;
            left = left.map(|left| left - 1);
        }
        Ok(())
    }
}

fn listing(rates: &[Rates]) -> Listing {
    let mut listing = Listing::new(&[
        "*NAME",
        ">USED",
        ">?USE%",
        ">REQ/S",
        ">?ERR/S",
        ">?READ/S",
        ">?WRITTEN/S",
        ">?GROWTH/S",
        ">?OPEN",
    ]);
    for rates in rates {
        listing.row(vec![
            Cell::new(&rates.name),
            Cell::new(rates.used),
            rates.limit.map_or_else(
                || Cell::new("-"),
                |limit| table::per_cent(rates.used.0, limit.0),
            ),
            Cell::new(format!("{:.0}", rates.requests_per_second)),
            Cell::new(format!("{:.0}", rates.errors_per_second)),
            Cell::new(bytes(rates.read_bytes_per_second)),
            Cell::new(bytes(rates.written_bytes_per_second)),
            Cell::new(format!(
                "{}{}",
                if rates.growth < 0.0 { "-" } else { "" },
                bytes(rates.growth.abs())
            )),
            Cell::new(rates.open_files),
        ]);
    }
    listing
}

fn bytes(rate: f64) -> Bytes {
    // Not negative; what is too large for u64 is cut.
    Bytes(rate as u64)
}
