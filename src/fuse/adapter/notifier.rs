//! Telling the kernel of changes, through `fuser`.

use std::ffi::OsString;

use fuser::{INodeNo, Notifier};

use crate::fuse::kernel::Notify;
use crate::fuse::node::NodeId;

/// Tells the kernel of changes.
pub(in crate::fuse) struct KernelNotifier(Notifier);

impl KernelNotifier {
    pub(in crate::fuse) fn new(notifier: Notifier) -> Self {
        Self(notifier)
    }
}

impl Notify for KernelNotifier {
    fn entry_changed(&self, parent: NodeId, name: &OsString) {
        // ENOENT: the kernel does not know the name.
        let _ = self.0.inval_entry(INodeNo(parent.raw()), name);
    }

    fn attr_changed(&self, node: NodeId) {
        // A negative offset: attributes only (fuse_reverse_inval_inode).
        let _ = self.0.inval_inode(INodeNo(node.raw()), -1, 0);
    }

    fn data_changed(&self, node: NodeId) {
        let _ = self.0.inval_inode(INodeNo(node.raw()), 0, 0);
    }
}
