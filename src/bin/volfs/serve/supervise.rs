//! The process that a person or a service manager sees: it starts the one that
//! serves, and the next when that dies.

use std::ffi::OsString;
use std::path::Path;

use volfs::keeper::supervisor::{self, Supervised};

use super::{log_file, ready};
use crate::commands::mount::options::MountPlan;
use crate::failure::{Failure, Outcome};

/// Supervises until the mount is gone. `argv` is what this process was started
/// with; in the background, the log is a file as soon as the mount is served.
pub fn supervise(plan: &MountPlan, argv: &[OsString], background: bool) -> Outcome {
    if background {
        super::leave_the_session();
    }
    let mut arguments = argv.to_vec();
    if background {
        arguments.insert(1.min(arguments.len()), ready::MARK.into());
    }
    let store = plan.store.clone();
    let serving = move || {
        if background {
            log_file::redirect_or_drop(&store);
            // The command that started this one has been told.
            if let Err(error) = ready::let_go_of_stdout() {
                log::warn!("cannot close standard output: {error}");
            }
        }
    };
    let code = supervisor::run(Supervised {
        arguments,
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
