//! Generated files that are open, each with its text as it was when it was
//! opened: memory of the daemon that callers decide to take. So each user has a
//! part of it, and root and the daemon's user have theirs whatever others do.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::error::OpError;
use super::node::NodeId;
use super::types::Fh;

/// Handles of generated files have this bit; those of volumes never get there.
const HANDLE_BIT: u64 = 1 << 63;

/// What may be open at once.
#[derive(Clone, Copy)]
struct Most {
    files: usize,
    bytes: usize,
}

/// All users together; root and the daemon's user once more.
const OF_ALL: Most = Most {
    files: 1024,
    bytes: 64 << 20,
};
/// One user.
const OF_ONE: Most = Most {
    files: 64,
    bytes: 16 << 20,
};
/// A text of this length is taken for none: `version`, `last_error`.
const SHORT: usize = 4096;

/// Who has opened a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// Root or the daemon's own user.
    Operator,
    /// Somebody else, by user id.
    User(u32),
    /// Whoever has opened it in an earlier process.
    Earlier,
}

impl Owner {
    pub(super) fn of(uid: u32) -> Self {
        if uid == 0 || uid == nix::unistd::geteuid().as_raw() {
            Self::Operator
        } else {
            Self::User(uid)
        }
    }
}

/// What is open of somebody.
#[derive(Clone, Copy, Default)]
struct Held {
    files: usize,
    bytes: usize,
}

impl Held {
    /// The first text has room however long it is.
    fn has_room(self, text: usize, most: Most) -> bool {
        self.files < most.files
            && (text <= SHORT || self.bytes == 0 || self.bytes + text <= most.bytes)
    }

    fn add(&mut self, text: usize) {
        self.files += 1;
        self.bytes += counted(text);
    }

    fn remove(&mut self, text: usize) {
        self.files -= 1;
        self.bytes -= counted(text);
    }
}

fn counted(text: usize) -> usize {
    if text <= SHORT { 0 } else { text }
}

struct OpenText {
    owner: Owner,
    node: NodeId,
    text: Arc<[u8]>,
}

#[derive(Default)]
struct Texts {
    by_fh: HashMap<Fh, OpenText>,
    by_owner: HashMap<Owner, Held>,
    users: Held,
}

impl Texts {
    fn check(&self, owner: Owner, text: usize) -> Result<(), OpError> {
        let own = self.by_owner.get(&owner).copied().unwrap_or_default();
        let (one, all) = match owner {
            Owner::User(_) => (OF_ONE, self.users.has_room(text, OF_ALL)),
            Owner::Operator | Owner::Earlier => (OF_ALL, true),
        };
        if !own.has_room(text, one) {
            return Err(OpError::ControlFiles { by: "you have" });
        }
        if !all {
            return Err(OpError::ControlFiles { by: "others have" });
        }
        Ok(())
    }

    fn insert(&mut self, fh: Fh, open: OpenText) {
        let len = open.text.len();
        self.by_owner.entry(open.owner).or_default().add(len);
        if let Owner::User(_) = open.owner {
            self.users.add(len);
        }
        self.by_fh.insert(fh, open);
    }

    fn remove(&mut self, fh: Fh) -> Option<OpenText> {
        let open = self.by_fh.remove(&fh)?;
        let len = open.text.len();
        if let Some(held) = self.by_owner.get_mut(&open.owner) {
            held.remove(len);
            if held.files == 0 {
                self.by_owner.remove(&open.owner);
            }
        }
        if let Owner::User(_) = open.owner {
            self.users.remove(len);
        }
        Some(open)
    }
}

/// Open generated files.
pub(super) struct OpenTexts {
    /// A leaf lock.
    texts: Mutex<Texts>,
    next: AtomicU64,
}

impl OpenTexts {
    /// None; `first` is the number of the first.
    pub(super) fn new(first: u64) -> Self {
        Self {
            texts: Mutex::default(),
            next: AtomicU64::new(first),
        }
    }

    /// Opens `node`, whose text is what `make` returns.
    ///
    /// # Errors
    /// [`OpError::ControlFiles`]; what `make` says.
    pub(super) fn open(
        &self,
        owner: Owner,
        node: NodeId,
        make: impl FnOnce() -> Result<String, OpError>,
    ) -> Result<Fh, OpError> {
        // A text is not made for a caller who cannot have one.
        self.texts.lock().check(owner, 0)?;
        let text: Arc<[u8]> = make()?.into_bytes().into();
        let mut texts = self.texts.lock();
        texts.check(owner, text.len())?;
        let fh = Fh(self.next.fetch_add(1, Ordering::Relaxed) | HANDLE_BIT);
        texts.insert(fh, OpenText { owner, node, text });
        Ok(fh)
    }

    /// The text of an open file. One that was opened in an earlier process has
    /// that of the first such that is read, which `make` returns: it is another
    /// than it was anyway, and one for all takes the memory of one.
    ///
    /// # Errors
    /// What `make` says.
    pub(super) fn text(
        &self,
        fh: Fh,
        node: NodeId,
        make: impl FnOnce() -> Result<String, OpError>,
    ) -> Result<Arc<[u8]>, OpError> {
        let earlier = {
            let texts = self.texts.lock();
            if let Some(open) = texts.by_fh.get(&fh) {
                return Ok(Arc::clone(&open.text));
            }
            let mut all = texts.by_fh.values();
            all.find(|open| open.owner == Owner::Earlier && open.node == node)
                .map(|open| Arc::clone(&open.text))
        };
        let text = match earlier {
            Some(text) => text,
            None => make()?.into_bytes().into(),
        };
        let mut texts = self.texts.lock();
        // Another read of the same may have been as fast.
        drop(texts.remove(fh));
        let owner = Owner::Earlier;
        let open = OpenText {
            owner,
            node,
            text: Arc::clone(&text),
        };
        texts.insert(fh, open);
        Ok(text)
    }

    /// Closes a generated file; `false` when `fh` is none.
    pub(super) fn release(&self, fh: Fh) -> bool {
        if fh.0 & HANDLE_BIT == 0 {
            return false;
        }
        let closed = self.texts.lock().remove(fh);
        drop(closed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::control(5);

    fn open_all(texts: &OpenTexts, owner: Owner, len: usize) -> Vec<Fh> {
        let open = || texts.open(owner, NODE, || Ok("x".repeat(len))).ok();
        std::iter::from_fn(open).collect()
    }

    #[test]
    fn nobody_takes_the_memory_of_others() {
        let texts = OpenTexts::new(1);
        let long = 1 << 20;
        let mut open = Vec::new();
        for uid in 1000..1004 {
            let own = open_all(&texts, Owner::User(uid), long);
            assert_eq!(own.len(), 16);
            open.extend(own);
        }
        // All have what users may have; short ones take none of it.
        assert_eq!(open_all(&texts, Owner::User(2000), long), []);
        assert_eq!(open_all(&texts, Owner::User(2000), 100).len(), 64);
        assert_eq!(open_all(&texts, Owner::Operator, long).len(), 64);
        assert!(open.into_iter().all(|fh| texts.release(fh)));
        assert_eq!(open_all(&texts, Owner::User(1000), long).len(), 16);
        // One is never too long.
        assert_eq!(open_all(&texts, Owner::User(3000), 20 << 20).len(), 1);
    }

    #[test]
    fn files_of_an_earlier_process_have_one_text() {
        let texts = OpenTexts::new(1);
        let read = |fh, text: &str| texts.text(Fh(fh | HANDLE_BIT), NODE, || Ok(text.into()));
        let first = read(1, "first").unwrap();
        assert!(Arc::ptr_eq(&first, &read(2, "second").unwrap()));
        assert!(Arc::ptr_eq(&first, &read(1, "third").unwrap()));
        assert!(texts.release(Fh(1 | HANDLE_BIT)) && texts.release(Fh(2 | HANDLE_BIT)));
        assert_eq!(&*read(3, "new").unwrap(), b"new");
        assert!(!texts.release(Fh(3)));
    }
}
