use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use super::*;
use crate::volume::Volumes;
use crate::volume::testing::{Scratch, make, name, names};

#[test]
fn of_several_in_the_trash_the_last_comes_back() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let first = make(&store, "v");
    store.remove(&name("v"), Removal::Trash).unwrap();
    let second = make(&store, "v");
    store.remove(&name("v"), Removal::Trash).unwrap();
    assert_eq!(store.trash().unwrap()[0].info.id, second.id);
    assert_eq!(store.restore("v", None).unwrap().id, second.id);
    store.remove(&name("v"), Removal::Trash).unwrap();
    let other = Some(name("w"));
    let by_id = store.restore(&first.id.to_string(), other.as_ref());
    assert_eq!(by_id.unwrap().id, first.id);
    assert!(matches!(
        store.restore("nothing", None),
        Err(Error::NotInTrash { .. })
    ));
    make(&store, "x");
    store.remove(&name("x"), Removal::Trash).unwrap();
    assert_eq!(store.empty_trash(Some("x")).unwrap(), 1);
    assert_eq!(store.empty_trash(None).unwrap(), 1);
    assert_eq!(store.empty_trash(None).unwrap(), 0);
    store.purger.wait();
    assert_eq!(fs::read_dir(store.dir().join("trash")).unwrap().count(), 0);
}

#[test]
fn trees_that_resist_are_deleted() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let volume = make(&store, "v");
    let data = store.data_dir(&volume);
    fs::create_dir_all(data.join("a/b/c")).unwrap();
    fs::write(data.join("a/b/c/file"), "").unwrap();
    fs::write(data.join(".deleting-0"), "").unwrap();
    fs::create_dir(scratch.dir.path().join("outside")).unwrap();
    fs::write(scratch.dir.path().join("outside/file"), "").unwrap();
    std::os::unix::fs::symlink(scratch.dir.path().join("outside"), data.join("link")).unwrap();
    for dir in ["a/b/c", "a/b", "a"] {
        fs::set_permissions(data.join(dir), fs::Permissions::from_mode(0o000)).unwrap();
    }
    store.remove(&name("v"), Removal::Purge).unwrap();
    store.purger.wait();
    assert_eq!(store.purges().unwrap(), []);
    assert_eq!(fs::read_dir(store.dir().join("trash")).unwrap().count(), 0);
    assert!(scratch.dir.path().join("outside/file").exists());
}

#[test]
fn rmdir_loses_no_file_that_is_made_meanwhile() {
    use std::os::fd::AsFd;

    use nix::fcntl::{OFlag, openat};
    use nix::sys::stat::Mode;

    let scratch = Scratch::new();
    let store = scratch.open();
    let (mut kept, mut removed) = (0, 0);
    // How long a removal takes: the file comes at every moment of one.
    make(&store, "first");
    let begun = Instant::now();
    store.remove(&name("first"), Removal::Empty).unwrap();
    let mut time = begun.elapsed();
    for round in 0..120 {
        let volume = make(&store, "v");
        // An open directory, as the mount has: it goes where the volume goes.
        let dir = fs::File::open(store.data_dir(&volume)).unwrap();
        let start = std::sync::Barrier::new(2);
        let last = time;
        let (made, gone) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                start.wait();
                let begun = Instant::now();
                while begun.elapsed() < last * (round % 40) / 20 {
                    std::hint::spin_loop();
                }
                let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
                openat(dir.as_fd(), "file", flags, Mode::S_IRWXU).is_ok()
            });
            start.wait();
            let begun = Instant::now();
            let gone = store.remove(&name("v"), Removal::Empty).is_ok();
            if gone {
                time = begun.elapsed();
            }
            (writer.join().unwrap(), gone)
        });
        assert_ne!(made, gone, "either the file or the removal");
        if gone {
            removed += 1;
            continue;
        }
        kept += 1;
        assert!(store.data_dir(&volume).join("file").exists());
        assert!(store.trash().unwrap().is_empty());
        store.remove(&name("v"), Removal::Purge).unwrap();
    }
    assert!(kept > 0 && removed > 0, "{kept} kept, {removed} removed");
}

#[test]
fn an_orphan_that_is_no_volume_is_not_restored() {
    let scratch = Scratch::new();
    drop(scratch.open());
    let id = VolumeId::random();
    let path = scratch
        .dir
        .path()
        .join("store/volumes")
        .join(id.to_string());
    fs::create_dir(&path).unwrap();
    fs::write(path.join("letter"), "").unwrap();
    let store = scratch.open();
    let restored = store.restore(&id.to_string(), None);
    assert!(matches!(restored, Err(Error::FilesMissing { .. })));
    assert!(store.list().unwrap().is_empty());
    let home = store.layout.home(Place::Trash, id);
    assert!(home.join("letter").exists());
    // Names are free again after a refusal.
    make(&store, &format!("orphan-{id}"));
}

#[test]
fn files_removed_by_hand() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let volume = make(&store, "lost");
    make(&store, "other");
    fs::remove_dir_all(store.dir().join("volumes").join(volume.id.to_string())).unwrap();
    drop(store);
    let store = scratch.open();
    assert_eq!(names(&store), ["other", "lost"]);
    let lost = store.volume(&name("lost")).unwrap();
    let missing = Error::FilesMissing {
        name: name("lost"),
        path: store.data_dir(&lost),
    };
    assert_eq!(store.check_files(&lost), Err(missing.clone()));
    assert_eq!(
        store.remove(&name("lost"), Removal::Empty),
        Err(missing.clone())
    );
    assert_eq!(
        store.remove(&name("lost"), Removal::Trash),
        Err(missing.clone())
    );
    assert_eq!(store.recount(&lost), Err(missing));
    store
        .check_files(&store.volume(&name("other")).unwrap())
        .unwrap();
    store.rename(&name("lost"), &name("found")).unwrap();
    store.remove(&name("found"), Removal::Purge).unwrap();
    assert_eq!(names(&store), ["other"]);
}

#[test]
fn what_comes_back_from_the_trash_meanwhile_does_not_expire() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let hour: Retention = "1h".parse().unwrap();
    let remove_new = || {
        let volume = make(&store, "v");
        store.remove(&name("v"), Removal::Trash).unwrap();
        volume
    };
    let mut volume = remove_new();
    for _ in 0..200 {
        // As if it had been there for long.
        store.set_state_in_memory(&volume, State::Trash, Timestamp::from_nanos(0));
        let start = std::sync::Barrier::new(2);
        let (back, expired) = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                start.wait();
                let back = store.restore("v", None).is_ok();
                if back {
                    store.remove(&name("v"), Removal::Trash).unwrap();
                }
                back
            });
            start.wait();
            let expired = store.expire_trash(hour).unwrap();
            (other.join().unwrap(), expired)
        });
        // Removed again a moment ago, it has its hour before it.
        assert_eq!(expired, usize::from(!back));
        if !back {
            volume = remove_new();
        }
        assert_eq!(store.trash().unwrap().len(), 1);
    }
}
