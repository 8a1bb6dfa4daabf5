//! `volfs completions` and `volfs man`: made from the definitions of the
//! commands, so that they are true.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::output::Output;

/// Arguments of `volfs completions`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::COMPLETIONS)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "bash|zsh|fish")]
    shell: KnownShell,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

impl CompletionsArgs {
    /// Prints the completions.
    pub fn run(self, output: Output) -> Outcome {
        let shell = match self.shell {
            KnownShell::Bash => Shell::Bash,
            KnownShell::Zsh => Shell::Zsh,
            KnownShell::Fish => Shell::Fish,
        };
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "volfs", &mut text);
        output.raw(String::from_utf8_lossy(&text));
        Ok(())
    }
}

/// Arguments of `volfs man`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::MAN)]
pub struct ManArgs {
    /// The directory, which must exist
    #[arg(value_name = "DIR", value_parser = names::path())]
    directory: PathBuf,
}

impl ManArgs {
    /// Writes the pages.
    pub fn run(self, output: Output) -> Outcome {
        let written = crate::man::write(Cli::command(), &self.directory)
            .map_err(|(path, error)| Failure::io("write", path, &error))?;
        if output.is_json() {
            return output.value(&written);
        }
        output.confirm(format_args!(
            "{} pages in {}; read them with 'man -l {}'",
            written.len(),
            self.directory.display(),
            self.directory.join("volfs.1").display()
        ));
        Ok(())
    }
}
