//! The question before what cannot be undone.

use std::io::{BufRead, IsTerminal, Write};

use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// Asks on a terminal whether `what` shall be done. `yes` is the answer of who
/// has given it on the command line, and the only one where there is no
/// terminal.
pub fn confirm(output: Output, yes: bool, what: &str) -> Outcome {
    if yes {
        return Ok(());
    }
    if output.is_json() || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::usage(format!(
            "this would {what}; nothing brings that back, so say --yes where nobody can be asked"
        )));
    }
    let mut terminal = std::io::stderr();
    // Who cannot see the question does not answer it with yes.
    let _ = write!(
        terminal,
        "This will {what}. Nothing brings that back. Go on? [y/N] "
    );
    let _ = terminal.flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(
        "not-confirmed",
        "not confirmed; nothing was deleted",
    ))
}
