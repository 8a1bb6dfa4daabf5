//! Who uses a volume, and how: what is said of them, not how they are found.

use serde::{Deserialize, Serialize};

use crate::model::Plain;

/// A process that uses a volume, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id in the daemon's pid namespace; absent when only the
    /// kernel's reference is known (an open file whose owner cannot be seen),
    /// and for mounts in the host's mount namespace, which are nobody's.
    pub pid: Option<i32>,
    /// Its command name (`/proc/PID/comm`).
    pub command: Option<String>,
    /// How it uses the volume.
    pub how: Hold,
    /// Where it is mounted, as the process's mount namespace has it; for
    /// mounts only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mountpoint: Option<String>,
    /// The type of the file system that is mounted; for a mount inside only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_type: Option<String>,
    /// The name that a mount is known by, where that is all that is known of
    /// it and volumes have been renamed: it may be of another volume that has
    /// or had this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_name: Option<String>,
    /// The number of the mount namespace (as `lsns` shows it) that a mount is in;
    /// only where no process is in that, but something keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<u64>,
    /// What the process runs in; absent when it is in no control group of its
    /// own, or cannot be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Within>,
}

/// What a process runs in, by its control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Within {
    /// A container.
    Container {
        /// Who has made it, as its control group says: `podman`, `docker`.
        engine: String,
        /// Its id or name.
        id: String,
    },
    /// A unit of systemd.
    Unit(String),
    /// Any other control group, by its path.
    Cgroup(String),
}

/// How a process uses a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hold {
    /// A file or directory is open.
    OpenFile,
    /// A file is mapped into its memory.
    Mapping,
    /// Its working directory is inside.
    WorkingDirectory,
    /// Its root directory is inside.
    RootDirectory,
    /// A command is at work on all that it holds: it checks, grows, reads or
    /// removes it.
    Command,
    /// A program has its files without a mount
    /// ([`Volumes::files`](super::Volumes::files)).
    Library,
    /// A directory of the volume is bind-mounted in its mount namespace.
    BindMount,
    /// A directory of the volume is a layer of an overlay in its mount
    /// namespace.
    Overlay,
    /// Something is mounted on a directory of the volume.
    MountInside,
}

impl Holder {
    /// Somebody who cannot be seen.
    #[must_use]
    pub const fn unseen(how: Hold) -> Self {
        Self {
            pid: None,
            command: None,
            how,
            mountpoint: None,
            fs_type: None,
            by_name: None,
            namespace: None,
            within: None,
        }
    }
}

impl std::fmt::Display for Within {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // 64 hexadecimal digits are shown as the engines show them.
            Self::Container { engine, id } if id.len() == 64 && id.is_ascii() => {
                write!(f, "{} container {}", Plain(engine), Plain(&id[..12]))
            }
            Self::Container { engine, id } => {
                write!(f, "{} container {}", Plain(engine), Plain(id))
            }
            Self::Unit(unit) => write!(f, "unit {}", Plain(unit)),
            Self::Cgroup(path) => write!(f, "control group {}", Plain(path)),
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = match self.how {
            Hold::OpenFile => "an open file",
            Hold::Mapping => "a mapped file",
            Hold::WorkingDirectory => "its working directory",
            Hold::RootDirectory => "its root directory",
            Hold::Command => "a command that works on it",
            Hold::Library => "files that it uses without a mount",
            Hold::BindMount => "a bind mount",
            Hold::Overlay => "an overlay mount",
            Hold::MountInside => "a mount inside it",
        };
        match (self.pid, &self.command) {
            (Some(pid), Some(command)) => {
                write!(f, "process {pid} ({})", Plain(command))?;
            }
            (Some(pid), None) => write!(f, "process {pid}")?,
            (None, _) if self.namespace.is_some() => {
                let number = self.namespace.unwrap_or_default();
                write!(f, "mount namespace {number}, which no process is in")?;
            }
            (None, _)
                if matches!(
                    self.how,
                    Hold::BindMount | Hold::Overlay | Hold::MountInside
                ) =>
            {
                f.write_str("the host's mount namespace")?;
            }
            (None, _) => f.write_str("a process that cannot be seen from here")?,
        }
        if let Some(within) = &self.within {
            write!(f, " in {within}")?;
        }
        write!(f, ", by {how}")?;
        if let Some(mountpoint) = &self.mountpoint {
            write!(f, " on {}", Plain(mountpoint))?;
        }
        if let Some(fs_type) = &self.fs_type {
            write!(f, " ({})", Plain(fs_type))?;
        }
        if let Some(name) = &self.by_name {
            write!(
                f,
                " (by the name {}; volumes have been renamed, and it may be of any that had it)",
                Plain(name)
            )?;
        }
        Ok(())
    }
}

/// What is to be done so that they hold the volume no longer, where that is not
/// plain.
pub(super) fn advice(holders: &[Holder]) -> &'static str {
    let hold = |how| holders.iter().any(|holder| holder.how == how);
    if hold(Hold::Library) {
        "; have it close them (drop its VolumeFs, readers and writers) first"
    } else if hold(Hold::Command) {
        "; try again when that has ended"
    } else if hold(Hold::MountInside) {
        "; unmount what is mounted inside first"
    } else {
        ""
    }
}

pub(super) fn holders_text(holders: &[Holder]) -> String {
    let mut text: Vec<String> = holders.iter().take(3).map(ToString::to_string).collect();
    if holders.len() > 3 {
        text.push(format!("{} more", holders.len() - 3));
    }
    text.join("; ")
}
