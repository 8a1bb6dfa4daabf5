//! The last refused change of a volume, per user: what errno cannot say.

use std::collections::HashMap;

use parking_lot::Mutex;

/// The most users that are remembered; more push the oldest entries out.
const MOST_USERS: usize = 1024;

/// Sentences by user id.
#[derive(Default)]
pub struct LastErrors {
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    by_uid: HashMap<u32, Sentence>,
    /// Of a volume that could not be used by anybody.
    to_all: Option<Sentence>,
    count: u64,
}

#[derive(Clone)]
struct Sentence {
    number: u64,
    text: String,
}

impl Said {
    fn sentence(&mut self, text: String) -> Sentence {
        self.count += 1;
        Sentence {
            number: self.count,
            text,
        }
    }
}

impl LastErrors {
    /// Remembers why the last change that `uid` asked for was refused.
    pub fn set(&self, uid: u32, text: String) {
        let mut said = self.said.lock();
        if said.by_uid.len() >= MOST_USERS && !said.by_uid.contains_key(&uid) {
            said.by_uid.clear();
        }
        let sentence = said.sentence(text);
        said.by_uid.insert(uid, sentence);
    }

    /// Remembers why a volume could not be used, by whomever.
    pub fn set_for_all(&self, text: String) {
        let mut said = self.said.lock();
        said.to_all = Some(said.sentence(text));
    }

    /// The sentence for `uid`: the last one that concerns that user.
    #[must_use]
    pub fn get(&self, uid: u32) -> Option<String> {
        let said = self.said.lock();
        let own = said.by_uid.get(&uid);
        let last = own
            .into_iter()
            .chain(&said.to_all)
            .max_by_key(|s| s.number)?;
        Some(last.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sentence_that_concerns_a_user() {
        let errors = LastErrors::default();
        assert_eq!(errors.get(1), None);
        errors.set(1, "own".into());
        errors.set_for_all("all".into());
        assert_eq!(errors.get(1).as_deref(), Some("all"));
        assert_eq!(errors.get(2).as_deref(), Some("all"));
        errors.set(1, "again".into());
        assert_eq!(errors.get(1).as_deref(), Some("again"));
        assert_eq!(errors.get(2).as_deref(), Some("all"));
    }
}
