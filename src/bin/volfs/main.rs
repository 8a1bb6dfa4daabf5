//! The command `volfs`: reads the command line, runs one command, turns its
//! outcome into an exit code.
//!
//! Each command is a module of its own. Nothing in here knows how volumes or
//! mounts work.

mod commands;
mod confirm;
mod context;
mod failure;
mod fields;
mod format;
mod help;
mod logging;
mod man;
mod mounts;
mod names;
mod open;
mod output;
mod processes;
mod progress;
mod purging;
mod select;
mod serve;
mod table;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::commands::Command;
use crate::context::{Context, Global};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::serve::role::Role;

/// Named volumes as directories of one FUSE file system.
///
/// Every directory at the root of the mount is a volume: mkdir makes one,
/// rmdir removes an empty one, mv renames it. The commands below do the same
/// and more, with a running daemon (through its socket) and without one
/// (directly on the store).
#[derive(Debug, Parser)]
#[command(name = "volfs", version, after_help = help::MAIN, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[global_allocator]
static ALLOCATOR: volfs::sys::memory::Allocator = volfs::sys::memory::Allocator;

fn main() -> ExitCode {
    volfs::sys::process::forget_inherited_signals();
    let mut argv: Vec<OsString> = std::env::args_os().collect();
    let role = match Role::take_from(&mut argv) {
        Ok(role) => role,
        Err(failure) => return conclude(Err(failure), &Output::new(false, false)),
    };
    if let Some(arguments) = commands::mount::helper::recognise(&argv) {
        return commands::mount::helper::main(&argv, arguments, role);
    }
    let cli = match Cli::try_parse_from(&argv) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &argv),
    };
    let output = Output::new(cli.global.json, cli.global.quiet);
    logging::start(&cli.global, cli.command.logs_as(&role));
    let outcome = match cli.command {
        Command::Completions(arguments) => arguments.run(output),
        Command::Man(arguments) => arguments.run(output),
        command => {
            Context::new(&cli.global, output).and_then(|context| command.run(&context, &argv, role))
        }
    };
    conclude(outcome, &output)
}

fn conclude(outcome: Outcome, output: &Output) -> ExitCode {
    match outcome.and_then(|()| output::check_written()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// What clap says: help and version to stdout, a mistake to stderr with code 2.
fn usage(error: &clap::Error, argv: &[OsString]) -> ExitCode {
    let json = argv.iter().any(|argument| argument == "--json");
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let failure = Failure::usage(text.trim_end().trim_start_matches("error: "));
        Output::new(true, false).failure(&failure);
    } else {
        // Nothing sensible is left to do when the help cannot be printed.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE))
}
