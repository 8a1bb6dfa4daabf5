//! `volfs events`.

use std::time::Duration;

use clap::Args;
use volfs::control::Client;
use volfs::volume::{Error, Event, Volumes};

use crate::context::Context;
use crate::failure::Outcome;
use crate::open::{Access, open_volumes};
use crate::table;

/// How often the daemon is asked for more.
const INTERVAL: Duration = Duration::from_millis(500);

/// Arguments of `volfs events`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::EVENTS)]
pub struct EventsArgs {
    /// Go on with those that come; with --json one value per line
    #[arg(short, long)]
    follow: bool,
}

impl EventsArgs {
    /// Prints the events, oldest first.
    pub fn run(self, context: &Context) -> Outcome {
        let events = open_volumes(&context.store, Access::Read)?.events()?;
        if self.follow {
            return follow(context, events);
        }
        if context.output.is_json() {
            return context.output.value(&events);
        }
        for event in &events {
            tell(context, event)?;
        }
        Ok(())
    }
}

/// Tells events until the reader has gone. A daemon that ends and one that
/// starts later change nothing; without a daemon there are none.
fn follow(context: &Context, mut events: Vec<Event>) -> Outcome {
    let mut last: Option<Event> = None;
    let mut silent = false;
    loop {
        for event in newer(&events, last.as_ref()) {
            tell(context, event)?;
        }
        if crate::output::is_gone() {
            return Ok(());
        }
        last = events.pop().or(last);
        std::thread::sleep(INTERVAL);
        let daemon = Client::connect(&context.store);
        let asked = daemon.and_then(|daemon| daemon.map_or(Ok(Vec::new()), |it| it.events()));
        events = match asked {
            Err(error @ Error::Unresponsive { .. }) => {
                if !std::mem::replace(&mut silent, true) {
                    log::warn!("{error}");
                }
                Vec::new()
            }
            Err(error @ Error::Io { .. }) => return Err(error.into()),
            // One that is just ending tells the rest the next time.
            other => {
                silent = false;
                other.unwrap_or_default()
            }
        };
    }
}

/// Those after the last that was told.
fn newer<'a>(events: &'a [Event], last: Option<&Event>) -> &'a [Event] {
    let Some(last) = last else {
        return events;
    };
    let told = events
        .iter()
        .rposition(|event| event == last)
        // It is no longer kept.
        .or_else(|| events.iter().rposition(|event| event.time <= last.time));
    told.map_or(events, |told| &events[told + 1..])
}

fn tell(context: &Context, event: &Event) -> Outcome {
    if context.output.is_json() {
        return context.output.line(event);
    }
    context
        .output
        .text(format!("{}  {event}", table::time(event.time)));
    Ok(())
}
