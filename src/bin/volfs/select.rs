//! `--filter`, for every command that takes several volumes by what they are.

use clap::Args;
use volfs::volume::{Filter, Filters};

/// Which volumes are meant.
#[derive(Clone, Debug, Args)]
pub struct FilterArgs {
    /// Only volumes for which this holds: label=KEY[=VALUE], kind=directory|disk,
    /// name=GLOB, used>90% (or >=, <, <=; of the limit, or a size: used>1G),
    /// in-use, unused, pinned, unpinned, read-only, writable; of several all must hold
    #[arg(short, long = "filter", value_name = "FILTER", value_parser = parse)]
    pub filters: Vec<Filter>,
}

fn parse(text: &str) -> Result<Filter, String> {
    text.parse()
        .map_err(|error: volfs::volume::InvalidFilter| error.to_string())
}

impl FilterArgs {
    /// As one condition.
    pub fn filters(self) -> Filters {
        Filters::new(self.filters)
    }
}
