//! Nodes that have lost their last name a moment ago. Most are forgotten by the
//! kernel at once; those that are not, because somebody stands in them, are kept
//! for a successor of this process.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::fs::FileSystem;
use super::node::NodeId;

/// How long the kernel has for forgetting.
const WHILE: Duration = Duration::from_millis(10);

/// The nodes.
#[derive(Default)]
pub(super) struct Going {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    nodes: Vec<NodeId>,
    waits: bool,
    closed: bool,
}

impl Going {
    /// `node` has lost its last name.
    pub(super) fn push(&self, node: NodeId) {
        let mut state = self.state.lock();
        state.nodes.push(node);
        if std::mem::take(&mut state.waits) {
            self.changed.notify_all();
        }
    }

    /// No more come.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// What has come until a moment ago; `None` at the end.
    fn next(&self) -> Option<Vec<NodeId>> {
        let mut state = self.state.lock();
        while state.nodes.is_empty() && !state.closed {
            state.waits = true;
            self.changed.wait(&mut state);
        }
        if state.closed {
            return None;
        }
        let nodes = std::mem::take(&mut state.nodes);
        self.changed.wait_for(&mut state, WHILE);
        (!state.closed).then_some(nodes)
    }
}

/// Keeps those that stay, until the end.
pub(super) fn keep_all(fs: &FileSystem) {
    while let Some(nodes) = fs.going.next() {
        for node in nodes {
            if let Some(fd) = fs.nodes.to_be_kept(node)
                && let Some(kept) = fs.live.keep_gone(node, std::os::fd::AsFd::as_fd(&*fd))
            {
                fs.nodes.set_kept(node, kept);
            }
        }
    }
}
