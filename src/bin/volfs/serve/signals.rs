//! Signals to the daemon: the first SIGINT or SIGTERM unmounts if nobody uses
//! the mount, the second detaches it and ends.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals as Caught};
use volfs::fuse::Mounted;

use super::End;

/// Starts to catch signals; those that come are kept.
pub fn catch() -> io::Result<Caught> {
    let caught = Caught::new([SIGINT, SIGTERM, SIGHUP])?;
    volfs::keeper::let_signals_in()?;
    Ok(caught)
}

/// A thread that acts on signals.
pub struct Signals {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    /// Acts on what was caught and will be.
    pub fn serve(caught: Caught, mounted: Arc<Mounted>, tell: mpsc::Sender<End>) -> Self {
        let handle = caught.handle();
        let thread = std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || act(caught, &mounted, &tell))
            .inspect_err(|error| log::error!("signals will have no effect: {error}"))
            .ok();
        Self { handle, thread }
    }

    /// Ends the thread.
    pub fn end(self) {
        self.handle.close();
        if let Some(thread) = self.thread {
            // It has nothing to tell; a panic has been logged.
            let _ = thread.join();
        }
    }
}

fn act(mut caught: Caught, mounted: &Mounted, tell: &mpsc::Sender<End>) {
    let mut asked_before = false;
    for signal in caught.forever() {
        if signal == SIGHUP {
            super::log_file::reopen();
            log::info!("SIGHUP: the log goes on here");
            if mounted.has_successor() {
                log::info!("SIGHUP: handing over to the program that is installed now");
                mounted.hand_over();
                std::process::exit(volfs::keeper::HANDED_OVER);
            }
            continue;
        }
        let name = if signal == SIGINT {
            "SIGINT"
        } else {
            "SIGTERM"
        };
        // Also where somebody has asked by command: whoever still has the mount,
        // in another mount namespace or since a lazy unmount, has had the time.
        if asked_before || !mounted.is_attached() {
            log::warn!("{name}: ending, whoever still uses the mount loses it");
            if mounted.is_attached()
                && let Err(error) = mounted.unmount(true)
            {
                log::error!("{error}");
            }
            // Fails only when the end has come already.
            let _ = tell.send(End::Forced);
            return;
        }
        asked_before = true;
        log::info!("{name}: unmounting");
        if let Err(error) = mounted.unmount(false) {
            super::notify::status(&format!("still mounted: {error}"));
            log::error!("still mounted: {error}; a second signal detaches the mount and ends");
        } else {
            tell_who_has_a_copy(mounted);
        }
    }
}

/// Another mount namespace may have a copy of the mount, which keeps this process
/// serving.
fn tell_who_has_a_copy(mounted: &Mounted) {
    let store = mounted.file_system().store().dir().to_owned();
    let device = mounted.file_system().device();
    // The end of those that were just asked to end is not waited for.
    if let Some(who) = crate::mounts::elsewhere(&store, device) {
        let said = format!(
            "unmounted here, and serving on for {}, which has a copy of the mount in a mount namespace of its own",
            crate::mounts::named(who)
        );
        super::notify::status(&said);
        log::warn!("{said}; a second signal ends");
    }
}
