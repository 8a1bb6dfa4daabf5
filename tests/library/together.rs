//! Two threads of one program at one volume, without a daemon: whatever they
//! do, what they find is whole, and what is left is right.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use volfs::model::{Bytes, VolumeName, VolumeSpec};
use volfs::transfer::{self, CloneOptions, ExportOptions};
use volfs::volume::{CheckHow, Error, Removal, Result};
use volfs::{Kind, SizeExt, Volume, Volumes};

use crate::{World, name};

/// What a thread does over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Write,
    Verify,
    Mend,
    Export,
    Clone,
    Remove,
    Rename,
}

const OF_DIRECTORIES: [Work; 6] = [
    Work::Write,
    Work::Verify,
    Work::Export,
    Work::Clone,
    Work::Remove,
    Work::Rename,
];
const OF_DISKS: [Work; 6] = [
    Work::Write,
    Work::Mend,
    Work::Export,
    Work::Clone,
    Work::Remove,
    Work::Rename,
];

/// How often each of two threads does its work, at least; it goes on until the
/// other has, too.
const ROUNDS: usize = 5;

/// How often a piece of work may be refused before it must have been done.
const REFUSALS: usize = 100_000;

/// One of two threads at a volume.
struct Worker<'a> {
    volumes: &'a dyn Volumes,
    volume: &'a VolumeName,
    /// Which of the two.
    number: usize,
}

impl Worker<'_> {
    fn own_name(&self, what: &str) -> VolumeName {
        name(&format!("{}-{what}-{}", self.volume, self.number))
    }

    fn work(&self, work: Work, round: usize) -> Result<()> {
        let volumes = self.volumes;
        match work {
            Work::Write => {
                let files = volumes.files(self.volume)?;
                let own = |what: &str| format!("{what}-{}", self.number);
                files.mkdir(own("dir"))?;
                files.write(own("dir") + "/grows", vec![1; 3000 * round])?;
                files.write(own("comes"), "and goes")?;
                files.rename(own("comes"), own("moved"))?;
                files.remove(own("moved"))
            }
            Work::Verify => {
                let verified = volumes.verify(self.volume, true)?;
                assert!(verified.was_exact && !verified.repaired, "{verified:?}");
                Ok(())
            }
            Work::Mend => {
                let found = volumes.check(self.volume, CheckHow::Mend)?;
                assert!(found.clean && !found.mended, "{found:?}");
                Ok(())
            }
            Work::Export => {
                let options = ExportOptions {
                    compress: false,
                    archive: "nowhere".into(),
                };
                let out = &mut std::io::sink();
                transfer::export(volumes, self.volume, &options, out, &()).map(drop)
            }
            Work::Clone => {
                let to = self.own_name("clone");
                let options = CloneOptions::default();
                let info = transfer::clone(volumes, self.volume, &to, &options, &())?.info;
                check_is_right(volumes, &to, info.kind);
                volumes.remove(&to, Removal::Purge)
            }
            Work::Remove => {
                let id = volumes.get(self.volume)?.id;
                volumes.remove(self.volume, Removal::Trash)?;
                volumes.restore(&id.to_string(), None).map(drop)
            }
            Work::Rename => {
                let other = self.own_name("other");
                volumes.rename(self.volume, &other)?;
                volumes.rename(&other, self.volume).map(drop)
            }
        }
    }

    /// Works until the work has been done often enough, and that of the other
    /// thread, too. To be kept out by the other is all that may go wrong.
    fn run(&self, work: Work, done: &[AtomicUsize; 2]) {
        let enough = || done.iter().all(|it| it.load(Ordering::Relaxed) >= ROUNDS);
        let mut refused = 0;
        for round in 1.. {
            if enough() {
                return;
            }
            match self.work(work, round % 7) {
                Ok(()) => drop(done[self.number].fetch_add(1, Ordering::Relaxed)),
                Err(Error::InUse { holders, .. }) => {
                    assert!(!holders.is_empty());
                    refused += 1;
                }
                Err(Error::NotFound { .. } | Error::NotInTrash { .. }) => refused += 1,
                Err(error) => panic!("{work:?}: {error}"),
            }
            assert!(refused < REFUSALS, "{work:?} comes never to its turn");
        }
    }
}

fn check_is_right(volumes: &dyn Volumes, volume: &VolumeName, kind: Kind) {
    match kind {
        Kind::Directory => {
            let verified = volumes.verify(volume, false).unwrap();
            assert!(verified.was_exact, "{verified:?}");
            assert_eq!(verified.accounted, verified.found, "{verified:?}");
        }
        Kind::Disk => {
            let found = volumes.check(volume, CheckHow::Look).unwrap();
            assert!(found.clean, "{found:?}");
        }
    }
}

fn every_pair(kind: Kind, works: [Work; 6]) {
    let world = World::offline();
    let mut made = Vec::new();
    for (index, first) in works.into_iter().enumerate() {
        for second in &works[index..] {
            let volume = name(&format!("{first:?}-{second:?}"));
            let spec = match kind {
                Kind::Directory => {
                    let mut spec = VolumeSpec::directory(volume.clone());
                    spec.limits.bytes = Some(64.mib());
                    spec
                }
                Kind::Disk => VolumeSpec::disk(volume.clone(), Bytes(8 << 20)),
            };
            world.volumes.create(&spec).unwrap();
            let files = world.volumes.files(&volume).unwrap();
            for number in 0..50 {
                files.write(format!("file-{number}"), "x").unwrap();
            }
            drop(files);
            let done = [AtomicUsize::new(0), AtomicUsize::new(0)];
            let start = Barrier::new(2);
            std::thread::scope(|scope| {
                for (number, work) in [first, *second].into_iter().enumerate() {
                    let worker = Worker {
                        volumes: &*world.volumes,
                        volume: &volume,
                        number,
                    };
                    let (start, done) = (&start, &done);
                    scope.spawn(move || {
                        start.wait();
                        worker.run(work, done);
                    });
                }
            });
            made.push(volume);
        }
    }
    let store = world.dir.join("store");
    drop(world.volumes);
    let volumes = volfs::open(store).unwrap();
    for volume in made {
        check_is_right(&*volumes, &volume, kind);
        let files = volumes.files(&volume).unwrap();
        assert_eq!(files.read_to_string("file-49").unwrap(), "x", "{volume}");
    }
}

#[test]
fn directory_volumes() {
    every_pair(Kind::Directory, OF_DIRECTORIES);
}

#[test]
fn disk_volumes() {
    every_pair(Kind::Disk, OF_DISKS);
}

/// Who has an image in this process, and who not meanwhile.
#[test]
fn an_image_is_one_users() {
    let world = World::offline();
    let volumes = &world.volumes;
    Volume::builder("d")
        .disk()
        .size(16.mib())
        .create(volumes)
        .unwrap();
    let d = name("d");
    let larger = volfs::volume::Change {
        size: Some(Bytes(32 << 20)),
        ..Default::default()
    };
    let refused = |how: &str, result: Result<()>, by: &str| match result {
        Err(Error::InUse { holders, .. }) => {
            assert_eq!(holders[0].pid, Some(std::process::id().cast_signed()));
            assert!(holders[0].to_string().contains(by), "{how}: {}", holders[0]);
        }
        other => panic!("{how}: {other:?}"),
    };
    let others = |by: &str| {
        refused("mend", volumes.check(&d, CheckHow::Mend).map(drop), by);
        refused("look", volumes.check(&d, CheckHow::Look).map(drop), by);
        refused("grow", volumes.change(&d, &larger).map(drop), by);
        for how in [Removal::Empty, Removal::Trash, Removal::Purge] {
            refused("remove", volumes.remove(&d, how), by);
        }
        assert!(volumes.holders(&d).unwrap()[0].to_string().contains(by));
    };

    let source = volumes.source(&d).unwrap();
    let again = volumes.source(&d).unwrap();
    refused("files", volumes.files(&d).map(drop), "a command");
    others("a command");
    drop(source);
    refused("files", volumes.files(&d).map(drop), "a command");
    drop(again);

    let files = volumes.files(&d).unwrap();
    let more = volumes.files(&d).unwrap();
    refused("source", volumes.source(&d).map(drop), "the library");
    others("the library");
    drop(files);
    more.write("f", "x").unwrap();
    let reader = more.read_stream("f").unwrap();
    drop(more);
    others("the library");
    drop(reader);

    assert_eq!(volumes.holders(&d).unwrap(), []);
    volumes.change(&d, &larger).unwrap();
    assert!(volumes.check(&d, CheckHow::Mend).unwrap().clean);
    volumes.remove(&d, Removal::Purge).unwrap();
}

/// A repair beside a writer, for as long as it takes to be in its way.
#[test]
fn a_repair_waits_for_a_writer_and_it_for_the_repair() {
    let world = World::offline();
    let volume = Volume::builder("q")
        .quota(100.mib())
        .create(&world.volumes)
        .unwrap();
    let files = volume.fs().unwrap();
    for i in 0..500 {
        files.write(format!("there-{i}"), "x").unwrap();
    }
    let repairs = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0.. {
                if repairs.load(Ordering::Relaxed) == 50 {
                    break;
                }
                files.write(format!("f{}", i % 200), vec![1; i % 9000]).unwrap();
                if i % 3 == 0 {
                    files.remove(format!("f{}", i % 200)).unwrap();
                }
            }
        });
        for _ in 0..50 {
            let verified = world.volumes.verify(&name("q"), true).unwrap();
            repairs.fetch_add(1, Ordering::Relaxed);
            assert!(verified.was_exact && !verified.repaired, "{verified:?}");
        }
    });
    check_is_right(&*world.volumes, &name("q"), Kind::Directory);
    drop((files, volume, world.volumes));
    let volumes = volfs::open(world.dir.join("store")).unwrap();
    check_is_right(&*volumes, &name("q"), Kind::Directory);
}
