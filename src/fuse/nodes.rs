//! The nodes that the kernel holds: how often it looked each up, and what is
//! needed to find it again that its id does not say.
//!
//! This is all the memory that a cached inode costs: about 40 bytes on ext4.
//! Nothing in it is needed to be right on ext4, where an id alone finds the
//! inode; a process that has just started knows no nodes and works.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::live::journal;
use super::live::{GoneRecord, KeptHere, KnownNodes, NodeRecord};
use super::node::NodeId;
use super::reclaim::Reclaim;
use super::types::Attr;
use crate::sys::handle::HostHandle;
use crate::sys::process;

const SHARDS: usize = 64;

/// How a node is found again.
#[derive(Clone, Debug)]
pub enum Way {
    /// By the handle that its inode number and this generation make up.
    Generation(u32),
    /// By a host handle that cannot be made up; the generation is its digest.
    Handle(u32, Box<HostHandle>),
    /// By its name in a directory: without the right to open by handle.
    Place(u32, Box<Place>),
}

/// Where a node was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The directory.
    pub parent: NodeId,
    /// The name in it.
    pub name: OsString,
}

impl Way {
    /// The host's inode generation.
    #[must_use]
    pub fn generation(&self) -> u32 {
        match self {
            Self::Generation(generation)
            | Self::Handle(generation, _)
            | Self::Place(generation, _) => *generation,
        }
    }
}

struct Node {
    lookups: u32,
    /// Where a successor finds it.
    record: NodeRecord,
    way: Way,
    /// Its last name is gone: it may still be referred to, by a working
    /// directory, an O_PATH descriptor or a path that is just being walked.
    gone: Option<Box<Gone>>,
}

/// A node without a name, as long as the kernel knows it.
struct Gone {
    /// What it was when its last name went.
    attr: Attr,
    /// Its contents may have been given up since.
    emptied: bool,
    /// Keeps the host from giving its inode number, and so its node id, to a
    /// new file: a request for the old one would reach that.
    held: Option<Arc<OwnedFd>>,
    /// It is not open: the kernel is about to forget it, unless somebody refers to it.
    leaves: bool,
    /// Tells a successor.
    _record: Option<GoneRecord>,
    /// Keeps it for a successor, after a while: most are forgotten soon.
    kept: Option<KeptHere>,
}

/// The most nodes without a name that are held: each takes a descriptor, and
/// callers decide how long. No more than a sixteenth of all descriptors.
const MOST_HELD: usize = 4096;

fn most_held() -> usize {
    let part = usize::try_from(process::descriptor_limit() / 16);
    part.unwrap_or(MOST_HELD).min(MOST_HELD)
}

/// All nodes that the kernel holds.
pub struct NodeTable {
    /// Leaf locks: nothing else is locked while one is held.
    shards: Box<[Mutex<HashMap<NodeId, Node>>]>,
    len: AtomicUsize,
    held: AtomicUsize,
    /// How many inodes have lost their last name.
    removals: AtomicU64,
    most_held: usize,
    /// Tells who finds no room what is held.
    reclaim: Arc<Reclaim>,
    /// Tells a successor.
    known: Option<KnownNodes>,
}

impl Default for NodeTable {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            len: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            removals: AtomicU64::new(0),
            most_held: most_held(),
            reclaim: Arc::default(),
            known: None,
        }
    }
}

impl NodeTable {
    /// A table whose nodes a successor finds.
    pub(super) fn new(known: Option<KnownNodes>, reclaim: Arc<Reclaim>) -> Self {
        Self {
            known,
            reclaim,
            ..Self::default()
        }
    }

    fn note(&self, node: NodeId, generation: u32, lookups: u32) -> NodeRecord {
        let noted = self
            .known
            .as_ref()
            .map(|known| known.note(node, generation, lookups));
        match noted {
            Some(Ok(record)) => record,
            Some(Err(error)) => {
                log::error!("no memory to note {node:?} for a successor: {error}");
                NodeRecord::NONE
            }
            None => NodeRecord::NONE,
        }
    }

    fn tell(&self, node: &Node) {
        if let Some(known) = &self.known
            && node.record != NodeRecord::NONE
        {
            known.change(node.record, node.way.generation(), node.lookups);
        }
    }

    /// A node that the kernel knows from an earlier process.
    pub(super) fn restore(&self, node: NodeId, way: Way, lookups: u32) {
        let record = self.note(node, way.generation(), lookups);
        let mut shard = self.shard(node).lock();
        let known = Node {
            lookups,
            record,
            way,
            gone: None,
        };
        if shard.insert(node, known).is_none() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn shard(&self, node: NodeId) -> &Mutex<HashMap<NodeId, Node>> {
        // Neighbouring inode numbers go to different shards.
        &self.shards[(node.raw() % SHARDS as u64) as usize]
    }

    /// One more lookup of `node`, found by `way`. A node that is known under
    /// another generation is replaced: the kernel marks its old inode bad, and
    /// what it still forgets of that one comes under the same id.
    pub fn remember(&self, node: NodeId, way: Way) {
        let mut shard = self.shard(node).lock();
        match shard.get_mut(&node) {
            Some(known) => {
                known.lookups = known.lookups.saturating_add(1);
                known.way = way;
                self.tell(known);
                // While its inode is held the number is no other's: whoever remembers
                // it has found it by its last name before that went.
                let other = known.gone.take_if(|gone| gone.held.is_none());
                drop(shard);
                self.let_go(node, other);
            }
            None => {
                let record = self.note(node, way.generation(), 1);
                shard.insert(
                    node,
                    Node {
                        lookups: 1,
                        record,
                        way,
                        gone: None,
                    },
                );
                self.len.fetch_add(1, Ordering::Relaxed);
                drop(shard);
            }
        }
        journal::counted(node);
    }

    /// Takes back a lookup that the reply does not tell the kernel of after all.
    pub(super) fn not_told(&self, node: NodeId) {
        journal::not_counted(node);
        self.forget(node, 1);
    }

    /// Takes back `count` lookups. Nodes of an earlier process may be unknown.
    pub fn forget(&self, node: NodeId, count: u64) {
        let mut shard = self.shard(node).lock();
        let Some(known) = shard.get_mut(&node) else {
            return;
        };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        known.lookups = known.lookups.saturating_sub(count);
        self.tell(known);
        if known.lookups == 0 {
            let known = shard.remove(&node);
            if let (Some(table), Some(known)) = (&self.known, &known)
                && known.record != NodeRecord::NONE
            {
                table.give_back(known.record);
            }
            self.len.fetch_sub(1, Ordering::Relaxed);
            // Memory goes back when a big walk has been forgotten.
            if shard.capacity() > 1024 && shard.len() < shard.capacity() / 4 {
                shard.shrink_to_fit();
            }
            drop(shard);
            self.let_go(node, known.and_then(|known| known.gone));
        }
    }

    /// How to find `node`.
    #[must_use]
    pub fn way(&self, node: NodeId) -> Option<Way> {
        self.shard(node)
            .lock()
            .get(&node)
            .map(|known| known.way.clone())
    }

    /// `node` is now called `name` in `parent`. Only matters to nodes that are
    /// found by their place.
    pub fn moved(&self, node: NodeId, parent: NodeId, name: &OsStr) {
        if let Some(Node {
            way: Way::Place(_, place),
            ..
        }) = self.shard(node).lock().get_mut(&node)
        {
            **place = Place {
                parent,
                name: name.to_owned(),
            };
        }
    }

    /// The last name of `node` is gone; these were its attributes, and `fd` is
    /// its inode. Says whether that is held from now on. `emptied` is whether its
    /// contents may be, `open` whether it is open.
    pub fn set_gone(
        &self,
        node: NodeId,
        attr: Attr,
        fd: Option<OwnedFd>,
        (emptied, open): (bool, bool),
    ) -> bool {
        // Before it is looked whether the node is known: see `removals`.
        self.removals.fetch_add(1, Ordering::SeqCst);
        let mut shard = self.shard(node).lock();
        let Some(known) = shard.get_mut(&node) else {
            return false;
        };
        let before = self.held.fetch_add(1, Ordering::Relaxed);
        let held = fd.filter(|_| before < self.most_held).map(Arc::new);
        if held.is_none() {
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
        let is_held = held.is_some();
        if is_held && !open {
            self.reclaim.held(node.slot());
        }
        let record = self.known.as_ref().and_then(|known| known.note_gone(&attr));
        let gone = Gone {
            attr,
            emptied,
            held,
            leaves: !open,
            _record: record,
            kept: None,
        };
        let before = known.gone.replace(Box::new(gone));
        drop(shard);
        self.let_go(node, before);
        is_held
    }

    /// Grows when an inode loses its last name. Where it is the same before an inode
    /// is found by its name and after its node is [known](Self::remember), whoever
    /// takes that name away finds the node.
    pub(super) fn removals(&self) -> u64 {
        self.removals.load(Ordering::SeqCst)
    }

    /// The host may free the inode of a node that has no name any more: nothing
    /// here holds it from now on.
    pub(super) fn let_host_free(&self, node: NodeId) {
        let mut shard = self.shard(node).lock();
        let gone = shard.get_mut(&node).and_then(|known| known.gone.as_mut());
        let held = gone.map(|gone| (gone.held.take(), gone.kept.take(), gone.leaves));
        drop(shard);
        if let Some((held, kept, leaves)) = held {
            self.close(node, held, kept, leaves);
        }
    }

    /// Not with a shard locked: the host may have much to free.
    fn let_go(&self, node: NodeId, gone: Option<Box<Gone>>) {
        if let Some(gone) = gone {
            self.close(node, gone.held, gone.kept, gone.leaves);
        }
    }

    /// Closes what has held an inode, and then tells it.
    fn close(
        &self,
        node: NodeId,
        held: Option<Arc<OwnedFd>>,
        kept: Option<KeptHere>,
        leaves: bool,
    ) {
        if kept.is_some() {
            drop(kept);
            self.reclaim.passed_on(node.slot());
        }
        if held.is_some() {
            let slot = node.slot().filter(|_| leaves);
            self.reclaim.freeing(slot);
            drop(held);
            self.held.fetch_sub(1, Ordering::Relaxed);
            self.reclaim.let_go(slot);
        }
    }

    /// The last of the open files of a node that has no name is closed.
    pub(super) fn set_closed(&self, node: NodeId) {
        let mut shard = self.shard(node).lock();
        if let Some(gone) = shard.get_mut(&node).and_then(|known| known.gone.as_mut())
            && gone.held.is_some()
            && !std::mem::replace(&mut gone.leaves, true)
        {
            self.reclaim.held(node.slot());
        }
    }

    /// The inode of a node that has no name any more, if it is held and not kept
    /// for a successor yet.
    pub(super) fn to_be_kept(&self, node: NodeId) -> Option<Arc<OwnedFd>> {
        let shard = self.shard(node).lock();
        let gone = shard.get(&node)?.gone.as_deref()?;
        gone.held.clone().filter(|_| gone.kept.is_none())
    }

    /// The node without a name is kept for a successor, if it is still held here.
    pub(super) fn set_kept(&self, node: NodeId, kept: KeptHere) {
        let mut shard = self.shard(node).lock();
        let gone = shard.get_mut(&node).and_then(|known| known.gone.as_mut());
        let unused = match gone.filter(|gone| gone.held.is_some()) {
            Some(gone) => gone.kept.replace(kept),
            None => Some(kept),
        };
        drop(shard);
        drop(unused);
    }

    /// The last attributes of a node that has no name any more.
    #[must_use]
    pub fn gone(&self, node: NodeId) -> Option<Attr> {
        let shard = self.shard(node).lock();
        Some(shard.get(&node)?.gone.as_deref()?.attr)
    }

    /// The contents of a node that has no name any more are given up.
    pub(super) fn set_emptied(&self, node: NodeId) {
        let mut shard = self.shard(node).lock();
        if let Some(gone) = shard.get_mut(&node).and_then(|known| known.gone.as_mut()) {
            gone.emptied = true;
        }
    }

    /// Whether a node that has no name any more is held with its contents.
    pub(super) fn is_whole(&self, node: NodeId) -> bool {
        let shard = self.shard(node).lock();
        let gone = shard.get(&node).and_then(|known| known.gone.as_deref());
        gone.is_some_and(|gone| gone.held.is_some() && !gone.emptied)
    }

    /// How many nodes the kernel holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_are_counted_and_forgotten() {
        let table = NodeTable::default();
        let node = NodeId::from_raw(1 << 40 | 12);
        table.remember(node, Way::Generation(1));
        table.remember(node, Way::Generation(2));
        assert_eq!(table.len(), 1);
        assert_eq!(table.way(node).unwrap().generation(), 2);
        table.forget(node, 1);
        assert_eq!(table.len(), 1);
        table.forget(node, 1);
        assert_eq!(table.len(), 0);
        table.forget(node, 7);
        assert!(table.way(node).is_none());
    }

    #[test]
    fn a_node_costs_few_bytes() {
        assert!(std::mem::size_of::<(NodeId, Node)>() <= 40);
    }
}
