//! What the tests of the store share: a store of their own, and short words.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Store, StoreOptions, Volume, Volumes};
use crate::model::{VolumeName, VolumeSpec};

/// A place for a store, deleted when dropped.
pub(super) struct Scratch {
    pub dir: tempfile::TempDir,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(super) fn open(&self) -> Store {
        let options = StoreOptions {
            create: true,
            read_only: false,
        };
        Store::open(&self.path(), &options).unwrap()
    }
}

pub(super) fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

pub(super) fn make(store: &Store, text: &str) -> Arc<Volume> {
    store.create(&VolumeSpec::directory(name(text))).unwrap();
    store.volume(&name(text)).unwrap()
}

pub(super) fn names(store: &Store) -> Vec<String> {
    let list = store.list().unwrap();
    list.iter().map(|it| it.name.to_string()).collect()
}
