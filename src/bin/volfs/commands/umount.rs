//! `volfs umount`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use volfs::control::{Client, Status};
use volfs::fuse::mount::{UnmountFailure, unmount};
use volfs::volume::Error;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::mounts::{self, MountInfo};
use crate::names;
use crate::open;
use crate::processes::DaemonProcesses;

/// How long a daemon may take to end after its mount is gone.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// How long whoever has a copy of the mount may take to be gone, and a daemon to
/// be let go on.
const COPY_TIMEOUT: Duration = Duration::from_secs(10);

/// After so long it is said who keeps it.
const WORD_AFTER: Duration = Duration::from_secs(1);

/// Arguments of `volfs umount`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::UMOUNT)]
pub struct UmountArgs {
    /// The mountpoint
    #[arg(value_name = "MNT", value_parser = names::path())]
    mountpoint: PathBuf,
    /// Detach at once; who uses it finishes undisturbed
    #[arg(short, long)]
    lazy: bool,
    /// Detach at once and end the daemon, even one that is stopped; whoever
    /// uses the mount gets errors
    #[arg(short, long, conflicts_with = "lazy")]
    force: bool,
}

impl UmountArgs {
    /// Unmounts.
    pub fn run(self, context: &Context) -> Outcome {
        let mountpoint = mounts::resolve(&self.mountpoint)
            .map_err(|error| Failure::io("find the mountpoint", &self.mountpoint, &error))?;
        Context::leave_directory();
        let store = match mounts::on(&mountpoint)? {
            Some(mount) if mounts::is_volfs(&mount) => {
                self.end_mount(&mount)?;
                mount.source
            }
            other => {
                // Unmounted here, and served on for others.
                let Some((daemon, status)) = lingering(&mountpoint, &context.store) else {
                    return Err(no_mount(&mountpoint, other)?);
                };
                self.end_lingering(&daemon, &status)?;
                status.store
            }
        };
        if context.output.is_json() {
            return context.output.value(&serde_json::json!({
                "store": store.to_string_lossy(), "unmounted": mountpoint.to_string_lossy(),
            }));
        }
        context
            .output
            .confirm(format_args!("{} is unmounted", mountpoint.display()));
        Ok(())
    }

    fn end_mount(&self, mount: &MountInfo) -> Outcome {
        let daemon = match daemon_of(mount) {
            Err(Error::Unresponsive { pid, why, .. }) if self.lazy || self.force => {
                return self.end_unresponsive(mount, pid, &why);
            }
            Err(error) => return Err(error.into()),
            Ok(daemon) => daemon,
        };
        let Some(daemon) = daemon else {
            return detach(&mount.mountpoint, self.lazy || self.force);
        };
        let processes = DaemonProcesses::of(&daemon)?;
        if self.force {
            daemon.unmount(true)?;
            return kill(&processes, &mount.mountpoint);
        }
        if !self.lazy {
            refuse_elsewhere(mount)?;
        }
        daemon.unmount(self.lazy)?;
        if self.lazy {
            return Ok(());
        }
        wait(
            &processes,
            &mount.mountpoint,
            &mount.source,
            Some(mount.device),
        )
    }

    /// Without the daemon, which cannot be asked.
    fn end_unresponsive(&self, mount: &MountInfo, pid: Option<i32>, why: &str) -> Outcome {
        detach(&mount.mountpoint, true)?;
        if self.force {
            return kill(&DaemonProcesses::serving(pid), &mount.mountpoint);
        }
        log::warn!(
            "{} is detached, but its daemon does not answer and ends only when it goes on: {why}",
            mount.mountpoint.display()
        );
        Ok(())
    }

    /// The mount is not in this mount namespace any more.
    fn end_lingering(&self, daemon: &Client, status: &Status) -> Outcome {
        let processes = DaemonProcesses::of(daemon)?;
        if self.force {
            return kill(&processes, &status.mountpoint);
        }
        if self.lazy {
            if let Some(who) = mounts::elsewhere(&status.store, None) {
                log::warn!("{}", kept_by(who, &processes, &status.mountpoint));
            }
            return Ok(());
        }
        wait(&processes, &status.mountpoint, &status.store, None)
    }
}

/// Why there is nothing to be unmounted; `there` is what is mounted instead.
fn no_mount(mountpoint: &Path, there: Option<MountInfo>) -> Outcome<Failure> {
    let refuse = |why: String| {
        Failure::with_detail(
            "not-mounted",
            serde_json::json!({ "mountpoint": mountpoint.to_string_lossy() }),
            why,
        )
    };
    Ok(match there {
        Some(mount) => refuse(format!(
            "{} is not a mount of volfs: {} of type {} is mounted there; umount(8) unmounts it",
            mountpoint.display(),
            mount.source.display(),
            mount.fs_type
        )),
        None => refuse(match mounts::around(mountpoint)? {
            Some(mount) if mounts::is_volfs(&mount) => format!(
                "{} is not a mountpoint; it lies in the mount of volfs on {}",
                mountpoint.display(),
                mount.mountpoint.display()
            ),
            _ => format!("nothing is mounted on {}", mountpoint.display()),
        }),
    })
}

/// The daemon that serves exactly this mount; `None` for a stale mount, and
/// for a bind mount of a live one.
fn daemon_of(mount: &MountInfo) -> volfs::volume::Result<Option<Client>> {
    let daemon = open::daemon_of(&mount.source)?;
    Ok(daemon
        .filter(|(_, status)| status.mountpoint == mount.mountpoint)
        .map(|(daemon, _)| daemon))
}

/// A daemon whose mount was here: that of the store, or of a mount that another
/// mount namespace still has.
fn lingering(mountpoint: &Path, store: &Path) -> Option<(Client, Status)> {
    let mut stores = mounts::sources();
    stores.insert(0, store.to_owned());
    stores.iter().find_map(|store| {
        let daemon = Client::connect(store).ok().flatten()?;
        let status = daemon.status().ok()?;
        (status.mountpoint == mountpoint).then_some((daemon, status))
    })
}

/// A bind mount of the whole mount keeps the daemon running, unseen.
fn refuse_elsewhere(mount: &MountInfo) -> Outcome {
    let elsewhere = mounts::all()?
        .into_iter()
        .find(|other| other.device == mount.device && other.root == mount.root && other != mount);
    match elsewhere {
        None => Ok(()),
        Some(other) => Err(Failure::with_detail(
            "mount-busy",
            serde_json::json!({ "mountpoint": mount.mountpoint.to_string_lossy() }),
            format!(
                "{} is bind-mounted on {} as well; unmount that first, or use --lazy",
                mount.mountpoint.display(),
                other.mountpoint.display()
            ),
        )),
    }
}

/// Waits until the daemon of a mount that is gone here has ended.
fn wait(
    processes: &DaemonProcesses,
    mountpoint: &Path,
    store: &Path,
    device: Option<u64>,
) -> Outcome {
    let lingers = |why: String| {
        Failure::with_detail(
            "daemon-lingers",
            serde_json::json!({ "mountpoint": mountpoint.to_string_lossy() }),
            why,
        )
    };
    let start = Instant::now();
    let (mut told, mut halted_since) = (false, None);
    while processes.is_running() {
        if let Some(why) = processes.why_halted() {
            let since = *halted_since.get_or_insert_with(Instant::now);
            if since.elapsed() > COPY_TIMEOUT {
                return Err(lingers(format!(
                    "{} is unmounted, but its daemon does not end: {why}, or use --force",
                    mountpoint.display()
                )));
            }
        } else {
            halted_since = None;
        }
        if !told && start.elapsed() > WORD_AFTER {
            told = true;
            log::warn!(
                "{} is unmounted here; waiting for the daemon, {}",
                mountpoint.display(),
                processes.named()
            );
        }
        if start.elapsed() > COPY_TIMEOUT
            && let Some(who) = mounts::elsewhere(store, device)
        {
            return Err(lingers(kept_by(who, processes, mountpoint)));
        }
        if start.elapsed() > END_TIMEOUT {
            return Err(lingers(format!(
                "{} is unmounted, but its daemon has not ended within {} seconds; its log is daemon.log in the store, and --force ends it",
                mountpoint.display(),
                END_TIMEOUT.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What everybody is told of a mount that is unmounted here and served on for
/// another mount namespace.
pub fn kept_by(who: i32, processes: &DaemonProcesses, mountpoint: &Path) -> String {
    let mountpoint = mountpoint.display();
    format!(
        "{mountpoint} is unmounted here, but {} has a copy of it in a mount namespace of its own, and the daemon ({}) serves that until it is gone; end that process, or take the copy from it with 'volfs umount --force {mountpoint}'",
        mounts::named(who),
        processes.named()
    )
}

fn kill(processes: &DaemonProcesses, mountpoint: &Path) -> Outcome {
    if processes.end() {
        return Ok(());
    }
    Err(Failure::new(
        "not-killed",
        format!(
            "{} is detached, but the kernel does not end {}: it waits for a disk or for another file system; 'cat /proc/PID/stack' may show for which",
            mountpoint.display(),
            processes.named()
        ),
    ))
}

/// Unmounts without a daemon: a stale mount always lazily, since nothing in it
/// can be in use any more.
fn detach(mountpoint: &Path, lazy: bool) -> Outcome {
    let lazy = lazy || mounts::is_stale(mountpoint);
    unmount(mountpoint, lazy).map_err(|failure| {
        Failure::with_detail(
            match failure {
                UnmountFailure::Busy => "mount-busy",
                UnmountFailure::Other(_) => "unmount-failed",
            },
            serde_json::json!({ "mountpoint": mountpoint.to_string_lossy() }),
            format!("cannot unmount {}: {failure}", mountpoint.display()),
        )
    })
}
