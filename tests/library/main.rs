//! The library as programs use it: the same calls on a store that nobody has
//! mounted, through a running daemon, and on the images of disk volumes.
//!
//! `VOLFS_LONG=1` runs 100,000 races through the mount, too, and not only
//! offline.

#[path = "../support/mod.rs"]
mod support;

mod confined;
mod leases;
mod together;

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use support::{Mount, TestDir};
use volfs::model::{Bytes, DiskFsType, Mebibytes, VolumeName};
use volfs::volume::{Error, FileKind, Removal, Store, StoreOptions};
use volfs::{Kind, SizeExt, Volume, VolumeFs, Volumes};

/// A store, mounted or not, as a program gets at it.
pub struct World {
    /// The volumes of the store.
    pub volumes: Arc<dyn Volumes>,
    /// Its mount, if it has one.
    pub mount: Option<Mount>,
    /// For further things.
    pub dir: TestDir,
}

impl World {
    /// A store that only this process has.
    pub fn offline() -> Self {
        let dir = TestDir::new();
        Self {
            volumes: volfs::open(dir.join("store")).unwrap(),
            mount: None,
            dir,
        }
    }

    /// A store with a daemon.
    pub fn mounted() -> Self {
        let mount = Mount::new();
        Self {
            volumes: volfs::open(mount.store()).unwrap(),
            mount: Some(mount),
            dir: TestDir::new(),
        }
    }

    /// The volume's directory, as others see it.
    pub fn path(&self, name: &str) -> PathBuf {
        Volume::get(&self.volumes, name).unwrap().path().unwrap()
    }
}

/// A name that is one.
pub fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

/// Runs a test on a store with a daemon, and on one without.
pub fn both(test: impl Fn(&World)) {
    test(&World::offline());
    test(&World::mounted());
}

#[test]
fn what_the_inherited_library_gave() {
    both(|world| {
        let volumes = &world.volumes;
        let cache = Volume::builder("cache")
            .directory()
            .quota(64)
            .label("b", "1")
            .label("a", "2")
            .create(volumes)
            .unwrap();
        assert_eq!(cache.name().as_str(), "cache");
        assert_eq!(cache.kind(), Kind::Directory);
        assert_eq!(cache.capacity_bytes(), Some(64 << 20));
        assert_eq!(cache.disk_path(), None);
        let labels: Vec<_> = cache.labels().iter().collect();
        assert_eq!(labels, [("b", "1"), ("a", "2")]);

        let db = Volume::builder("db")
            .disk()
            .size(32.mib())
            .create(volumes)
            .unwrap();
        assert_eq!(db.capacity_bytes(), Some(32 << 20));
        assert_eq!(db.disk_fstype(), Some(DiskFsType::Ext4));
        assert!(db.disk_path().unwrap().is_file());

        cache.fs().unwrap().write("f", [7; 5000]).unwrap();
        let list = Volume::list(volumes).unwrap();
        let names: Vec<_> = list.iter().map(|it| it.name().as_str()).collect();
        assert_eq!(names, ["db", "cache"], "newest first");
        assert_eq!(list[1].quota_mib(), Some(Mebibytes(64)));
        assert_eq!(list[1].used_bytes(), Bytes(8192));
        assert!(list[0].created_at() >= list[1].created_at());

        let taken = Volume::builder("cache").create(volumes).unwrap_err();
        assert_eq!(
            taken,
            Error::Exists {
                name: name("cache")
            }
        );
        let gone = Volume::get(volumes, "nothing").unwrap_err();
        assert!(matches!(gone, Error::NotFound { .. }));
        let bad = Volume::get(volumes, "../x").unwrap_err();
        assert!(matches!(bad, Error::InvalidName(_)));
        for contradiction in [
            Volume::builder("x").size(1.gib()),
            Volume::builder("x").disk(),
            Volume::builder("x").disk().size(1.gib()).quota(1.gib()),
        ] {
            let refused = contradiction.create(volumes).unwrap_err();
            assert!(matches!(refused, Error::InvalidSpec(_)), "{refused:?}");
        }

        // A volume in use is not removed, and the error says by whom.
        let fs = list[1].fs().unwrap();
        let refused = Volume::get(volumes, "cache").unwrap().remove().unwrap_err();
        let Error::InUse { holders, .. } = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(holders[0].pid, Some(std::process::id().cast_signed()));
        drop(fs);
        for volume in Volume::list(volumes).unwrap() {
            volume.remove().unwrap();
        }
        assert_eq!(volumes.list().unwrap(), []);
        assert_eq!(volumes.trash().unwrap().len(), 2);
    });
}

/// Every call of `VolumeFs`.
fn life_of_files(fs: &VolumeFs) {
    fs.write("a", "one").unwrap();
    fs.write("/a", "two").unwrap();
    assert_eq!(fs.read("a").unwrap(), b"two");
    assert_eq!(fs.read_to_string("./a").unwrap(), "two");
    fs.write("raw", [0xff, 0]).unwrap();
    let text = fs.read_to_string("raw").unwrap_err();
    assert!(text.to_string().contains("raw"), "{text}");

    fs.mkdir("d/e/f").unwrap();
    fs.mkdir("d/e/f").unwrap();
    fs.mkdir("d/./e/../g").unwrap();
    assert_eq!(
        fs.mkdir("a/b").unwrap_err().io_kind(),
        Some(std::io::ErrorKind::NotADirectory)
    );
    let mut stream = fs.write_stream("d/e/stream").unwrap();
    for i in 0..1000 {
        writeln!(stream, "line {i}").unwrap();
    }
    stream.sync().unwrap();
    drop(stream);
    let mut stream = fs.read_stream("d/e/stream").unwrap();
    stream.seek(SeekFrom::Start(7)).unwrap();
    let mut line = [0; 6];
    stream.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"line 1");
    drop(stream);

    let names: Vec<_> = fs
        .list("d/e")
        .unwrap()
        .into_iter()
        .map(|it| it.name)
        .collect();
    assert_eq!(names, ["f", "stream"]);
    let kinds: Vec<_> = fs
        .list("d")
        .unwrap()
        .iter()
        .map(|it| it.stat.kind)
        .collect();
    assert_eq!(kinds, [FileKind::Directory, FileKind::Directory]);

    assert_eq!(fs.copy("d/e/stream", "copy").unwrap(), 8890);
    assert_eq!(fs.read("copy").unwrap(), fs.read("d/e/stream").unwrap());
    let same = fs.copy("copy", "d/../copy").unwrap_err();
    assert!(
        matches!(
            same,
            Error::Io {
                errno: libc::EINVAL,
                ..
            }
        ),
        "{same:?}"
    );
    assert_eq!(fs.stat("copy").unwrap().size, Bytes(8890));

    fs.rename("copy", "d/moved").unwrap();
    assert!(!fs.exists("copy").unwrap());
    assert!(fs.exists("d/moved").unwrap());
    assert!(!fs.exists("d/moved/below").unwrap());
    fs.rename("a", "d/moved").unwrap();
    assert_eq!(fs.read("d/moved").unwrap(), b"two");

    let is_dir = fs.remove("d/e").unwrap_err();
    assert_eq!(is_dir.io_kind(), Some(std::io::ErrorKind::IsADirectory));
    fs.remove("d/moved").unwrap();
    assert_eq!(
        fs.remove("d/moved").unwrap_err().io_kind(),
        Some(std::io::ErrorKind::NotFound)
    );
    for root in ["", "/", ".", "d/.."] {
        let refused = fs.remove_dir(root).unwrap_err();
        assert!(
            matches!(
                refused,
                Error::Io {
                    errno: libc::EBUSY,
                    ..
                }
            ),
            "{root:?}: {refused:?}"
        );
    }
    fs.remove_dir("d").unwrap();
    fs.remove("raw").unwrap();
    let left: Vec<_> = fs.list("").unwrap().into_iter().map(|it| it.name).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn files_of_directory_and_disk_volumes() {
    both(|world| {
        for limited in [false, true] {
            let name = format!("dir-{limited}");
            let mut volume = Volume::builder(&name);
            if limited {
                volume = volume.quota(1.mib()).quota_inodes(20);
            }
            let volume = volume.create(&world.volumes).unwrap();
            life_of_files(&volume.fs().unwrap());
            let verified = world.volumes.verify(volume.name(), false).unwrap();
            assert_eq!(verified.accounted, verified.found, "{name}");
            assert_eq!(verified.found.inodes, 0, "{name}");
        }
        let disk = Volume::builder("disk")
            .disk()
            .size(32.mib())
            .create(&world.volumes)
            .unwrap();
        let fs = disk.fs().unwrap();
        life_of_files(&fs);
        let full = fs.write("much", vec![1; 40 << 20]).unwrap_err();
        assert!(matches!(full, Error::NoSpace { .. }), "{full:?}");
        drop(fs);
        world.volumes.remove(&name("disk"), Removal::Purge).unwrap();
    });
}

#[test]
fn limits_hold_and_usage_is_exact() {
    both(|world| {
        let volume = Volume::builder("v")
            .quota(64.kib())
            .quota_inodes(6)
            .create(&world.volumes)
            .unwrap();
        let fs = volume.fs().unwrap();
        let used = || world.volumes.get(&name("v")).unwrap().used;
        fs.write("a", vec![1; 60 << 10]).unwrap();
        assert_eq!((used().bytes, used().inodes), (60.kib(), 1));

        let full = fs.write("b", vec![2; 8 << 10]).unwrap_err();
        assert!(matches!(full, Error::NoSpace { .. }), "{full:?}");
        // As with a full disk, what fits is written.
        assert_eq!(fs.stat("b").unwrap().size, 4.kib());
        assert_eq!((used().bytes, used().inodes), (64.kib(), 2));
        let mut stream = fs.write_stream("a").unwrap();
        assert_eq!(used().bytes, 4.kib(), "emptied");
        let written = std::io::copy(&mut std::io::repeat(3).take(1 << 20), &mut stream);
        assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
        drop(stream);
        assert_eq!(used().bytes, 64.kib());
        assert!(matches!(fs.mkdir("d").unwrap_err(), Error::NoSpace { .. }));
        fs.remove("b").unwrap();
        fs.mkdir("d").unwrap();
        for i in 0..4 {
            fs.write(format!("d/{i}"), "").unwrap();
        }
        let inodes = fs.write("d/one-more", "").unwrap_err();
        assert!(matches!(inodes, Error::NoSpace { .. }), "{inodes:?}");
        fs.rename("d/0", "d/1").unwrap();
        assert_eq!(used().inodes, 5);
        // A copy that does not fit, and a directory with all that it holds.
        assert!(matches!(
            fs.copy("a", "d/2").unwrap_err(),
            Error::NoSpace { .. }
        ));
        fs.remove_dir("d").unwrap();
        assert_eq!((used().bytes, used().inodes), (60.kib(), 1));
        drop(fs);
        let verified = world.volumes.verify(&name("v"), false).unwrap();
        assert_eq!(verified.accounted, verified.found);
        assert!(verified.was_exact);
    });
}

/// What names take is charged, whichever call makes them or takes them away.
#[test]
fn directories_are_charged_their_sizes() {
    both(|world| {
        let volume = Volume::builder("v")
            .quota(256.kib())
            .create(&world.volumes)
            .unwrap();
        let fs = volume.fs().unwrap();
        let host = match &world.mount {
            Some(mount) => mount.host_path("v"),
            None => world.path("v"),
        };
        let check = |what: &str| {
            let used = world.volumes.get(&name("v")).unwrap().used;
            let found = support::tree::charged(&host);
            assert_eq!((used.bytes.0, used.inodes), found, "{what}");
            assert!(used.bytes <= 256.kib(), "{what}");
        };
        let long = |n: usize| format!("{n:0>250}");
        fs.mkdir("d/e").unwrap();
        for n in 0..40 {
            fs.write(format!("d/{}", long(n)), "").unwrap();
        }
        check("files");
        for n in 0..20 {
            fs.mkdir(format!("d/e/{}", long(n))).unwrap();
            fs.rename(format!("d/{}", long(n)), format!("d/e/f{n:0>200}"))
                .unwrap();
        }
        check("directories");
        // Where a link leads that ends in nothing, the file is made.
        let link = "to/".to_owned() + &"l".repeat(250);
        fs.mkdir("to").unwrap();
        for n in 0..20 {
            let link = format!("link{n}");
            std::os::unix::fs::symlink(format!("to/{}", long(n)), host.join(&link)).unwrap();
            if world.mount.is_none() {
                fs.write(&link, "through it").unwrap();
            }
            std::fs::remove_file(host.join(&link)).unwrap();
        }
        assert!(!fs.exists(link).unwrap());
        check("through links");
        let refused = (0..2000).find_map(|n| fs.write(format!("d/{}", long(1000 + n)), "").err());
        assert!(
            matches!(refused, Some(Error::NoSpace { .. })),
            "{refused:?}"
        );
        check("full");
        fs.remove_dir("d").unwrap();
        fs.remove_dir("to").unwrap();
        check("removed");
        assert_eq!(world.volumes.get(&name("v")).unwrap().used.inodes, 0);
        drop(fs);
        let verified = world.volumes.verify(&name("v"), false).unwrap();
        assert_eq!(verified.accounted, verified.found);
        assert!(verified.was_exact);
    });
}

#[test]
fn offline_usage_is_there_for_the_next_who_opens_the_store() {
    let dir = TestDir::new();
    let store = dir.join("store");
    let volumes = volfs::open(&store).unwrap();
    let volume = Volume::builder("v")
        .quota(1.mib())
        .create(&volumes)
        .unwrap();
    let fs = volume.fs().unwrap();
    fs.mkdir("d").unwrap();
    fs.write("d/f", vec![0; 10_000]).unwrap();
    // The files outlive the store that they were got from: they cannot be
    // changed any more, and nobody else gets the store.
    drop((volumes, volume));
    let closed = fs.write("late", "x").unwrap_err();
    assert!(matches!(closed, Error::BadStore { .. }), "{closed:?}");
    assert_eq!(fs.read("d/f").unwrap().len(), 10_000);
    let options = StoreOptions::default();
    let locked = Store::open(&store, &options).unwrap_err();
    assert!(matches!(locked, Error::Locked { .. }), "{locked:?}");
    drop(fs);
    let volumes = volfs::open(&store).unwrap();
    let info = volumes.get(&name("v")).unwrap();
    assert!(info.used_is_exact);
    assert_eq!((info.used.bytes, info.used.inodes), (16.kib(), 2));
    assert!(
        !store
            .join("volumes")
            .join(info.id.to_string())
            .join("data/late")
            .exists()
    );
}

#[test]
fn an_image_that_a_guest_has_written_is_not_mounted() {
    let world = World::offline();
    Volume::builder("disk")
        .disk()
        .size(16.mib())
        .create(&world.volumes)
        .unwrap();
    let archive = world.dir.join("disk.tar");
    let store = world.dir.join("store");
    drop(world.volumes);
    let volfs = support::Volfs::new(&store);
    volfs.ok(&[
        Path::new("export"),
        Path::new("disk"),
        Path::new("-o"),
        &archive,
    ]);
    volfs.ok(&[Path::new("import"), Path::new("from-elsewhere"), &archive]);
    let volumes = volfs::open(&store).unwrap();
    let refused = volumes.files(&name("from-elsewhere")).unwrap_err();
    assert!(matches!(refused, Error::Image { .. }), "{refused:?}");
    assert!(refused.to_string().contains("disk trust"), "{refused}");
    volumes
        .check(&name("from-elsewhere"), volfs::volume::CheckHow::Trust)
        .unwrap();
    volumes
        .files(&name("from-elsewhere"))
        .unwrap()
        .write("f", "x")
        .unwrap();
}
