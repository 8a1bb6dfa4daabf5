//! The process that a person or a service manager sees: it starts the one that
//! serves, and the next when that dies.

use std::ffi::OsString;
use std::path::Path;

use volfs::keeper::supervisor::{self, Supervised};

use super::{journal, log_file, ready, role};
use crate::commands::mount::options::{LogTo, MountPlan};
use crate::failure::{Failure, Outcome};

/// Supervises until the mount is gone. `argv` is what this process was started
/// with; in the background, the log is a file as soon as the mount is served.
pub fn supervise(plan: &MountPlan, argv: &[OsString], background: bool) -> Outcome {
    let mut arguments = argv.to_vec();
    if background {
        let place = 1.min(arguments.len());
        arguments.insert(place, ready::MARK.into());
        arguments.splice(place..place, role::from_here());
        super::leave_the_session();
    }
    let (store, log) = (plan.store.clone(), plan.log);
    let serving = move || {
        if background {
            match log {
                LogTo::File => log_file::redirect_or_drop(&store),
                LogTo::Journal => {
                    if journal::redirect().is_err() {
                        log::warn!("the supervisor has no journal to log to");
                    }
                }
            }
            // The command that started this one has been told.
            if let Err(error) = ready::let_go_of_stdout() {
                log::warn!("cannot close standard output: {error}");
            }
        }
    };
    if supervisor::is_continued() {
        // Its log is open, maybe under another name.
        serving();
    }
    let code = supervisor::run(Supervised {
        arguments: arguments.clone(),
        command: arguments,
        unmount: detach,
        serving: Box::new(serving),
    })
    .map_err(|error| Failure::io("supervise", "the process that serves", &error))?;
    match u8::try_from(code) {
        Ok(0) => Ok(()),
        // It has said why.
        code => Err(Failure::Ended(code.unwrap_or(crate::failure::FAILED))),
    }
}

fn detach(mountpoint: &Path) {
    if let Err(error) = volfs::fuse::mount::unmount(mountpoint, true) {
        log::error!("cannot unmount {}: {error}", mountpoint.display());
    }
}
