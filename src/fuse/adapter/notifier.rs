//! Telling the kernel of changes, through `fuser`.

use std::ffi::OsString;
use std::os::fd::OwnedFd;

use fuser::{INodeNo, Notifier};

use crate::fuse::handshake;
use crate::fuse::kernel::Notify;
use crate::fuse::node::NodeId;

/// Tells the kernel of changes.
pub(in crate::fuse) struct KernelNotifier {
    notifier: Notifier,
    device: OwnedFd,
}

impl KernelNotifier {
    pub(in crate::fuse) fn new(notifier: Notifier, device: OwnedFd) -> Self {
        Self { notifier, device }
    }
}

impl Notify for KernelNotifier {
    fn entry_changed(&self, parent: NodeId, name: &OsString) {
        // ENOENT: the kernel does not know the name.
        let _ = self.notifier.inval_entry(INodeNo(parent.raw()), name);
    }

    fn attr_changed(&self, node: NodeId) {
        // A negative offset: attributes only (fuse_reverse_inval_inode).
        let _ = self.notifier.inval_inode(INodeNo(node.raw()), -1, 0);
    }

    fn entry_expired(&self, parent: NodeId, name: &OsString) {
        handshake::expire_entry(&self.device, parent, name);
    }

    fn data_changed(&self, node: NodeId) {
        let _ = self.notifier.inval_inode(INodeNo(node.raw()), 0, 0);
    }
}
