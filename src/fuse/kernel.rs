//! Telling the kernel that something changed behind its back.
//!
//! Entries are invalidated by a thread of their own: the kernel takes the
//! directory's lock for it, which a request that waits for us may hold.

use std::ffi::OsString;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use parking_lot::Mutex;

use super::node::NodeId;
use super::passthrough::{Backing, BackingFiles};

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
}

impl Kernel {
    /// Tells the kernel through `notify` from now on.
    pub fn connect(&self, notify: std::sync::Arc<dyn Notify>) {
        let (sender, receiver) = mpsc::channel();
        if self.notify.set(std::sync::Arc::clone(&notify)).is_err() {
            return;
        }
        let _ = self.queue.set(Mutex::new(sender));
        let run = move || {
            for message in receiver {
                match message {
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
