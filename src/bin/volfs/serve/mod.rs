//! The daemon: opens the store, mounts it, serves the control socket, and ends
//! in order when the mount is gone.

mod face;
pub mod journal;
pub mod log_file;
pub mod notify;
pub mod ready;
pub mod role;
mod signals;
mod supervise;

use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use volfs::control::{Client, SOCKET_NAME, Server, Status};
use volfs::fuse::mount::{self, Answer};
use volfs::fuse::{Inherited, MountError, Mounted};
use volfs::volume::{Error, Store, StoreOptions};

use self::face::Face;
use self::notify::Watchdog;
use self::ready::{MountedAs, Ready};
use self::signals::Signals;
pub use self::supervise::supervise;
use crate::commands::mount::options::{LogTo, MountPlan};
use crate::commands::umount;
use crate::failure::{Failure, Outcome};
use crate::mounts;
use crate::names;
use crate::open::{PATIENCE, pause};
use crate::output::Output;
use crate::processes::DaemonProcesses;

/// What ends a daemon.
#[derive(Debug)]
enum End {
    /// The file system is no longer mounted, and nobody uses it.
    Unmounted(std::io::Result<()>),
    /// A second signal: the mount is detached, and those who still use it are
    /// given up.
    Forced,
}

/// Serves until unmounted; the log is standard error.
pub fn in_foreground(plan: &MountPlan, output: Output, inherited: Option<Inherited>) -> Outcome {
    let first = !is_successor(inherited.as_ref());
    let daemon = Running::start(plan, inherited, || {})?;
    if first {
        // The log, which has the findings, is here.
        let findings = Vec::new();
        MountedAs {
            findings,
            ..daemon.mounted_as()
        }
        .tell(output)?;
    }
    daemon.run()
}

/// Serves until unmounted, in a session of its own; the log is a file.
pub fn in_background(plan: &MountPlan, ready: Ready, inherited: Option<Inherited>) -> Outcome {
    if is_successor(inherited.as_ref()) {
        // Nobody waits for its word. The log that it was given may have been
        // moved aside by the process before.
        if plan.log == LogTo::File {
            log_file::redirect_or_drop(&plan.store);
        }
        leave_the_session();
        return Running::start(plan, inherited, || {})?.run();
    }
    leave_the_session();
    let log_is_open = Cell::new(false);
    let redirect = || {
        log_is_open.set(true);
        log_file::redirect_or_drop(&plan.store);
    };
    let to_file = plan.log == LogTo::File;
    if !to_file {
        if let Err(failure) = journal::redirect() {
            return Err(ready.failed(failure));
        }
        log_is_open.set(true);
    } else if plan.store.join("meta.db").exists() {
        // Nothing is written into a directory that may turn out to be no store.
        redirect();
    }
    let started = Running::start(plan, inherited, || {
        // The lock is held now: no other daemon writes this log.
        if to_file {
            log_file::rotate(&plan.store);
            redirect();
        }
    });
    let daemon = match started {
        Ok(daemon) => daemon,
        Err(failure) => {
            // Told by the command that waits; the log keeps it too.
            if log_is_open.get()
                && let Some(report) = failure.report()
            {
                log::error!("{}", report.message);
            }
            return Err(ready.failed(failure));
        }
    };
    if ready.mounted(daemon.mounted_as()).is_err() {
        log::warn!("the command that started this daemon is gone; unmounting");
        daemon.give_up();
    }
    daemon.run()
}

fn is_successor(inherited: Option<&Inherited>) -> bool {
    inherited.is_some_and(Inherited::is_successor)
}

/// The process that signals are for: a supervisor passes them on.
fn daemon_pid(supervised: bool) -> u32 {
    if supervised {
        std::os::unix::process::parent_id()
    } else {
        std::process::id()
    }
}

/// Signals of a terminal do not come here any more, and no directory is kept
/// from being unmounted.
fn leave_the_session() {
    // Fails only for the leader of a process group, which is in nobody's way.
    let _ = nix::unistd::setsid();
    let _ = std::env::set_current_dir("/");
}

/// A daemon whose mount can be used.
struct Running {
    plan: MountPlan,
    store: Arc<Store>,
    mounted: Arc<Mounted>,
    server: Option<Server>,
    signals: Signals,
    supervised: bool,
    ends: mpsc::Receiver<End>,
}

impl Running {
    /// Mounts. `opened` is called when the store is open.
    fn start(
        plan: &MountPlan,
        inherited: Option<Inherited>,
        opened: impl FnOnce(),
    ) -> Outcome<Self> {
        let supervised = inherited.is_some();
        volfs::failpoint::panic("start");
        if !is_successor(inherited.as_ref()) {
            refuse_mounted(plan)?;
        }
        if let Some(inherited) = &inherited {
            inherited.check().map_err(|error| MountError::Inherited {
                why: error.to_string(),
            })?;
        }
        refuse_unfit(plan)?;
        let options = StoreOptions {
            read_only: plan.options.read_only,
            create: !plan.options.read_only,
        };
        let lock = inherited
            .as_ref()
            .and_then(|inherited| inherited.lock().transpose())
            .transpose()
            .map_err(|error| Failure::io("take over", "the store's lock", &error))?;
        let store = match lock {
            Some(lock) if !options.read_only => Store::open_inherited(&plan.store, lock)?,
            _ => open_store(plan, &options)?,
        };
        let store = Arc::new(store);
        opened();
        let (tell, ends) = mpsc::channel();
        // Before the mount: a signal in between must not leave a stale one.
        let caught = signals::catch().map_err(|error| Failure::io("catch", "signals", &error))?;
        let mounted = Arc::new(Mounted::start(
            Arc::clone(&store),
            &plan.mountpoint,
            &plan.options,
            inherited,
        )?);
        let face = Arc::new(Face::new(plan, &mounted, daemon_pid(supervised)));
        let socket = plan.store.join(SOCKET_NAME);
        let started = if plan.options.read_only && Client::connect(&plan.store)?.is_some() {
            // Those who only read share the lock, and the first has the socket.
            Err(std::io::ErrorKind::AddrInUse.into())
        } else {
            Server::start(&socket, mounted.volumes(), face)
        };
        let server = match started {
            Ok(server) => Some(server),
            Err(error) if plan.options.read_only => {
                log::warn!("there is no control socket: {error}");
                None
            }
            Err(error) => {
                // The reason to give up is the socket, not this.
                let _ = mounted.unmount(true);
                return Err(Failure::io("listen on", socket, &error));
            }
        };
        let signals = Signals::serve(caught, Arc::clone(&mounted), tell.clone());
        wait_for_end(Arc::clone(&mounted), tell)
            .map_err(|error| Failure::io("start", "a thread", &error))?;
        log::info!(
            "volfs {} serves {:?} on {:?}",
            env!("CARGO_PKG_VERSION"),
            plan.store,
            mounted.mountpoint()
        );
        Ok(Self {
            plan: plan.clone(),
            store,
            mounted,
            server,
            signals,
            supervised,
            ends,
        })
    }

    fn mounted_as(&self) -> MountedAs {
        MountedAs {
            store: self.plan.store.clone(),
            mountpoint: self.mounted.mountpoint().to_owned(),
            pid: daemon_pid(self.supervised),
            findings: self.store.findings().to_vec(),
        }
    }

    fn give_up(&self) {
        if let Err(error) = self.mounted.unmount(true) {
            log::error!("{error}");
        }
    }

    /// Serves until the end, then settles the store.
    fn run(self) -> Outcome {
        notify::ready(&self.plan.store, self.mounted.mountpoint());
        let watchdog = Watchdog::start(self.mounted.mountpoint());
        // A sender lives as long as the mount is served.
        let end = self.ends.recv().unwrap_or(End::Forced);
        notify::stopping();
        if let Some(watchdog) = watchdog {
            watchdog.end();
        }
        drop(self.server);
        self.signals.end();
        match end {
            End::Unmounted(result) => {
                drop(self.mounted);
                match Arc::into_inner(self.store) {
                    Some(store) => drop(store),
                    None => log::warn!("the store is still in use by a control call"),
                }
                log::info!("unmounted");
                result.map_err(|error| Failure::io("serve", &self.plan.mountpoint, &error))
            }
            End::Forced => {
                log::warn!("ended by a second signal; who still used the mount lost it");
                Ok(())
            }
        }
    }
}

fn wait_for_end(mounted: Arc<Mounted>, tell: mpsc::Sender<End>) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("wait".into())
        .spawn(move || {
            let result = mounted.wait();
            drop(mounted);
            // Nobody listens any more after a second signal.
            let _ = tell.send(End::Unmounted(result));
        })
        .map(|_| ())
}

/// A live mount of volfs on the mountpoint is said as what it is; the store's
/// lock would only say that somebody has it.
fn refuse_mounted(plan: &MountPlan) -> Outcome {
    let Some(there) = mounts::on(&plan.mountpoint)?.filter(mounts::is_volfs) else {
        return Ok(());
    };
    let store = Path::new(&there.source);
    let already = |what: String| {
        Failure::with_detail(
            "already-mounted",
            serde_json::json!({ "store": store.to_string_lossy(), "mountpoint": plan.mountpoint }),
            what,
        )
    };
    let (shown, at) = (store.display(), plan.mountpoint.display());
    let word = names::shell_path(&plan.mountpoint);
    if let Some(why) = mounts::why_silent(&there) {
        return Err(already(format!(
            "{shown} is already mounted on {at}, and its daemon does not answer: {why}"
        )));
    }
    match mount::answer(&plan.mountpoint) {
        Answer::Disconnected => Ok(()),
        Answer::Served if matches!(Client::connect(store), Ok(Some(_))) => Err(already(format!(
            "{shown} is already mounted on {at}; unmount it first with 'volfs umount {word}'"
        ))),
        Answer::Served => Ok(()),
        Answer::Silent => Err(already(format!(
            "{shown} is already mounted on {at}, and the mount does not answer; 'volfs umount --force {word}' takes it away"
        ))),
    }
}

/// Before a store is made where none can be used.
fn refuse_unfit(plan: &MountPlan) -> Outcome {
    let there = plan.store.ancestors().find(|dir| dir.is_dir());
    match there.and_then(volfs::fuse::why_unfit_numbers) {
        None => Ok(()),
        Some(why) => Err(MountError::Store {
            path: plan.store.clone(),
            why,
        }
        .into()),
    }
}

/// Opens the store. One that a command changes just now, or whose daemon is
/// just ending, is waited for; one that is mounted is not.
fn open_store(plan: &MountPlan, options: &StoreOptions) -> Outcome<Store> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = match Store::open(&plan.store, options) {
            Ok(store) => return Ok(store),
            Err(error) => error,
        };
        if !matches!(error, Error::Locked { .. }) {
            return Err(error.into());
        }
        let daemon = Client::connect(&plan.store)?;
        let status = match daemon.as_ref().map(Client::status).transpose() {
            Err(error @ Error::Unresponsive { .. }) => return Err(error.into()),
            status => status.ok().flatten(),
        };
        let is_mounted = match &status {
            Some(status) => mounts::on(&status.mountpoint)?.is_some_and(|m| mounts::is_volfs(&m)),
            None => false,
        };
        if is_mounted || Instant::now() > deadline {
            return Err(match (daemon, status) {
                (Some(daemon), Some(status)) => who_has_it(error, &daemon, &status, is_mounted),
                _ => error.into(),
            });
        }
        pause();
    }
}

/// Adds to "locked" what the daemon that has the store shows.
fn who_has_it(error: Error, daemon: &Client, status: &Status, is_mounted: bool) -> Failure {
    let Failure::Told(mut report) = Failure::from(error) else {
        return Failure::Reported;
    };
    let elsewhere = match is_mounted {
        true => None,
        false => mounts::elsewhere(&status.store, None),
    };
    report.message += &match elsewhere {
        Some(who) => {
            let processes =
                DaemonProcesses::of(daemon).unwrap_or_else(|_| DaemonProcesses::serving(None));
            format!(": {}", umount::kept_by(who, &processes, &status.mountpoint))
        }
        None => format!(
            " (it is mounted on {} by process {}; 'volfs umount {}' ends that)",
            status.mountpoint.display(),
            status.pid,
            names::shell_path(&status.mountpoint)
        ),
    };
    Failure::Told(report)
}
