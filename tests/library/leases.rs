//! Who may use a volume while somebody else in the same program does, without
//! a daemon: the table of every pair. What comes second is begun while the
//! first is known to be under way, and the first goes on when it is known how
//! the second fares.

use std::fs::File;
use std::sync::Once;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use volfs::model::{Bytes, VolumeName, VolumeSpec};
use volfs::transfer::{self, CloneOptions, ExportOptions, Watch};
use volfs::volume::{Change, CheckHow, Error, Hold, Removal, Result};
use volfs::{Kind, SizeExt, Volume, Volumes};

use crate::support::wait_for;
use crate::{World, name};

/// What is done with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    /// Its files are got, and one is written.
    Files,
    Export,
    Clone,
    Verify,
    Check,
    Mend,
    Grow,
    Remove,
    Rename,
    /// Its limits, or of a disk volume its labels.
    Set,
    Usage,
    /// An empty directory volume becomes a disk volume.
    Convert,
}
use Op::*;

/// How it goes for what comes second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    /// It is done while the first is under way.
    Fine,
    /// It is refused at once, and told that it is this that is in its way.
    Busy(Hold),
    /// It is done when the first has ended; where that was a removal it finds
    /// no volume.
    Waits,
}
use Goes::*;

const BY_FILES: Goes = Busy(Hold::Library);
const BY_COMMAND: Goes = Busy(Hold::Command);

const DIRECTORIES: &[(Op, &[(Op, Goes)])] = &[
    (
        Files,
        &[
            (Files, Fine),
            (Export, Fine),
            (Clone, Fine),
            (Verify, Fine),
            (Rename, Fine),
            (Set, Fine),
            (Usage, Fine),
            (Remove, BY_FILES),
            (Convert, BY_FILES),
        ],
    ),
    (
        Export,
        &[
            (Files, Fine),
            (Export, Fine),
            (Clone, Fine),
            (Verify, Fine),
            (Rename, Fine),
            (Set, Fine),
            (Usage, Fine),
            (Remove, BY_COMMAND),
            (Convert, BY_COMMAND),
        ],
    ),
    (
        Clone,
        &[
            (Files, Fine),
            (Export, Fine),
            (Clone, Fine),
            (Verify, Fine),
            (Rename, Fine),
            (Set, Fine),
            (Usage, Fine),
            (Remove, BY_COMMAND),
            (Convert, BY_COMMAND),
        ],
    ),
];

const READING: &[(Op, Goes)] = &[
    (Files, BY_COMMAND),
    (Export, Fine),
    (Clone, Fine),
    (Check, BY_COMMAND),
    (Mend, BY_COMMAND),
    (Grow, BY_COMMAND),
    (Remove, BY_COMMAND),
    (Rename, Fine),
    (Set, Fine),
    (Usage, Fine),
];

const ALONE: &[(Op, Goes)] = &[
    (Files, Waits),
    (Export, Waits),
    (Clone, Waits),
    (Check, Waits),
    (Mend, Waits),
    (Grow, Waits),
    (Remove, Waits),
    (Rename, Fine),
    (Set, Fine),
    (Usage, Fine),
];

const DISKS: &[(Op, &[(Op, Goes)])] = &[
    (
        Files,
        &[
            (Files, Fine),
            (Export, BY_FILES),
            (Clone, BY_FILES),
            (Check, BY_FILES),
            (Mend, BY_FILES),
            (Grow, BY_FILES),
            (Remove, BY_FILES),
            (Rename, Fine),
            (Set, Fine),
            (Usage, Fine),
        ],
    ),
    (Export, READING),
    (Clone, READING),
    (Check, ALONE),
    (Mend, ALONE),
    (Grow, ALONE),
    (Remove, ALONE),
];

/// Stops what is under way at its first step, until it is to go on.
struct Pause {
    begun: Sender<()>,
    go_on: parking_lot::Mutex<Receiver<()>>,
    once: Once,
}

impl Pause {
    fn here(&self) {
        self.once.call_once(|| {
            self.begun.send(()).unwrap();
            // An error: the test has ended.
            let _ = self.go_on.lock().recv();
        });
    }
}

impl Watch for Pause {
    fn advanced(&self, _bytes: u64) {}

    fn is_stopped(&self) -> bool {
        self.here();
        false
    }
}

fn perform(
    op: Op,
    volumes: &dyn Volumes,
    volume: &VolumeName,
    pause: Option<&Pause>,
) -> Result<()> {
    let which = if pause.is_some() { "first" } else { "second" };
    let watch: &dyn Watch = pause.map_or(&(), |pause| pause);
    let change = |change: Change| volumes.change(volume, &change).map(drop);
    match op {
        Files => {
            let files = volumes.files(volume)?;
            files.write(which, "x")?;
            if let Some(pause) = pause {
                pause.here();
            }
            files.write(which, "more")
        }
        Export => {
            let options = ExportOptions {
                compress: false,
                archive: "nowhere".into(),
                itself: Vec::new(),
            };
            let out = &mut std::io::sink();
            transfer::export(volumes, volume, &options, out, watch).map(drop)
        }
        Clone => {
            let to = name(&format!("{volume}-{which}"));
            let options = CloneOptions::default();
            transfer::clone(volumes, volume, &to, &options, watch).map(drop)
        }
        Verify => {
            let verified = volumes.verify(volume, true)?;
            assert!(verified.was_exact && !verified.repaired, "{verified:?}");
            Ok(())
        }
        Check | Mend => {
            let how = match op {
                Check => CheckHow::Look,
                _ => CheckHow::Mend,
            };
            let found = volumes.check(volume, how)?;
            assert!(found.clean && !found.mended, "{found:?}");
            Ok(())
        }
        Grow => change(Change {
            size: Some(32.mib()),
            ..Change::default()
        }),
        Remove => volumes.remove(volume, Removal::Trash),
        Rename => {
            let to = name(&format!("{volume}-renamed"));
            volumes.rename(volume, &to).map(drop)
        }
        Set if volumes.get(volume)?.kind == Kind::Disk => change(Change {
            set_labels: vec![("key".into(), "value".into())],
            ..Change::default()
        }),
        Set => change(Change {
            quota_bytes: Some(Some(32.mib())),
            ..Change::default()
        }),
        Usage => {
            let listed = volumes.list()?;
            assert!(listed.contains(&volumes.get(volume)?));
            Ok(())
        }
        Convert => change(Change {
            size: Some(16.mib()),
            ..Change::default()
        }),
    }
}

fn is_not_found(result: &Result<()>) -> bool {
    matches!(result, Err(Error::NotFound { .. }))
}

fn pair(world: &World, kind: Kind, (first, second, goes): (Op, Op, Goes)) {
    let volumes = &*world.volumes;
    let volume = name(&format!("{kind}-{first:?}-{second:?}"));
    let spec = match kind {
        Kind::Directory => {
            let mut spec = VolumeSpec::directory(volume.clone());
            spec.limits.bytes = Some(64.mib());
            spec
        }
        Kind::Disk => VolumeSpec::disk(volume.clone(), 16.mib()),
    };
    volumes.create(&spec).unwrap();
    if kind == Kind::Directory {
        let files = volumes.files(&volume).unwrap();
        files.write("there", vec![1; 9000]).unwrap();
    }
    // What has the image alone stops where it waits for a daemon that is gone
    // to let go of it; as fuse2fs does, the test has its lock.
    let lock = matches!(first, Check | Mend | Grow | Remove).then(|| {
        let image = File::open(volumes.get(&volume).unwrap().disk.unwrap().path).unwrap();
        image.try_lock().unwrap();
        image
    });
    let (begun, has_begun) = channel();
    let (go_on, paused) = channel();
    let pause = Pause {
        begun,
        go_on: parking_lot::Mutex::new(paused),
        once: Once::new(),
    };
    std::thread::scope(|scope| {
        let case = format!("{kind}: {second:?} while {first:?}");
        let one = scope.spawn(|| perform(first, volumes, &volume, Some(&pause)));
        match lock {
            Some(_) => wait_for(&case, || !volumes.holders(&volume).unwrap().is_empty()),
            None => has_begun.recv_timeout(Duration::from_secs(20)).unwrap(),
        }
        let (ended, end) = channel();
        let volume = &volume;
        let two = scope.spawn(move || {
            let result = perform(second, volumes, volume, None);
            ended.send(result).unwrap();
        });
        let early = end.recv_timeout(match goes {
            Fine | Busy(_) => Duration::from_secs(20),
            Waits => Duration::from_millis(100),
        });
        drop((lock, go_on));
        let one = one.join().unwrap();
        let late = end.recv_timeout(Duration::from_secs(20));
        two.join().unwrap();
        match (goes, early) {
            (Fine, Ok(result)) => assert!(result.is_ok(), "{case}: {result:?}"),
            (Busy(how), Ok(Err(Error::InUse { name, holders }))) => {
                assert_eq!((holders.len(), holders[0].how), (1, how), "{case}");
                let this = Some(std::process::id().cast_signed());
                assert_eq!(holders[0].pid, this, "{case}");
                let said = Error::InUse { name, holders }.to_string();
                let advice = match how {
                    Hold::Library => "drop its VolumeFs",
                    _ => "try again when that has ended",
                };
                assert!(said.contains(advice), "{case}: {said}");
            }
            (Waits, Err(RecvTimeoutError::Timeout)) => {
                let late = late.unwrap();
                let right = match first {
                    Remove => is_not_found(&late),
                    _ => late.is_ok(),
                };
                assert!(right, "{case}: {late:?}");
            }
            (_, early) => panic!("{case}: {early:?}, not {goes:?}"),
        }
        if (first, second) == (Remove, Rename) {
            assert!(is_not_found(&one), "{case}: {one:?}");
        } else {
            assert_eq!(one, Ok(()), "{case}: the first");
        }
    });
}

fn all_pairs(kind: Kind, table: &[(Op, &[(Op, Goes)])]) {
    let world = World::offline();
    for (first, seconds) in table {
        for (second, goes) in *seconds {
            pair(&world, kind, (*first, *second, *goes));
        }
    }
    let volumes = &world.volumes;
    for left in volumes.list().unwrap() {
        assert_eq!(volumes.holders(&left.name).unwrap(), [], "{}", left.name);
        match left.kind {
            Kind::Directory => {
                let verified = volumes.verify(&left.name, false).unwrap();
                assert!(verified.was_exact && !verified.differs(), "{verified:?}");
            }
            Kind::Disk => {
                let found = volumes.check(&left.name, CheckHow::Look).unwrap();
                assert!(found.clean, "{found:?}");
            }
        }
    }
}

#[test]
fn pairs_at_a_directory_volume() {
    all_pairs(Kind::Directory, DIRECTORIES);
}

#[test]
fn pairs_at_a_disk_volume() {
    all_pairs(Kind::Disk, DISKS);
}

/// A use lasts as long as anything of it does, and the store with it.
#[test]
fn a_use_ends_with_the_last_of_it() {
    let world = World::offline();
    let volumes = &world.volumes;
    let disk = Volume::builder("d").disk().size(16.mib());
    drop(disk.create(volumes).unwrap());
    let d = name("d");
    let is_in_use = |how: Hold| {
        let removed = volumes.remove(&d, Removal::Purge);
        matches!(removed, Err(Error::InUse { holders, .. }) if holders[0].how == how)
    };

    let source = volumes.source(&d).unwrap();
    let again = volumes.source(&d).unwrap();
    drop(source);
    assert!(is_in_use(Hold::Command));
    drop(again);

    let files = volumes.files(&d).unwrap();
    let more = volumes.files(&d).unwrap();
    drop(files);
    more.write("f", "x").unwrap();
    let reader = more.read_stream("f").unwrap();
    drop(more);
    assert!(is_in_use(Hold::Library));
    drop(reader);

    let source = volumes.source(&d).unwrap();
    let store = world.dir.join("store");
    drop(world.volumes);
    let locked = volfs::open(&store).map(drop).unwrap_err();
    assert!(matches!(locked, Error::Locked { .. }), "{locked:?}");
    drop(source);
    let volumes = volfs::open(&store).unwrap();
    assert_eq!(volumes.get(&d).unwrap().disk.unwrap().size, Bytes(16 << 20));
    volumes.remove(&d, Removal::Purge).unwrap();
}
