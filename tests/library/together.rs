//! Two threads of one program at one volume, without a daemon: whatever they
//! do, what they find is whole, and what is left is right.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use volfs::model::{Bytes, InvalidSpec, VolumeName, VolumeSpec};
use volfs::transfer::{self, CloneOptions, ExportOptions};
use volfs::volume::{Change, CheckHow, Error, Removal, Result};
use volfs::{Kind, SizeExt, Volume, Volumes};

use crate::support::poll;
use crate::{World, name};

/// What a thread does over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Write,
    Verify,
    Mend,
    Grow,
    Quota,
    Usage,
    Export,
    Clone,
    Remove,
    Rename,
}

const OF_DIRECTORIES: [Work; 8] = [
    Work::Write,
    Work::Verify,
    Work::Quota,
    Work::Usage,
    Work::Export,
    Work::Clone,
    Work::Remove,
    Work::Rename,
];
const OF_DISKS: [Work; 8] = [
    Work::Write,
    Work::Mend,
    Work::Grow,
    Work::Usage,
    Work::Export,
    Work::Clone,
    Work::Remove,
    Work::Rename,
];

/// How often each of two threads does its work.
const ROUNDS: usize = 3;

/// How long it may be refused before it must have been done: the other comes to
/// an end long before.
const PATIENCE: Duration = Duration::from_secs(100);

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
            Work::Grow => {
                let now = volumes.get(self.volume)?.disk.unwrap().size;
                let change = Change {
                    size: Some(Bytes(now.0 + (1 << 20))),
                    ..Change::default()
                };
                match volumes.change(self.volume, &change) {
                    // The other has made it larger than that since.
                    Err(Error::InvalidSpec(InvalidSpec::Shrink { .. })) => Ok(()),
                    changed => changed.map(drop),
                }
            }
            Work::Quota => {
                let limit = (32 + round as u64).mib();
                let change = Change {
                    quota_bytes: Some(Some(limit)),
                    ..Change::default()
                };
                volumes.change(self.volume, &change).map(drop)
            }
            Work::Usage => {
                let info = volumes.get(self.volume)?;
                // At least what it had before it all began.
                assert!(info.used.inodes >= 50, "{info:?}");
                Ok(())
            }
            Work::Export => {
                let options = ExportOptions {
                    compress: false,
                    archive: "nowhere".into(),
                    itself: Vec::new(),
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

    /// Works until the work has been done often enough. To be kept out by the
    /// other is all that may go wrong, and not for ever: it comes to an end.
    fn run(&self, work: Work) {
        for round in 0..ROUNDS {
            let done = poll(PATIENCE, || match self.work(work, round) {
                Ok(()) => Some(()),
                Err(Error::InUse { holders, .. }) => {
                    assert!(!holders.is_empty());
                    None
                }
                Err(Error::NotFound { .. } | Error::NotInTrash { .. }) => None,
                Err(error) => panic!("{work:?}: {error}"),
            });
            assert!(done.is_some(), "{work:?} comes never to its turn");
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

fn every_pair(kind: Kind, works: [Work; 8]) {
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
            let start = Barrier::new(2);
            std::thread::scope(|scope| {
                for (number, work) in [first, *second].into_iter().enumerate() {
                    let worker = Worker {
                        volumes: &*world.volumes,
                        volume: &volume,
                        number,
                    };
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        worker.run(work);
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
    let writes = AtomicUsize::new(0);
    let verified: Vec<_> = std::thread::scope(|scope| {
        let verifier = scope.spawn(|| {
            let go_on = |_: &_| writes.load(Ordering::Relaxed) < 3000;
            std::iter::repeat_with(|| world.volumes.verify(&name("q"), true).unwrap())
                .take_while(go_on)
                .collect()
        });
        for i in 0..3000 {
            let file = format!("f{}", i % 200);
            files.write(&file, vec![1; i % 9000]).unwrap();
            if i % 3 == 0 {
                files.remove(&file).unwrap();
            }
            writes.fetch_add(1, Ordering::Relaxed);
        }
        verifier.join().unwrap()
    });
    assert!(!verified.is_empty(), "no repair came to its turn");
    for one in verified {
        assert!(one.was_exact && !one.repaired, "{one:?}");
    }
    check_is_right(&*world.volumes, &name("q"), Kind::Directory);
    drop((files, volume, world.volumes));
    let volumes = volfs::open(world.dir.join("store")).unwrap();
    check_is_right(&*volumes, &name("q"), Kind::Directory);
}
