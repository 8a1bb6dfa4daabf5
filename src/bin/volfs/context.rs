//! What every command needs to know: which store, and how to print.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// The store's directory [default: /var/lib/volfs for root, otherwise
    /// volfs in the XDG data directory, ~/.local/share]
    #[arg(
        long,
        global = true,
        env = "VOLFS_STORE",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub store: Option<PathBuf>,
    /// Print JSON, errors too
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more in the log (-vv: still more); RUST_LOG goes before it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Print errors and what was asked for, nothing else
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// What a command works with.
#[derive(Clone, Debug)]
pub struct Context {
    /// The store's directory, absolute.
    pub store: PathBuf,
    /// How to print.
    pub output: Output,
}

impl Context {
    /// Resolves what the command line left open.
    pub fn new(global: &Global, output: Output) -> Outcome<Self> {
        let store = match &global.store {
            Some(store) => absolute_store(store)?,
            None => default_store()?,
        };
        Ok(Self { store, output })
    }

    /// Steps out of the working directory, so that this process is not one of
    /// those that keep a volume or a mount in use. All paths are absolute.
    pub fn leave_directory() {
        // Where it cannot be left it is listed as in use, which is true.
        let _ = std::env::set_current_dir("/");
    }
}

/// The store's directory as an absolute path that can be said in JSON.
pub fn absolute_store(store: &Path) -> Outcome<PathBuf> {
    if store.as_os_str().is_empty() {
        return Err(Failure::usage(
            "the store's directory is an empty text; give --store a directory, or unset VOLFS_STORE",
        ));
    }
    let store = std::path::absolute(store)
        .map_err(|error| Failure::io("find the place of", store, &error))?;
    if store.to_str().is_none() {
        return Err(Failure::usage(format!(
            "the store {store:?} has a path that is not UTF-8; choose another"
        )));
    }
    Ok(store)
}

/// `/var/lib/volfs` for root; for others where the XDG base directory
/// specification keeps data, which ignores relative paths.
fn default_store() -> Outcome<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/volfs"));
    }
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let data = absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .ok_or_else(|| {
            Failure::usage(
                "no store is named and HOME is not set; give --store DIR or set VOLFS_STORE",
            )
        })?;
    absolute_store(&data.join("volfs"))
}
