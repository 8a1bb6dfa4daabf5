//! `volfs mount`.

pub mod helper;
mod launch;
pub mod options;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use volfs::fuse::RmdirPolicy;
use volfs::model::{Bytes, Kind, Retention};

use self::options::{LogTo, MountPlan};
use crate::context::Context;
use crate::failure::Outcome;
use crate::logging::Who;
use crate::names;
use crate::output::Output;
use crate::serve;
use crate::serve::role::Role;

/// Arguments of `volfs mount`.
#[derive(Debug, Args)]
#[command(after_help = crate::help::MOUNT)]
pub struct MountArgs {
    /// An empty directory to mount on
    #[arg(value_name = "MNT", value_parser = names::path())]
    mountpoint: PathBuf,
    /// Stay in the foreground and log to stderr
    #[arg(short, long)]
    pub foreground: bool,
    /// Refuse every change
    #[arg(short, long)]
    read_only: bool,
    /// What rmdir does with a volume that holds something: refuse, or move it
    /// to the trash
    #[arg(long, value_enum, value_name = "empty|trash")]
    rmdir: Option<Rmdir>,
    /// Permission bits of the mount's root, octal; 1777 lets every user make
    /// volumes and remove their own [default: 755]
    #[arg(long, value_name = "OCTAL", value_parser = names::mode)]
    root_mode: Option<u32>,
    /// Byte limit of volumes that mkdir makes [default: none]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = names::size)]
    default_quota: Option<Bytes>,
    /// Inode limit of volumes that mkdir makes [default: none]
    #[arg(long, value_name = "N", value_parser = names::inodes)]
    default_quota_inodes: Option<u64>,
    /// The most volumes of each user but root, those in the trash included
    /// [default: no limit]
    #[arg(long, value_name = "N", value_parser = options::number)]
    user_volumes: Option<u64>,
    /// The most bytes in all volumes of a user together, those in the trash
    /// included [default: no limit]
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = names::size)]
    user_bytes: Option<Bytes>,
    /// The same for inodes [default: no limit]
    #[arg(long, value_name = "N", value_parser = options::number)]
    user_inodes: Option<u64>,
    /// Kind of volumes that mkdir makes [default: directory]
    #[arg(long, value_name = "directory|disk", value_parser = options::kind)]
    default_kind: Option<Kind>,
    /// Capacity of the disk volumes that mkdir makes
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_parser = names::size)]
    default_size: Option<Bytes>,
    /// How long removed volumes stay in the trash, like 30d, or 'none'
    /// [default: what 'volfs config trash.retention' says]
    #[arg(long, value_name = "AGE|none", value_parser = options::retention)]
    trash_retention: Option<Retention>,
    /// Let the kernel mount images that a guest has written; only if you trust
    /// all guests like the kernel itself
    #[arg(long)]
    trust_guest_images: bool,
    /// Send all data through the daemon, also where the kernel could pass it on
    #[arg(long)]
    no_passthrough: bool,
    /// Tell when files were made (stat %w); programs written in Rust or for node
    /// ask for that with each file, which makes them slower
    #[arg(long)]
    birth_time: bool,
    /// Keep processors from sleeping while many requests come, and for 2 ms
    /// after: in a virtual machine a request may take half as long, at the
    /// price of processors that poll
    #[arg(long)]
    low_latency: bool,
    /// Serve in one process: when it dies, so does the mount
    #[arg(long)]
    no_supervisor: bool,
    /// Threads that serve requests
    #[arg(long, value_name = "N", value_parser = options::threads)]
    threads: Option<usize>,
    /// Where the daemon in the background logs to: daemon.log in the store, or
    /// systemd's journal [default: file]
    #[arg(long, value_name = "file|journal", value_parser = options::log_to)]
    log: Option<LogTo>,
    /// Options as mount(8) takes them: ro, suid, dev, noexec, noatime,
    /// allow_other, rmdir=…, root_mode=…, …
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rmdir {
    Empty,
    Trash,
}

impl MountArgs {
    /// Mounts, in the background unless asked otherwise.
    pub fn run(self, context: &Context, argv: &[OsString], role: Role) -> Outcome {
        let foreground = self.foreground;
        let plan = self.plan(context)?;
        run(&plan, foreground, argv, role, context.output)
    }

    /// How this process logs: a daemon in the background when somebody waits
    /// for its word.
    pub fn logs_as(&self, role: &Role) -> Who {
        let log = self
            .log
            .unwrap_or_else(|| options::log_to_in(&self.options));
        match (self.foreground, role.is_daemon()) {
            // Also where it has a supervisor, which then is in the foreground.
            (true, _) => Who::Foreground,
            (false, true) => Who::Background {
                journal: log == LogTo::Journal,
            },
            (false, false) => Who::Command,
        }
    }

    fn plan(self, context: &Context) -> Outcome<MountPlan> {
        let mut plan = MountPlan::new(&context.store, &self.mountpoint)?;
        for list in &self.options {
            plan.apply(list, false)?;
        }
        let options = &mut plan.options;
        options.read_only |= self.read_only;
        options.passthrough &= !self.no_passthrough;
        options.birth_time |= self.birth_time;
        options.low_latency |= self.low_latency;
        match self.rmdir {
            Some(Rmdir::Empty) => options.rmdir = RmdirPolicy::Empty,
            Some(Rmdir::Trash) => options.rmdir = RmdirPolicy::Trash,
            None => {}
        }
        if let Some(mode) = self.root_mode {
            options.root_mode = mode;
        }
        let limits = &mut options.default_limits;
        limits.bytes = self.default_quota.or(limits.bytes);
        limits.inodes = self.default_quota_inodes.or(limits.inodes);
        let users = &mut options.user_limits;
        users.volumes = self.user_volumes.or(users.volumes);
        users.bytes = self.user_bytes.or(users.bytes);
        users.inodes = self.user_inodes.or(users.inodes);
        options.threads = self.threads.or(options.threads);
        options.default_kind = self.default_kind.unwrap_or(options.default_kind);
        options.default_size = self.default_size.or(options.default_size);
        options.trash_retention = self.trash_retention.or(options.trash_retention);
        options.trust_guest_images |= self.trust_guest_images;
        plan.log = self.log.unwrap_or(plan.log);
        plan.supervised &= !self.no_supervisor;
        plan.check()?;
        Ok(plan)
    }
}

/// Mounts by the plan: here, if this process was started for that, or by
/// starting the process in the background.
fn run(
    plan: &MountPlan,
    foreground: bool,
    argv: &[OsString],
    role: Role,
    output: Output,
) -> Outcome {
    let Role { ready, inherited } = role;
    let supervise = plan.supervised && inherited.is_none();
    match ready {
        Some(_) if supervise => serve::supervise(plan, argv, true),
        Some(ready) => serve::in_background(plan, ready, inherited),
        None if foreground && supervise => serve::supervise(plan, argv, false),
        None if foreground || inherited.is_some() => serve::in_foreground(plan, output, inherited),
        None => launch::launch(plan, argv).map(|mounted| mounted.tell(output))?,
    }
}
