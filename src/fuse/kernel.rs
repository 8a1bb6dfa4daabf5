//! Telling the kernel that something changed behind its back.
//!
//! Entries are invalidated by a thread of their own: the kernel takes the
//! directory's lock for it, which a request that waits for us may hold. The same
//! thread announces changes of the root.

use std::ffi::OsString;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use nix::errno::Errno;
use parking_lot::Mutex;

use super::announce::{Announcer, RootChange};
use super::node::NodeId;
use super::passthrough::{Backing, BackingFiles};
use crate::model::VolumeName;

/// What a transport can tell the kernel.
pub trait Notify: Send + Sync + 'static {
    /// What `name` in `parent` leads to has changed.
    fn entry_changed(&self, parent: NodeId, name: &OsString);
    /// The attributes of `node` have changed.
    fn attr_changed(&self, node: NodeId);
    /// What the kernel knows of `name` in `parent` must be asked for again.
    fn entry_expired(&self, parent: NodeId, name: &OsString);
    /// The contents of `node` have changed.
    fn data_changed(&self, node: NodeId);
}

enum Message {
    Entry(NodeId, OsString),
    Expired(NodeId, OsString),
    Attr(NodeId),
    Listing(NodeId),
    /// What has changed in the root, and what is mounted in the volume stays.
    Root(RootChange, bool),
    /// Answered when all before it have been told.
    Barrier(Sender<()>),
}

/// The kernel, once there is a transport to it.
#[derive(Default)]
pub struct Kernel {
    notify: OnceLock<std::sync::Arc<dyn Notify>>,
    queue: OnceLock<Mutex<Sender<Message>>>,
    passthrough: AtomicBool,
    files: OnceLock<std::sync::Arc<dyn BackingFiles>>,
    announcer: std::sync::Arc<OnceLock<Announcer>>,
}

impl Kernel {
    /// Tells the kernel through `notify` from now on.
    pub fn connect(&self, notify: std::sync::Arc<dyn Notify>) {
        let (sender, receiver) = mpsc::channel();
        if self.notify.set(std::sync::Arc::clone(&notify)).is_err() {
            return;
        }
        let _ = self.queue.set(Mutex::new(sender));
        let announcer = std::sync::Arc::clone(&self.announcer);
        let run = move || {
            for message in receiver {
                match message {
                    Message::Root(change, stays) => {
                        root_changed(&*notify, announcer.get(), &change, stays);
                    }
                    Message::Listing(dir) => notify.data_changed(dir),
                    Message::Entry(parent, name) => notify.entry_changed(parent, &name),
                    Message::Expired(parent, name) => notify.entry_expired(parent, &name),
                    Message::Attr(node) => notify.attr_changed(node),
                    Message::Barrier(done) => drop(done.send(())),
                }
            }
        };
        if let Err(error) = std::thread::Builder::new()
            .name("volfs-notify".into())
            .spawn(run)
        {
            log::error!("changes made by commands show late in the mount: {error}");
        }
    }

    /// Announces changes of the root on the mount at `mountpoint` from now on.
    pub fn announce_on(&self, mountpoint: &std::path::Path, device: u64) {
        if let Some(announcer) = Announcer::new(mountpoint, device) {
            let _ = self.announcer.set(announcer);
        }
    }

    /// What the process `pid` announces, if it does.
    #[must_use]
    pub fn announced_by(&self, pid: u32) -> Option<RootChange> {
        self.announcer.get()?.by(pid)
    }

    /// A command has changed the root. What is mounted in the volume stays with
    /// `mounts_stay`. Returns at once.
    pub fn root_changed(&self, change: RootChange, mounts_stay: bool) {
        if let Some(queue) = self.queue.get() {
            let _ = queue.lock().send(Message::Root(change, mounts_stay));
        }
    }

    /// The kernel is to list `dir` again. Returns at once.
    pub fn listing_changed(&self, dir: NodeId) {
        if let Some(queue) = self.queue.get() {
            let _ = queue.lock().send(Message::Listing(dir));
        }
    }

    /// Where host files that the kernel has been given are closed.
    pub fn set_files(&self, files: std::sync::Arc<dyn BackingFiles>) {
        let _ = self.files.set(files);
    }

    /// The host file that the kernel has under `id`; `None` without a
    /// transport.
    #[must_use]
    pub fn backing(&self, id: u32) -> Option<Backing> {
        Some(Backing::new(id, std::sync::Arc::clone(self.files.get()?)))
    }

    /// The kernel has agreed to read and write host files by itself.
    pub fn offer_passthrough(&self) {
        self.passthrough.store(true, Ordering::Relaxed);
    }

    /// The kernel has refused to take a host file; says whether that is news.
    pub fn refuse_passthrough(&self) -> bool {
        self.passthrough.swap(false, Ordering::Relaxed)
    }

    /// Whether the kernel reads and writes host files by itself.
    #[must_use]
    pub fn passes_through(&self) -> bool {
        self.passthrough.load(Ordering::Relaxed)
    }

    /// What `name` in `parent` leads to has changed. Returns at once.
    pub fn entry_changed(&self, parent: NodeId, name: &str) {
        if let Some(queue) = self.queue.get() {
            let _ = queue.lock().send(Message::Entry(parent, name.into()));
        }
    }

    /// What the kernel knows of `name` in `parent` must be asked for again; what
    /// is mounted there stays. Returns at once.
    pub fn entry_expired(&self, parent: NodeId, name: &std::ffi::OsStr) {
        if let Some(queue) = self.queue.get() {
            let _ = queue.lock().send(Message::Expired(parent, name.into()));
        }
    }

    /// The attributes of `node` have changed.
    pub fn attr_changed(&self, node: NodeId) {
        if let Some(notify) = self.notify.get() {
            notify.attr_changed(node);
        }
    }

    /// The attributes of `node` have changed. Returns at once: for callers
    /// that a request on the node itself may be waiting for.
    pub fn attr_changed_later(&self, node: NodeId) {
        if let Some(queue) = self.queue.get() {
            let _ = queue.lock().send(Message::Attr(node));
        }
    }

    /// The contents of `node` have changed.
    pub fn data_changed(&self, node: NodeId) {
        if let Some(notify) = self.notify.get() {
            notify.data_changed(node);
        }
    }

    /// Waits until the kernel knows of all changes so far, but not for ever:
    /// it may be waiting for us.
    pub fn settle(&self) {
        let (sender, receiver) = mpsc::channel();
        if let Some(queue) = self.queue.get() {
            let _ = queue.lock().send(Message::Barrier(sender));
            let _ = receiver.recv_timeout(Duration::from_secs(1));
        }
    }
}

/// How often a change is announced when others keep looking at the name.
const ATTEMPTS: usize = 3;

/// Announces a change of the root, or has the kernel ask again what it knows of it:
/// the names, the listing and the attributes.
fn root_changed(
    notify: &dyn Notify,
    announcer: Option<&Announcer>,
    change: &RootChange,
    mounts_stay: bool,
) {
    let forget = |name: &VolumeName| {
        let name = OsString::from(name.as_str());
        if mounts_stay {
            notify.entry_expired(NodeId::ROOT, &name);
        } else {
            notify.entry_changed(NodeId::ROOT, &name);
        }
    };
    for _ in 0..ATTEMPTS {
        let announced = announcer.map_or(Err(Errno::ENOTCONN), |it| it.announce(change));
        let Err(errno) = announced else {
            break;
        };
        log::debug!("{change:?} is not announced: {errno}");
        match change {
            RootChange::Made(name) | RootChange::Removed(name, _) => forget(name),
            RootChange::Renamed(from, to, _) => {
                forget(from);
                forget(to);
            }
        }
        // Somebody has found what was made before it was announced.
        if !matches!(change, RootChange::Made(_)) || errno != Errno::EEXIST {
            break;
        }
    }
    // Also a listing that is under way.
    notify.data_changed(NodeId::ROOT);
}
