//! What can be chosen of a mount.

use crate::model::{Bytes, Kind, Limits, Retention, UserLimits};

/// What `rmdir` of a volume does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RmdirPolicy {
    /// Remove an empty volume; a full one is ENOTEMPTY.
    #[default]
    Empty,
    /// Remove an empty volume; move a full one to the trash.
    Trash,
}

/// How a store is mounted.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Refuse every change (EROFS).
    pub read_only: bool,
    /// What `rmdir` of a volume does.
    pub rmdir: RmdirPolicy,
    /// Permission bits of the root directory.
    pub root_mode: u32,
    /// Limits of volumes that `mkdir` makes.
    pub default_limits: Limits,
    /// What all volumes of each user may take together.
    pub user_limits: UserLimits,
    /// Allow device nodes to work (`dev`); the default is `nodev`.
    pub dev: bool,
    /// Honour set-user-id and set-group-id bits and file capabilities when programs
    /// are executed (`suid`); the default is `nosuid`, as volumes hold what guests
    /// have written, root in a sandbox among them.
    pub suid: bool,
    /// Allow programs to be executed.
    pub exec: bool,
    /// Do not update access times.
    pub noatime: bool,
    /// Let other users in; always so when root mounts.
    pub allow_other: bool,
    /// Use kernel passthrough where possible.
    pub passthrough: bool,
    /// Tell when files were made; programs that ask for it cost a request more for each
    /// file, also where they do not look at it.
    pub birth_time: bool,
    /// Keep processors awake while many requests come; takes root.
    pub low_latency: bool,
    /// Kind of the volumes that `mkdir` makes.
    pub default_kind: Kind,
    /// Capacity of the disk volumes that `mkdir` makes.
    pub default_size: Option<Bytes>,
    /// Let the kernel mount images that guests have written.
    pub trust_guest_images: bool,
    /// How long removed volumes stay in the trash while this mount lasts;
    /// `None` is what is set for the store.
    pub trash_retention: Option<Retention>,
    /// Threads that serve requests; `None` is the measured default.
    pub threads: Option<usize>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            rmdir: RmdirPolicy::Empty,
            root_mode: 0o755,
            default_limits: Limits::default(),
            user_limits: UserLimits::default(),
            dev: false,
            suid: false,
            exec: true,
            noatime: false,
            allow_other: nix::unistd::geteuid().is_root(),
            passthrough: true,
            birth_time: false,
            low_latency: false,
            default_kind: Kind::Directory,
            default_size: None,
            trust_guest_images: false,
            trash_retention: None,
            threads: None,
        }
    }
}
