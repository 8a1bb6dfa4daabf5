//! Stores on file systems that are full or read-only.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use volfs::model::{VolumeName, VolumeSpec};
use volfs::volume::{Error, Removal, Store, StoreOptions, Volumes};

const MAKE: StoreOptions = StoreOptions {
    create: true,
    read_only: false,
};
const USE: StoreOptions = StoreOptions {
    create: false,
    read_only: false,
};
const LOOK: StoreOptions = StoreOptions {
    create: false,
    read_only: true,
};

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

/// A file system of its own, unmounted when dropped.
struct Tmpfs {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Tmpfs {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let options = format!("size={size}");
        mount(
            Some("tmpfs"),
            &path,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .unwrap();
        Self { path, _dir: dir }
    }

    fn read_only(&self) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &self.path, None::<&str>, flags, None::<&str>).unwrap();
    }

    /// Takes all the space there is; dropping the file gives it back.
    fn fill(&self) -> tempfile::NamedTempFile {
        let filler = tempfile::NamedTempFile::new_in(&self.path).unwrap();
        let mut at = 0;
        for block in [1 << 20, 4096, 1] {
            let bytes = vec![1; block];
            while filler.as_file().write_all_at(&bytes, at).is_ok() {
                at += bytes.len() as u64;
            }
            at = filler.as_file().metadata().unwrap().len();
        }
        filler
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_full_file_system() {
    let tmpfs = Tmpfs::new("32m");
    let path = tmpfs.path.join("store");
    let store = Store::open(&path, &MAKE).unwrap();
    for new in ["one", "two", "three"] {
        let made = store.create(&VolumeSpec::directory(name(new))).unwrap();
        fs::write(made.path.join("file"), vec![1; 1 << 20]).unwrap();
    }
    store.create(&VolumeSpec::directory(name("empty"))).unwrap();
    let list = store.list().unwrap();
    let filler = tmpfs.fill();
    let error = store
        .create(&VolumeSpec::directory(name("more")))
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Io {
                errno: libc::ENOSPC,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(store.list().unwrap(), list);
    assert_eq!(fs::read_dir(path.join("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(path.join("volumes")).unwrap().count(), 5);
    // What makes room works.
    store.remove(&name("empty"), Removal::Empty).unwrap();
    store.remove(&name("one"), Removal::Purge).unwrap();
    store.create(&VolumeSpec::directory(name("more"))).unwrap();
    store.remove(&name("two"), Removal::Trash).unwrap();
    assert_eq!(store.empty_trash(None).unwrap(), 1);
    let list = store.list().unwrap();
    drop(store);
    drop(filler);
    let store = Store::open(&path, &USE).unwrap();
    assert_eq!(store.list().unwrap(), list);
    assert!(store.trash().unwrap().is_empty());
}

#[test]
fn a_file_system_that_is_full_from_the_start() {
    let tmpfs = Tmpfs::new("1m");
    let path = tmpfs.path.join("store");
    fs::create_dir(&path).unwrap();
    let filler = tmpfs.fill();
    let error = Store::open(&path, &MAKE).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Io {
                errno: libc::ENOSPC,
                ..
            }
        ),
        "{error:?}"
    );
    drop(filler);
    Store::open(&path, &MAKE).unwrap();
}

#[test]
fn a_read_only_file_system() {
    let tmpfs = Tmpfs::new("8m");
    let path = tmpfs.path.join("store");
    let store = Store::open(&path, &MAKE).unwrap();
    let made = store.create(&VolumeSpec::directory(name("v"))).unwrap();
    drop(store);
    tmpfs.read_only();
    for options in [&USE, &MAKE] {
        let error = Store::open(&path, options).unwrap_err().to_string();
        assert!(
            error.contains("read-only") && error.contains("--read-only"),
            "{error}"
        );
    }
    let store = Store::open(&path, &LOOK).unwrap();
    assert!(store.is_read_only());
    assert_eq!(store.list().unwrap(), [made]);
    let volume = store.volume(&name("v")).unwrap();
    store.check_files(&volume).unwrap();
    let refused = Error::ReadOnly { store: path };
    let v = name("v");
    assert_eq!(
        store.create(&VolumeSpec::directory(name("w"))).unwrap_err(),
        refused
    );
    assert_eq!(store.rename(&v, &name("w")).unwrap_err(), refused);
    assert_eq!(store.remove(&v, Removal::Trash).unwrap_err(), refused);
    assert_eq!(store.restore("v", None).unwrap_err(), refused);
    assert_eq!(store.empty_trash(None).unwrap_err(), refused);
    assert_eq!(store.exchange(&v, &v).unwrap_err(), refused);
    assert_eq!(store.mark_dirty(&volume).unwrap_err(), refused);
    store.settle().unwrap();
}
