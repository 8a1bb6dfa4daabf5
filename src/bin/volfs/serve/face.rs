//! What the daemon tells and does through its control socket.

use std::sync::Arc;

use volfs::control::{Daemon, Feature, NoUpgrade, PROTOCOL, Status, UnmountRefused};
use volfs::fuse::{Mounted, UnmountError};
use volfs::model::Timestamp;
use volfs::sys::creds::{self, Capability};

use crate::commands::mount::options::MountPlan;

/// The daemon as its control socket shows it.
pub struct Face {
    /// All but the features, some of which the kernel turns off later.
    status: Status,
    passthrough_wanted: bool,
    mounted: Arc<Mounted>,
}

impl Face {
    /// Of a mount that was just made.
    pub fn new(plan: &MountPlan, mounted: &Arc<Mounted>, pid: u32) -> Self {
        Self {
            status: Status {
                pid,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                protocol: PROTOCOL,
                store: plan.store.clone(),
                mountpoint: mounted.mountpoint().to_owned(),
                since: Timestamp::now(),
                options: plan.options_as_text(),
                features: Vec::new(),
                no_upgrade: None,
            },
            passthrough_wanted: plan.options.passthrough,
            mounted: Arc::clone(mounted),
        }
    }

    fn features(&self) -> Vec<Feature> {
        let feature = |name: &str, on: bool, yes: &str, no: &str| Feature {
            name: name.to_owned(),
            on,
            why: if on { yes } else { no }.to_owned(),
        };
        let by_store = self.mounted.file_system().why_not_passed_through();
        let no_passthrough = if !self.passthrough_wanted {
            "a mount option turned it off"
        } else if let Some(why) = by_store {
            why
        } else if creds::has(Capability::SysAdmin) {
            "the kernel does not offer it, or cannot do it on the store's file system"
        } else {
            "the daemon lacks CAP_SYS_ADMIN"
        };
        vec![
            feature(
                "passthrough",
                self.mounted.stats()["passthrough"] == true,
                "the kernel reads and writes files of volumes without a limit by itself",
                no_passthrough,
            ),
            feature(
                "file handles",
                self.mounted.file_system().host().has_handles(),
                "no descriptor is kept per file",
                "the store's file system has none, or the daemon lacks CAP_DAC_READ_SEARCH",
            ),
            feature(
                "outlives its process",
                self.mounted.has_successor(),
                "when the process that serves the mount dies, another goes on",
                "there is no supervisor, or no other process could go on; 'volfs doctor' says why",
            ),
            feature(
                "acting for callers",
                creds::can_switch(),
                "every operation is done with its caller's ids",
                "the daemon lacks CAP_SETUID and CAP_SETGID, so that all files are its own user's",
            ),
            self.disk_volumes(),
        ]
    }

    fn disk_volumes(&self) -> Feature {
        let ways = self.mounted.file_system().image_ways();
        let (on, why) = match (ways.why_not_kernel(), ways.why_none()) {
            (None, _) => (true, "the kernel mounts their images".to_owned()),
            (Some(why), None) => (true, format!("fuse2fs serves their files: {why}")),
            (Some(_), Some(why)) => (false, format!("their files are read-only: {why}")),
        };
        Feature {
            name: "disk volumes".to_owned(),
            on,
            why,
        }
    }
}

impl Daemon for Face {
    fn status(&self) -> Status {
        Status {
            features: self.features(),
            no_upgrade: self
                .mounted
                .no_upgrade()
                .map(|(count, why)| NoUpgrade { count, why }),
            ..self.status.clone()
        }
    }

    fn unmount(&self, lazy: bool) -> Result<(), UnmountRefused> {
        log::info!("asked to unmount{}", if lazy { " lazily" } else { "" });
        self.mounted.unmount(lazy).map_err(|error| match error {
            UnmountError::Busy {
                mountpoint,
                holders,
            } => UnmountRefused::MountBusy {
                mountpoint,
                holders,
            },
            UnmountError::Refused { mountpoint, why } => {
                UnmountRefused::UnmountFailed { mountpoint, why }
            }
        })
    }

    fn stats(&self) -> serde_json::Value {
        self.mounted.stats()
    }
}
