//! Power cuts: what was acknowledged before one is there after it, and nothing is half done.
//!
//! The store lies on ext4 on a loop device over a file of [`recorder::Recorder`], which writes
//! down every block that reaches the disk and every flush. A power cut at some point of that
//! record is a disk that has all that was written before the last flush, and of what was written
//! after it some blocks, some not, and some in part: that is what a disk with a volatile cache may
//! leave. Each such disk is mounted, by the host's ext4 and by volfs, and compared with what the
//! load had been told was done by then.
//!
//! `VOLFS_LONG=1` makes 200 cuts; `VOLFS_TEST_SEED` repeats a run's choices (not its timing).

#[path = "../support/mod.rs"]
mod support;

mod check;
mod load;
mod model;
mod recorder;

use std::sync::Arc;

use check::Disk;
use recorder::{Log, Recorder};
use support::TestDir;
use support::proc::own_mount_namespace;
use support::random::Random;

/// The size of the disk that the store is on, in bytes.
const DISK_BYTES: u64 = 768 << 20;

fn cuts(few: usize) -> usize {
    if std::env::var_os("VOLFS_LONG").is_some() {
        200
    } else {
        few
    }
}

#[test]
fn acknowledged_work_survives() {
    own_mount_namespace();
    let seed = Random::seed();
    let (cuts, steps) = (cuts(14), if cuts(0) > 0 { 400 } else { 60 });
    println!("seed {seed}, {cuts} cuts");
    let dir = TestDir::new();
    let disk = Disk::new(&dir);
    let log = Arc::new(Log::new(&dir.join("log")));
    // What was there before the recorder is there at every cut.
    std::fs::copy(disk.image(), dir.join("cut")).unwrap();
    let recorder = Recorder::start(disk.image(), &dir, Arc::clone(&log));
    let done = disk.with_store(recorder.file(), |world| load::run(world, &log, seed, steps));
    drop(recorder);

    let mut random = Random::new(seed);
    let first = done.begun;
    let mut at: Vec<usize> = (0..cuts)
        .map(|_| first + random.below(log.len() - first))
        .collect();
    at.sort_unstable();
    let mut cut = log.replay(&dir.join("cut"));
    for &at in &at {
        let image = cut.image_at(at, &mut random, &dir.join("crashed"));
        disk.with_store(&image, |world| check::compare(world, &done, at));
    }
    let (writes, flushes) = log.counts();
    println!(
        "{} operations, {writes} writes, {flushes} flushes; {cuts} power cuts, nothing lost",
        done.len()
    );
}
