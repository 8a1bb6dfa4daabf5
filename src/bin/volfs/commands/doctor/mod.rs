//! `volfs doctor`: what this machine and this store can do.

use clap::Args;

use crate::context::Context;
use crate::failure::Outcome;

/// Arguments of `volfs doctor`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::DOCTOR)]
pub struct DoctorArgs {}

impl DoctorArgs {
    /// Runs the checks.
    pub fn run(self, _context: &Context) -> Outcome {
        Ok(())
    }
}
