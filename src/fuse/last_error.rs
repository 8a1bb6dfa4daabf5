//! The last refused change of a volume, per user: what errno cannot say.

use std::collections::HashMap;

use parking_lot::Mutex;

/// The most users that are remembered; more push the oldest entries out.
const MOST_USERS: usize = 1024;

/// Sentences by user id.
#[derive(Default)]
pub struct LastErrors {
    by_uid: Mutex<HashMap<u32, String>>,
}

impl LastErrors {
    /// Remembers why the last change that `uid` asked for was refused.
    pub fn set(&self, uid: u32, sentence: String) {
        let mut by_uid = self.by_uid.lock();
        if by_uid.len() >= MOST_USERS && !by_uid.contains_key(&uid) {
            by_uid.clear();
        }
        by_uid.insert(uid, sentence);
    }

    /// The sentence for `uid`.
    #[must_use]
    pub fn get(&self, uid: u32) -> Option<String> {
        self.by_uid.lock().get(&uid).cloned()
    }
}
