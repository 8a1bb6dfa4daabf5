use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::model::{Bytes, InvalidSpec, Limits, Owner, Usage};
use crate::volume::testing::{Scratch, make, name, names};
use crate::volume::{Filters, Hold, ImageGuard};

#[derive(Default)]
struct Notes {
    holders: Mutex<Vec<Holder>>,
    looks: Mutex<usize>,
    said: Mutex<Vec<String>>,
}

impl Observer for Notes {
    fn grow_image(&self, _: &Volume, _: crate::diskimg::ImageSize) -> crate::volume::Growth {
        crate::volume::Growth::Unmounted { why: None }
    }
    fn holders(&self, _: &Volume) -> Vec<Holder> {
        self.holders.lock().clone()
    }
    fn holders_of_each(&self, volumes: &[Arc<Volume>]) -> Vec<Vec<Holder>> {
        let holders = self.holders.lock();
        *self.looks.lock() += 1;
        // All of them with the first.
        let mut each = vec![Vec::new(); volumes.len()];
        each[0].clone_from(&holders);
        each
    }
    fn unaccounted_writers(&self, _: &Volume) -> Vec<Holder> {
        self.holders.lock().clone()
    }
    fn writers(&self, _: &Volume) -> Vec<Holder> {
        Vec::new()
    }
    fn still(&self, _: &Volume, work: &mut dyn FnMut()) {
        work();
    }
    fn take_image(&self, _: &Volume) -> std::result::Result<ImageGuard, Vec<Holder>> {
        Ok(Box::new(()))
    }
    fn detach(&self, _: &Volume) -> std::result::Result<Vec<String>, Vec<Holder>> {
        Err(self.holders.lock().clone())
    }
    fn renaming(&self, name: &VolumeName, volume: &Volume) {
        assert_eq!(volume.name(), *name);
    }
    fn appeared(&self, name: &VolumeName, volume: &Volume) {
        assert_eq!(volume.name(), *name);
        self.said.lock().push(format!("+{name}"));
    }
    fn vanished(&self, name: &VolumeName, _: &Volume) {
        self.said.lock().push(format!("-{name}"));
    }
}

#[test]
fn a_life() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let notes = Arc::new(Notes::default());
    store.observe(notes.clone());

    let volume = make(&store, "a");
    let twice = store.create(&VolumeSpec::directory(name("a")));
    assert_eq!(twice.unwrap_err(), Error::Exists { name: name("a") });
    fs::write(store.data_dir(&volume).join("file"), "x").unwrap();
    let refused = store.remove(&name("a"), Removal::Empty).unwrap_err();
    assert_eq!(refused, Error::NotEmpty { name: name("a") });

    let renamed = store.rename(&name("a"), &name("b")).unwrap();
    assert_eq!((renamed.id, renamed.name), (volume.id, name("b")));
    assert!(store.volume(&name("a")).is_none());
    store.rename(&name("b"), &name("b")).unwrap();
    make(&store, "c");
    let taken = store.rename(&name("b"), &name("c")).unwrap_err();
    assert_eq!(taken, Error::Exists { name: name("c") });
    let gone = store.rename(&name("a"), &name("d")).unwrap_err();
    assert_eq!(gone, Error::NotFound { name: name("a") });

    store.exchange(&name("b"), &name("c")).unwrap();
    assert_eq!(store.volume(&name("c")).unwrap().id, volume.id);
    assert_eq!(names(&store), ["b", "c"], "newest first");

    store.remove(&name("c"), Removal::Trash).unwrap();
    assert!(store.volume_in(volume.slot).is_none());
    let trash = store.trash().unwrap();
    assert_eq!((trash.len(), &trash[0].info.name), (1, &name("c")));
    assert!(trash[0].info.path.join("file").exists());
    store.remove(&name("b"), Removal::Empty).unwrap();
    assert_eq!(store.trash().unwrap().len(), 1);

    make(&store, "c");
    let taken = store.restore("c", None).unwrap_err();
    assert_eq!(taken, Error::Exists { name: name("c") });
    let back = store.restore("c", Some(&name("e"))).unwrap();
    assert_eq!(back.id, volume.id);
    assert!(back.path.join("file").exists());
    assert!(Arc::ptr_eq(&store.volume(&name("e")).unwrap(), &volume));

    store.remove(&name("e"), Removal::Purge).unwrap();
    store.purger.wait();
    assert!(!store.layout.home(Place::Trash, volume.id).exists());
    assert!(!store.layout.home(Place::Volumes, volume.id).exists());
    assert_eq!(
        *notes.said.lock(),
        [
            "+a", "-a", "+b", "+c", "-b", "-c", "+c", "+b", "-c", "-b", "+c", "+e", "-e"
        ]
    );
    let list = store.list().unwrap();
    drop(store);
    let store = scratch.open();
    assert_eq!(store.list().unwrap(), list);
    assert!(store.trash().unwrap().is_empty());
}

#[test]
fn what_a_volume_is_asked_to_be() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let mut spec = VolumeSpec::directory(name("v"));
    spec.limits = Limits {
        bytes: Some(Bytes(1 << 20)),
        inodes: Some(10),
    };
    spec.labels.set("b", "2");
    spec.labels.set("a", "1");
    spec.owner = Some(Owner {
        uid: 12,
        gid: 34,
        mode: 0o3770,
    });
    let info = store.create(&spec).unwrap();
    let stat = fs::metadata(&info.path).unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.mode()), (12, 34, 0o43770));
    assert_eq!((info.limits, &info.labels), (spec.limits, &spec.labels));
    assert_eq!((info.used, info.used_is_exact), (Usage::default(), true));
    let own = fs::metadata(store.data_dir(&make(&store, "own"))).unwrap();
    assert_eq!(own.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(own.mode() & 0o7777, 0o755);
    drop(store);
    let store = scratch.open();
    assert_eq!(store.get(&name("v")).unwrap(), info);
    let mode = fs::metadata(store.dir()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700, "others' data is in it");
}

#[test]
fn a_disk_volume_leaves_nothing_when_it_cannot_be_made() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let refused = store.create(&VolumeSpec::disk(name("d"), Bytes(1 << 30)));
    if let Err(Error::Unsupported { .. }) = refused {
        assert_eq!(fs::read_dir(store.dir().join("tmp")).unwrap().count(), 0);
        assert_eq!(
            fs::read_dir(store.dir().join("volumes")).unwrap().count(),
            0
        );
        // Neither the name nor a slot is lost.
        assert_eq!(make(&store, "d").slot.get(), 2);
    } else {
        assert!(refused.unwrap().disk.is_some());
    }
}

#[test]
fn changes_of_settings() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let volume = make(&store, "v");
    let change = Change {
        quota_bytes: Some(Some(Bytes(8192))),
        quota_inodes: Some(Some(1)),
        set_labels: vec![("k".into(), "v".into()), ("l".into(), "w".into())],
        pinned: Some(true),
        ..Change::default()
    };
    let info = store.change(&name("v"), &change).unwrap();
    assert_eq!(info.limits, volume.limits());
    assert_eq!(info.limits.bytes, Some(Bytes(8192)));
    for how in [Removal::Empty, Removal::Trash, Removal::Purge] {
        let refused = store.remove(&name("v"), how).unwrap_err();
        assert_eq!(refused, Error::Pinned { name: name("v") });
    }
    let lift = Change {
        quota_bytes: Some(None),
        unset_labels: vec!["k".into()],
        pinned: Some(false),
        ..Change::default()
    };
    let info = store.change(&name("v"), &lift).unwrap();
    assert_eq!((info.limits.bytes, info.limits.inodes), (None, Some(1)));
    assert_eq!(info.labels.iter().collect::<Vec<_>>(), [("l", "w")]);
    let zero = Change {
        quota_bytes: Some(Some(Bytes(0))),
        ..Change::default()
    };
    let refused = store.change(&name("v"), &zero).unwrap_err();
    assert_eq!(refused, Error::InvalidSpec(InvalidSpec::ZeroBytes));
    drop(store);
    assert_eq!(scratch.open().get(&name("v")).unwrap(), info);
}

#[test]
fn a_volume_in_use_is_not_removed_nor_limited() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let notes = Arc::new(Notes::default());
    let holder = Holder {
        pid: Some(1),
        command: Some("init".into()),
        ..Holder::unseen(Hold::OpenFile)
    };
    notes.holders.lock().push(holder.clone());
    store.observe(notes);
    make(&store, "v");
    for how in [Removal::Empty, Removal::Trash, Removal::Purge] {
        let in_use = Error::InUse {
            name: name("v"),
            holders: vec![holder.clone()],
        };
        assert_eq!(store.remove(&name("v"), how).unwrap_err(), in_use);
    }
    let limit = Change {
        quota_bytes: Some(Some(Bytes(8192))),
        ..Change::default()
    };
    let refused = store.change(&name("v"), &limit).unwrap_err();
    assert!(matches!(refused, Error::Unaccounted { .. }), "{refused:?}");
    let volume = store.volume(&name("v")).unwrap();
    assert_eq!(volume.limits(), Limits::default(), "as it was");
    assert_eq!(store.holders(&name("v")).unwrap(), [holder]);
}

#[test]
fn who_uses_which_volume_takes_one_look() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let notes = Arc::new(Notes::default());
    notes.holders.lock().push(Holder::unseen(Hold::OpenFile));
    store.observe(notes.clone());
    let all = ["a", "b", "c"];
    all.iter().for_each(|name| drop(make(&store, name)));
    let select = |filters: &[&str]| {
        let filters = filters.iter().map(|it| it.parse().unwrap()).collect();
        let mut found = Filters::new(filters).select(&store).unwrap();
        found.reverse();
        let names = found.into_iter().map(|it| it.name.to_string());
        (
            names.collect::<Vec<_>>(),
            std::mem::take(&mut *notes.looks.lock()),
        )
    };
    let found = |names: &[&str], looks| (names.iter().map(|&it| it.to_owned()).collect(), looks);
    assert_eq!(select(&["in-use"]), found(&["a"], 1));
    assert_eq!(select(&["unused"]), found(&["b", "c"], 1));
    assert_eq!(select(&["unused", "in-use"]), found(&[], 1));
    assert_eq!(select(&["unused", "name=[ab]"]), found(&["b"], 1));
    // None where nobody needs to know.
    assert_eq!(select(&["name=[ab]"]), found(&["a", "b"], 0));
    assert_eq!(select(&["in-use", "name=d"]), found(&[], 0));
}

#[test]
fn listing_in_pieces() {
    let scratch = Scratch::new();
    let store = scratch.open();
    for number in 0..7 {
        make(&store, &format!("v{number}"));
    }
    store.remove(&name("v3"), Removal::Empty).unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let some = store.volumes_after(after, 2);
        let Some((_, last)) = some.last() else { break };
        after = Some(last.serial);
        seen.extend(some.iter().map(|(name, _)| name.to_string()));
    }
    assert_eq!(seen, ["v0", "v1", "v2", "v4", "v5", "v6"]);
}

#[test]
fn slots_of_deleted_volumes_are_used_again_late() {
    let scratch = Scratch::new();
    let store = scratch.open();
    for number in 0..70 {
        let made = make(&store, "v");
        assert_eq!(made.slot.get(), number + 1);
        store.remove(&name("v"), Removal::Empty).unwrap();
    }
    drop(store);
    let store = scratch.open();
    assert_eq!(make(&store, "v").slot.get(), 71);
}

#[test]
fn racing_callers_get_one_volume_per_name() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let made = Mutex::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (store, made) = (&store, &made);
            scope.spawn(move || {
                for round in 0..20 {
                    let wanted = name(&format!("v{round}"));
                    if store.create(&VolumeSpec::directory(wanted.clone())).is_ok() {
                        *made.lock() += 1;
                    }
                    if round % 4 == thread % 4 {
                        let other = name(&format!("w{thread}-{round}"));
                        let _ = store.rename(&wanted, &other);
                        let _ = store.remove(&other, Removal::Trash);
                    }
                }
            });
        }
    });
    let total = store.list().unwrap().len() + store.trash().unwrap().len();
    assert_eq!(total, *made.lock());
    let list = store.list().unwrap();
    drop(store);
    assert_eq!(scratch.open().list().unwrap(), list);
}

#[test]
fn a_manifest_changed_by_hand_is_put_right() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let volume = make(&store, "v");
    make(&store, "w");
    let path = store
        .layout
        .home(Place::Volumes, volume.id)
        .join("volume.json");
    let right = fs::read_to_string(&path).unwrap();
    fs::write(&path, right.replace("\"v\"", "\"z\"")).unwrap();
    assert_eq!(store.check_manifests().unwrap(), [name("v")]);
    assert_eq!(fs::read_to_string(&path).unwrap(), right);
    assert!(store.check_manifests().unwrap().is_empty());
}

#[test]
fn a_label_that_a_terminal_obeys_is_refused_and_an_old_one_unset() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let volume = make(&store, "v");
    let bad = "\u{1b}[2J";
    let set = Change {
        set_labels: vec![("k".into(), bad.into())],
        ..Change::default()
    };
    let refused = store.change(&name("v"), &set).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::InvalidSpec(InvalidSpec::LabelCharacter { .. })
        ),
        "{refused:?}"
    );
    assert!(!refused.to_string().contains('\u{1b}'), "{refused}");
    // As an earlier version took it.
    let mut row = (*volume.row()).clone();
    row.labels.set(bad, bad);
    volume.set_row(row);
    let unset = Change {
        unset_labels: vec![bad.into()],
        set_labels: vec![("k".into(), "v".into())],
        ..Change::default()
    };
    let labels = store.change(&name("v"), &unset).unwrap().labels;
    assert_eq!(labels.iter().collect::<Vec<_>>(), [("k", "v")]);
}
