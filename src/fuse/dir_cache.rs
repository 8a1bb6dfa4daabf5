//! Directories that are kept open for the next call by name: a few, so that
//! opening by handle is not paid for every name in one directory.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::node::NodeId;

/// The most directories that are kept open, and so descriptors.
const PLACES: usize = 64;

struct Cached {
    node: NodeId,
    generation: u32,
    fd: Arc<OwnedFd>,
}

/// Open (`O_PATH`) directories by node; each node has one place, which the last
/// to use it takes.
pub(super) struct DirCache {
    /// Leaf locks.
    places: Box<[Mutex<Option<Cached>>]>,
}

impl Default for DirCache {
    fn default() -> Self {
        Self {
            places: (0..PLACES).map(|_| Mutex::default()).collect(),
        }
    }
}

impl DirCache {
    fn place(&self, node: NodeId) -> &Mutex<Option<Cached>> {
        &self.places[(node.raw() % PLACES as u64) as usize]
    }

    /// The directory, if it is open: the inode of this generation, not an
    /// earlier one with its number.
    pub(super) fn get(&self, node: NodeId, generation: u32) -> Option<Arc<OwnedFd>> {
        let place = self.place(node).lock();
        place
            .as_ref()
            .filter(|cached| cached.node == node && cached.generation == generation)
            .map(|cached| Arc::clone(&cached.fd))
    }

    /// Keeps a directory open.
    pub(super) fn put(&self, node: NodeId, generation: u32, fd: &Arc<OwnedFd>) {
        let fd = Arc::clone(fd);
        let previous = self.place(node).lock().replace(Cached {
            node,
            generation,
            fd,
        });
        // Closed outside the lock.
        drop(previous);
    }

    /// Closes a directory that was removed, so that the host frees it.
    pub(super) fn remove(&self, node: NodeId) {
        let mut place = self.place(node).lock();
        let removed = place.take_if(|cached| cached.node == node);
        drop(place);
        drop(removed);
    }
}
