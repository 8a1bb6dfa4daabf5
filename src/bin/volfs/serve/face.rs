//! What the daemon tells and does through its control socket.

use std::sync::{Arc, Weak};

use volfs::control::{Daemon, PROTOCOL, Status, UnmountRefused};
use volfs::fuse::{Mounted, UnmountError};
use volfs::model::Timestamp;
use volfs::volume::{Store, Volumes};

use crate::commands::mount::options::MountPlan;

/// The daemon as its control socket shows it.
pub struct Face {
    status: Status,
    mounted: Arc<Mounted>,
    /// Weak: the store is closed by whoever opened it.
    store: Weak<Store>,
}

impl Face {
    /// Of a mount that was just made.
    pub fn new(plan: &MountPlan, store: &Arc<Store>, mounted: &Arc<Mounted>) -> Self {
        Self {
            status: Status {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                protocol: PROTOCOL,
                store: plan.store.clone(),
                mountpoint: mounted.mountpoint().to_owned(),
                since: Timestamp::now(),
                options: plan.options_as_text(),
                features: Vec::new(),
            },
            mounted: Arc::clone(mounted),
            store: Arc::downgrade(store),
        }
    }
}

impl Daemon for Face {
    fn status(&self) -> Status {
        self.status.clone()
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
        let volumes = self
            .store
            .upgrade()
            .and_then(|store| store.list().ok())
            .map(|list| list.len());
        serde_json::json!({
            "since": self.status.since,
            "volumes": volumes,
        })
    }
}
