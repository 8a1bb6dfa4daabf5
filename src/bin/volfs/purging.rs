//! Waiting for the end of deletions that go on in the background.

use std::collections::HashSet;
use std::time::Duration;

use volfs::model::VolumeId;
use volfs::transfer::Watch;
use volfs::volume::Volumes;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::progress::{Interrupt, Progress};

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Waits until these volumes are deleted; a signal ends the waiting, not the
/// deletion. `interrupt` is from before the deletion began.
pub fn wait_for(
    context: &Context,
    volumes: &dyn Volumes,
    ids: &HashSet<VolumeId>,
    interrupt: Interrupt,
) -> Outcome {
    let bar = Progress::files(context.output, "deleting", None, interrupt);
    let mut before = 0;
    loop {
        let mut left = volumes.purges()?;
        left.retain(|purge| ids.contains(&purge.id));
        if let Some(failed) = left.iter().find(|purge| purge.failed.is_some()) {
            bar.end();
            let why = failed.failed.clone().unwrap_or_default();
            return Err(Failure::new(
                "not-deleted",
                format!("{why}; it is tried again when the store is next opened"),
            ));
        }
        let Some(current) = left.first() else {
            bar.end();
            return Ok(());
        };
        if bar.is_stopped() {
            bar.end();
            return Err(Failure::new(
                "interrupted",
                if volumes.mountpoint()?.is_some() {
                    "no longer waiting; the daemon goes on deleting in the background"
                } else {
                    "interrupted; the rest is deleted when the store is next used"
                },
            ));
        }
        before = before.max(current.deleted);
        bar.set(current.deleted, current.total.map(|it| it.max(before)));
        // Nothing tells when a daemon has deleted something.
        std::thread::sleep(LOOK);
    }
}
