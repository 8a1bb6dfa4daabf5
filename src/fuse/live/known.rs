//! Nodes that the kernel knows, in shared memory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release};

use super::journal::{attr_of, attr_words};
use super::layout::{State, Which};
use crate::fuse::node::NodeId;
use crate::fuse::types::Attr;

/// Where nodes are noted.
#[derive(Clone, Debug)]
pub(in crate::fuse) struct KnownNodes(Arc<State>);

/// The record of a node; the table of nodes gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fuse) struct NodeRecord(u32);

/// The record of a node without a name; free again when it is dropped.
#[derive(Debug)]
pub(in crate::fuse) struct GoneRecord {
    state: Arc<State>,
    index: u32,
}

/// A node as another process left it.
#[derive(Clone, Copy, Debug)]
pub(super) struct PastNode {
    pub(super) node: NodeId,
    pub(super) generation: u32,
    pub(super) lookups: u32,
}

impl KnownNodes {
    pub(super) fn new(state: &Arc<State>) -> Self {
        Self(Arc::clone(state))
    }

    /// A record for `node`.
    ///
    /// # Errors
    /// No memory.
    pub(in crate::fuse) fn note(
        &self,
        node: NodeId,
        generation: u32,
        lookups: u32,
    ) -> io::Result<NodeRecord> {
        let index = self.0.take(Which::Nodes)?;
        let record = self.0.record(Which::Nodes, index);
        record[1].store(value(generation, lookups), Relaxed);
        record[0].store(node.raw(), Release);
        Ok(NodeRecord(index))
    }

    /// Changes a record, in one store.
    pub(in crate::fuse) fn change(&self, record: NodeRecord, generation: u32, lookups: u32) {
        self.0.record(Which::Nodes, record.0)[1].store(value(generation, lookups), Release);
    }

    /// The kernel has forgotten the node.
    pub(in crate::fuse) fn give_back(&self, record: NodeRecord) {
        self.0.table(Which::Nodes).give_back(record.0);
    }

    /// `node` has no name any more; these were its attributes.
    pub(in crate::fuse) fn note_gone(&self, attr: &Attr) -> Option<GoneRecord> {
        let index = self.0.take(Which::Gone).ok()?;
        let record = self.0.record(Which::Gone, index);
        // The node is first: it says that the record is in use.
        for (word, value) in record.iter().zip(attr_words(attr)).rev() {
            word.store(value, Release);
        }
        Some(GoneRecord {
            state: Arc::clone(&self.0),
            index,
        })
    }
}

impl NodeRecord {
    /// Of a node that is not noted.
    pub(in crate::fuse) const NONE: Self = Self(u32::MAX);
}

impl Drop for GoneRecord {
    fn drop(&mut self) {
        self.state.table(Which::Gone).give_back(self.index);
    }
}

fn value(generation: u32, lookups: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(lookups)
}

/// All nodes of a state that nobody changes.
pub(super) fn nodes(state: &State) -> impl Iterator<Item = PastNode> {
    let of = |record: &[AtomicU64]| {
        let value = record[1].load(Relaxed);
        PastNode {
            node: NodeId::from_raw(record[0].load(Relaxed)),
            generation: (value >> 32) as u32,
            lookups: value as u32,
        }
    };
    state.table(Which::Nodes).used().map(of)
}

/// The last attributes of all nodes without a name.
pub(super) fn gone(state: &State) -> impl Iterator<Item = Attr> {
    state.table(Which::Gone).used().map(attr_of)
}
