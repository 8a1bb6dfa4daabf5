//! `volfs events`.

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;
use crate::open::{Access, open_volumes};
use crate::table;

/// Arguments of `volfs events`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::EVENTS)]
pub struct EventsArgs {}

impl EventsArgs {
    /// Prints the events, oldest first.
    pub fn run(self, context: &Context) -> Outcome {
        let events = open_volumes(&context.store, Access::Read)?.events()?;
        if context.output.is_json() {
            return context.output.value(&events);
        }
        for event in &events {
            context
                .output
                .text(format!("{}  {event}", table::time(event.time)));
        }
        Ok(())
    }
}
