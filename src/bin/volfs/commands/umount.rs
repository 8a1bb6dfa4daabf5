//! `volfs umount`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use volfs::control::Client;
use volfs::fuse::mount::{UnmountFailure, unmount};
use volfs::fuse::mountinfo::{self, MountInfo};
use volfs::sys::process::command_of;
use volfs::sys::procfs::Proc;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::mounts;
use crate::names;
use crate::open;

/// How long a daemon may take to end after its mount is gone.
const END_PATIENCE: Duration = Duration::from_secs(60);

/// After so long it is said who keeps it.
const ALONE: Duration = Duration::from_secs(1);

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
}

impl UmountArgs {
    /// Unmounts.
    pub fn run(self, context: &Context) -> Outcome {
        let mountpoint = mounts::resolve(&self.mountpoint)
            .map_err(|error| Failure::io("find the mountpoint", &self.mountpoint, &error))?;
        Context::leave_directory();
        let mount = find(&mountpoint)?;
        let store = &mount.source;
        match daemon_of(&mount)? {
            Some(daemon) => {
                if !self.lazy {
                    refuse_elsewhere(&mount)?;
                }
                end(&daemon, self.lazy, &mount)?;
            }
            None => detach(&mountpoint, self.lazy)?,
        }
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
}

fn find(mountpoint: &Path) -> Outcome<MountInfo> {
    let refuse = |why: String| {
        Failure::with_detail(
            "not-mounted",
            serde_json::json!({ "mountpoint": mountpoint.to_string_lossy() }),
            why,
        )
    };
    match mounts::on(mountpoint)? {
        Some(mount) if mounts::is_volfs(&mount) => Ok(mount),
        Some(mount) => Err(refuse(format!(
            "{} is not a mount of volfs: {} of type {} is mounted there; umount(8) unmounts it",
            mountpoint.display(),
            mount.source.display(),
            mount.fs_type
        ))),
        None => Err(refuse(match mounts::around(mountpoint)? {
            Some(mount) if mounts::is_volfs(&mount) => format!(
                "{} is not a mountpoint; it lies in the mount of volfs on {}",
                mountpoint.display(),
                mount.mountpoint.display()
            ),
            _ => format!("nothing is mounted on {}", mountpoint.display()),
        })),
    }
}

/// The daemon that serves exactly this mount; `None` for a stale mount, and
/// for a bind mount of a live one.
fn daemon_of(mount: &MountInfo) -> Outcome<Option<Client>> {
    let daemon = open::daemon_of(&mount.source)?;
    Ok(daemon
        .filter(|(_, status)| status.mountpoint == mount.mountpoint)
        .map(|(daemon, _)| daemon))
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

/// Asks the daemon, and waits until it has ended.
fn end(daemon: &Client, lazy: bool, mount: &MountInfo) -> Outcome {
    let mountpoint = mount.mountpoint.display();
    let serving = daemon.pid()?.map(Process::of);
    let supervisor = serving.as_ref().and_then(Process::supervisor);
    daemon.unmount(lazy)?;
    if lazy {
        return Ok(());
    }
    let start = Instant::now();
    let mut looks = true;
    while [&serving, &supervisor]
        .into_iter()
        .flatten()
        .any(Process::is_running)
    {
        if looks && start.elapsed() > ALONE {
            looks = false;
            if let Some(pid) = who_has(mount.device) {
                log::warn!(
                    "{mountpoint} is unmounted here; waiting for process {pid} ({}), which has the mount in a mount namespace of its own",
                    command_of(pid).unwrap_or_default().escape_debug()
                );
            }
        }
        if start.elapsed() > END_PATIENCE {
            return Err(Failure::new(
                "daemon-lingers",
                format!(
                    "{mountpoint} is unmounted, but its daemon has not ended within {} seconds; its log is daemon.log in the store",
                    END_PATIENCE.as_secs()
                ),
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The first process that sees a mount with this device number, in whatever mount
/// namespace.
fn who_has(device: u64) -> Option<i32> {
    let mut proc = Proc::open().ok()?;
    let processes = proc.processes();
    let mut seen = HashSet::new();
    let has = |pid: &i32| {
        let namespace = proc.mount_namespace(*pid);
        let file = PathBuf::from(format!("/proc/{pid}/mountinfo"));
        let is_new = namespace.is_some_and(|namespace| seen.insert(namespace));
        is_new
            && mountinfo::read(&file)
                .is_ok_and(|mounts| mounts.iter().any(|mount| mount.device == device))
    };
    processes.iter().map(|it| it.pid).find(has)
}

/// A process, told apart from a later one with the same id.
struct Process {
    directory: PathBuf,
    started: Option<String>,
}

impl Process {
    fn of(pid: i32) -> Self {
        let directory = PathBuf::from(format!("/proc/{pid}"));
        let started = state_and_start(&directory).map(|(_, started)| started);
        Self { directory, started }
    }

    /// Its parent, where that is its supervisor.
    fn supervisor(&self) -> Option<Self> {
        let text = std::fs::read_to_string(self.directory.join("stat")).ok()?;
        // Field 4 of `/proc/PID/stat`.
        let (_, rest) = text.rsplit_once(')')?;
        let parent = rest.split_whitespace().nth(1)?;
        let comm = std::fs::read_to_string(format!("/proc/{parent}/comm")).ok()?;
        (comm.trim_end() == volfs::keeper::supervisor::NAME)
            .then(|| parent.parse().map(Self::of).ok())
            .flatten()
    }

    /// Whether it still runs. A zombie has given up its locks and files when
    /// its last thread has ended.
    fn is_running(&self) -> bool {
        match state_and_start(&self.directory) {
            Some((_, started)) if Some(&started) != self.started.as_ref() => false,
            Some((state, _)) if state == "Z" || state == "X" => {
                std::fs::read_dir(self.directory.join("task"))
                    .is_ok_and(|threads| threads.count() > 1)
            }
            Some(_) => true,
            None => false,
        }
    }
}

/// Fields 3 and 22 of `/proc/PID/stat` (proc_pid_stat(5)); the command in
/// field 2 may hold anything but ends with the last parenthesis.
fn state_and_start(directory: &Path) -> Option<(String, String)> {
    let text = std::fs::read_to_string(directory.join("stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.to_owned();
    let started = fields.nth(18)?.to_owned();
    Some((state, started))
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
