//! A mount from its start to its end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fuser::SessionACL;
use parking_lot::Mutex;

use super::adapter::{Adapter, DeviceFiles, KernelNotifier};
use super::fs::FileSystem;
use super::handshake::Negotiated;
use super::housekeeping::{self, Housekeeping};
use super::init::Offer;
use super::live::{Live, Past, Terms};
use super::node::{HostIno, NodeId};
use super::observer::MountObserver;
use super::options::MountOptions;
use super::successor::Inherited;
use super::{handshake, holders, host, mount, mountinfo, root};
use crate::model::{Bytes, Slot};
use crate::sys::{cpu_latency, process};
use crate::volume::{Holder, Store, Volumes};

/// Why a mount did not come about.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The mountpoint cannot be used.
    #[error("cannot mount on {path:?}: {why}")]
    Mountpoint {
        /// The mountpoint.
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// `/dev/fuse` cannot be used.
    #[error("cannot use /dev/fuse: {why}")]
    Device {
        /// What is wrong and what to do.
        why: String,
    },
    /// Processors cannot be kept awake, which was asked for.
    #[error("cannot keep processors awake: {device}: {why}; mount as root, in a container with --device {device}, or without low_latency", device = cpu_latency::DEVICE)]
    LowLatency {
        /// What the system said.
        why: String,
    },
    /// Nobody could make a file longer than this process may.
    #[error(
        "files in the mount could not be longer than {limit}, as this process may make none that is (ulimit -f), and may not raise that; raise the hard limit where volfs is started, or let it have CAP_SYS_RESOURCE"
    )]
    FileSize {
        /// The limit.
        limit: Bytes,
    },
    /// The kernel or fusermount3 refused.
    #[error("cannot mount on {path:?}: {why}")]
    Refused {
        /// The mountpoint.
        path: PathBuf,
        /// What the system said and what to do.
        why: String,
    },
    /// What the process before has left cannot be taken over.
    #[error("cannot take over from the process that served before: {why}")]
    Inherited {
        /// What is wrong.
        why: String,
    },
    /// The store's file system lacks what the mount needs.
    #[error("cannot serve the store {path:?}: {why}")]
    Store {
        /// The store's directory.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
}

/// Why an unmount did not come about.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// Somebody uses the mount.
    #[error("{mountpoint:?} is in use by {}", .holders.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Busy {
        /// The mountpoint.
        mountpoint: PathBuf,
        /// Who uses it.
        holders: Vec<Holder>,
    },
    /// The system refused.
    #[error("cannot unmount {mountpoint:?}: {why}")]
    Refused {
        /// The mountpoint.
        mountpoint: PathBuf,
        /// What the system said.
        why: String,
    },
}

/// A mounted file system that is being served by threads of this process.
pub struct Mounted {
    mountpoint: PathBuf,
    fs: Arc<FileSystem>,
    server: Mutex<Option<(JoinHandle<io::Result<()>>, Housekeeping)>>,
}

impl std::fmt::Debug for Mounted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mounted({:?})", self.mountpoint)
    }
}

impl Mounted {
    /// Mounts `store` on `mountpoint` and serves it. When this returns the
    /// mount is ready to use. A stale mount of a killed daemon on the same
    /// mountpoint is cleaned first.
    ///
    /// # Errors
    /// [`MountError`]; nothing is mounted then.
    pub fn start(
        store: Arc<Store>,
        mountpoint: &Path,
        options: &MountOptions,
        inherited: Option<Inherited>,
    ) -> Result<Self, MountError> {
        let (live, past) = Live::new(inherited).map_err(|error| MountError::Inherited {
            why: error.to_string(),
        })?;
        let mountpoint = match &past {
            Some(_) => mountpoint.to_owned(),
            None => mount::prepare_mountpoint(mountpoint)?,
        };
        if let Some(limit) = process::lift_file_size_limit() {
            let limit = Bytes(limit);
            if past.is_none() {
                return Err(MountError::FileSize { limit });
            }
            log::error!("no file can be made longer than {limit}, by a limit of this process");
        }
        let limit = process::raise_descriptor_limit();
        log::debug!("at most {limit} descriptors");
        let source = store.dir().to_owned();
        let fs = FileSystem::with_live(store, options.clone(), Arc::new(live)).map_err(
            |(path, errno)| MountError::Store {
                path,
                why: errno.desc().to_owned(),
            },
        )?;
        let fs = Arc::new(fs);
        // Before anything in it changes.
        fs.store()
            .limit_users(options.user_limits)
            .map_err(|error| MountError::Store {
                path: source.clone(),
                why: error.to_string(),
            })?;
        if options.low_latency
            && let Err(error) = fs.stay_awake()
        {
            if past.is_none() {
                return Err(MountError::LowLatency {
                    why: error.to_string(),
                });
            }
            // Slower is better than not at all.
            log::error!("processors are not kept awake any more: {error}");
        }
        if let Some(past) = past {
            return Self::serve_on(&fs, past, &mountpoint, options);
        }
        check_device_numbers(&source)?;
        check_inode_numbers(&source.join("volumes"))?;
        let device = mount::mount(&source, &mountpoint, options)?;
        // From here on whoever uses the mountpoint waits for us: what fails
        // must take the mount away again.
        Self::serve(&fs, device, &mountpoint, options, None).map_err(|error| {
            if let Err(why) = mount::unmount(&mountpoint, true) {
                log::error!("cannot unmount {mountpoint:?}: {why}");
            }
            MountError::Refused {
                path: mountpoint.clone(),
                why: error.to_string(),
            }
        })
    }

    /// Serves on, after another process.
    fn serve_on(
        fs: &Arc<FileSystem>,
        past: Past,
        mountpoint: &Path,
        options: &MountOptions,
    ) -> Result<Self, MountError> {
        let inherited = |error: io::Error| MountError::Inherited {
            why: error.to_string(),
        };
        let files = past.device().try_clone().map_err(inherited)?;
        fs.kernel.set_files(Arc::new(DeviceFiles::new(files)));
        let (device, terms) = past.restore(fs).map_err(inherited)?;
        Self::serve(fs, device, mountpoint, options, Some(terms)).map_err(inherited)
    }

    fn serve(
        fs: &Arc<FileSystem>,
        device: OwnedFd,
        mountpoint: &Path,
        options: &MountOptions,
        before: Option<Terms>,
    ) -> io::Result<Self> {
        let acl = if options.allow_other {
            SessionACL::All
        } else {
            SessionACL::Owner
        };
        let mut config = fuser::Config::default();
        config.acl = acl;
        config.n_threads = Some(fs.readers.threads());
        fs.kernel
            .set_files(Arc::new(DeviceFiles::new(device.try_clone()?)));
        housekeeping::hold_uncounted(fs);
        // The kernel's first request is answered below.
        let (session, negotiated) = {
            let negotiated = before.as_ref().map(|before| &before.negotiated);
            let offer = Offer {
                passthrough: options.passthrough && fs.store_ground().passes_through(),
                // An earlier version that has begun the mount has not offered it.
                by_id: fs.finds_by_id() && negotiated.is_none_or(Negotiated::by_id),
            };
            handshake::begin(
                Adapter::new(Arc::clone(fs), offer),
                &device,
                acl,
                config,
                negotiated,
            )?
        };
        fs.kernel.connect(Arc::new(KernelNotifier::new(
            session.notifier(),
            device.try_clone()?,
        )));
        fs.store().observe(Arc::new(MountObserver::new(fs)));
        let mounted = mountinfo::mounted_on(mountpoint);
        if let Some(mounted) = &mounted {
            fs.mounted_as(mounted.device);
            fs.kernel.announce_on(mountpoint, mounted.device);
            mount::read_ahead_far(mounted.device);
        }
        fs.live.serves(
            &device,
            &negotiated,
            fs,
            mountpoint,
            before.as_ref().map(|before| before.state_place),
        )?;
        if before.is_some() {
            handshake::resend(&device)?;
        }
        let server = std::thread::Builder::new()
            .name("volfs-session".into())
            .spawn(move || session.run())?;
        let housekeeping = Housekeeping::start(fs)?;
        if before.is_some() {
            // What the process before has changed, and not told the kernel of.
            root::ask_again(fs);
            if let Some(mounted) = &mounted {
                mount::restrict(mounted, options);
            }
        }
        Ok(Self {
            mountpoint: mountpoint.to_owned(),
            fs: Arc::clone(fs),
            server: Mutex::new(Some((server, housekeeping))),
        })
    }

    /// The mountpoint, canonical.
    #[must_use]
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Whether it is still mounted on its mountpoint, in this mount namespace.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        mountinfo::mounted_on(&self.mountpoint)
            .is_some_and(|mount| Some(mount.device) == self.fs.device())
    }

    /// The file system that is served.
    #[must_use]
    pub fn file_system(&self) -> &Arc<FileSystem> {
        &self.fs
    }

    /// The volumes, for commands: a change has reached the mount when the
    /// call that made it returns.
    #[must_use]
    pub fn volumes(&self) -> Arc<dyn Volumes> {
        Arc::new(super::mounted_volumes::MountedVolumes::new(
            Arc::clone(&self.fs),
            self.mountpoint.clone(),
        ))
    }

    /// All counters of the mount, as in `.volfs/stats.json`.
    #[must_use]
    pub fn stats(&self) -> serde_json::Value {
        self.fs.stats_json()
    }

    /// Whether another process goes on when this one ends.
    #[must_use]
    pub fn has_successor(&self) -> bool {
        self.fs.live.has_successor()
    }

    /// How many upgrades the supervisor has refused since the last that was made,
    /// and why the last of them.
    #[must_use]
    pub fn no_upgrade(&self) -> Option<(u64, String)> {
        self.fs.live.no_upgrade()
    }

    /// Finishes what is under way and begins nothing more, for a successor that
    /// comes when this process has ended; which must be now.
    pub fn hand_over(&self) {
        self.fs.live.drain();
    }

    /// Unmounts; `lazy` detaches at once and lets who uses it finish.
    ///
    /// # Errors
    /// [`UnmountError::Busy`] when somebody uses it and `lazy` is not set.
    pub fn unmount(&self, lazy: bool) -> Result<(), UnmountError> {
        if !lazy {
            let holders = holders::bind_mounts(&self.fs);
            if !holders.is_empty() {
                return Err(UnmountError::Busy {
                    mountpoint: self.mountpoint.clone(),
                    holders,
                });
            }
        }
        let deadline = Instant::now() + BUSY_GRACE;
        loop {
            let holders = match mount::unmount(&self.mountpoint, lazy) {
                Ok(()) => return Ok(()),
                Err(mount::UnmountFailure::Busy) => holders::of_mount(&self.fs),
                Err(mount::UnmountFailure::Other(why)) => {
                    return Err(UnmountError::Refused {
                        mountpoint: self.mountpoint.clone(),
                        why,
                    });
                }
            };
            if !holders.is_empty() || Instant::now() > deadline {
                return Err(UnmountError::Busy {
                    mountpoint: self.mountpoint.clone(),
                    holders,
                });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the file system is unmounted, by whomever, and all threads
    /// have ended; usage is saved then, and exact.
    ///
    /// # Errors
    /// The first error of a serving thread.
    pub fn wait(&self) -> io::Result<()> {
        let Some((server, housekeeping)) = self.server.lock().take() else {
            return Ok(());
        };
        let result = server
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("a serving thread panicked")));
        drop(housekeeping);
        // The kernel drops closes that it has not sent when it unmounts.
        self.fs.release_all();
        self.fs.disks.detach_all();
        if !self.fs.store().is_read_only()
            && let Err(error) = self.fs.store().settle()
        {
            log::error!("cannot save the usage of volumes, they will be counted: {error}");
        }
        result
    }
}

/// Refuses a store on a file system that would make two files one. Where that
/// cannot be found out, for lack of space or rights, it is not.
fn check_device_numbers(store: &Path) -> Result<(), MountError> {
    match host::has_one_device(&store.join("tmp")) {
        Ok(false) => Err(MountError::Store {
            path: store.to_owned(),
            why: "its files have other device numbers than its directories, as on an overlay with \
                  layers on several file systems: choose a store on one file system, for instance a \
                  volume of the container"
                .into(),
        }),
        Ok(true) | Err(_) => Ok(()),
    }
}

/// Inode numbers of the store that no node can have would make every use of a
/// volume fail, after a mount that succeeded.
fn check_inode_numbers(store: &Path) -> Result<(), MountError> {
    why_unfit_numbers(store).map_or(Ok(()), |why| {
        Err(MountError::Store {
            path: store.to_owned(),
            why,
        })
    })
}

/// Why no volume can be used on the file system that `dir` is on: its inode
/// numbers are too large to be told apart over volumes. `None` where they are
/// not, as far as `dir` tells.
#[must_use]
pub fn why_unfit_numbers(dir: &Path) -> Option<String> {
    let found = dir.metadata().ok()?;
    NodeId::new(Slot::FIRST, HostIno(found.ino()))
        .is_none()
        .then(|| {
            "the inode numbers of its file system have more than 40 bits, as in a volume of volfs \
             itself: choose a store on a local file system, outside of every volume"
                .to_owned()
        })
}

/// How long a mount may be busy without anybody to be seen: a path walk of a
/// process that looks at all mounts holds it for a moment.
const BUSY_GRACE: Duration = Duration::from_secs(1);
