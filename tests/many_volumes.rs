//! Ten thousand volumes: making, listing, finding and mounting cost the same
//! for each, however many there are; and none is in the way of the others on the
//! host's file system.

mod support;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use support::{Mount, OwnFs, run_in};

/// What one size of a store has cost.
struct Row {
    volumes: usize,
    /// Making the ones that are new in this row, each.
    mkdir: Duration,
    /// `ls -l` of the root with a cold cache, each.
    list: Duration,
    /// Finding one by name that the kernel has not in its cache, each.
    lookup: Duration,
    /// Removing one, each.
    rmdir: Duration,
    /// From the start of the daemon to a mount that can be used, in all.
    mount: Duration,
}

fn measure(mount: &mut Mount, have: usize, want: usize) -> Row {
    let start = Instant::now();
    for i in have..want {
        fs::create_dir(mount.join(format!("volume-{i:05}"))).unwrap();
    }
    let mkdir = start.elapsed() / u32::try_from(want - have).unwrap();
    mount.stop();
    let start = Instant::now();
    mount.start();
    let mounted = start.elapsed();

    let sample = want.min(500);
    let start = Instant::now();
    for i in 0..sample {
        let name = format!("volume-{:05}", i * want / sample);
        assert!(fs::metadata(mount.join(name)).unwrap().is_dir());
    }
    let lookup = start.elapsed() / u32::try_from(sample).unwrap();

    mount.stop();
    mount.start();
    let start = Instant::now();
    let listing = run_in(mount.path(), "ls", &["-l"]);
    let list = start.elapsed() / u32::try_from(want).unwrap();
    assert_eq!(listing.lines().count(), want + 1);

    let some = want.min(100);
    let start = Instant::now();
    for i in 0..some {
        fs::remove_dir(mount.join(format!("volume-{i:05}"))).unwrap();
    }
    let rmdir = start.elapsed() / u32::try_from(some).unwrap();
    for i in 0..some {
        fs::create_dir(mount.join(format!("volume-{i:05}"))).unwrap();
    }
    Row {
        volumes: want,
        mkdir,
        list,
        lookup,
        rmdir,
        mount: mounted,
    }
}

#[test]
fn costs_stay_flat() {
    let most: usize = std::env::var("VOLFS_TEST_VOLUMES").map_or(1000, |count| {
        count.parse().expect("VOLFS_TEST_VOLUMES is a number")
    });
    let mut mount = Mount::new();
    let mut rows: Vec<Row> = Vec::new();
    for part in [10, 4, 2, 1] {
        let have = rows.last().map_or(0, |row| row.volumes);
        rows.push(measure(&mut mount, have, most / part));
    }
    println!("volumes   mkdir/each   ls -l/each  lookup/each   rmdir/each   mount");
    for row in &rows {
        println!(
            "{:7} {:>12.1?} {:>12.1?} {:>12.1?} {:>12.1?} {:>7.1?}",
            row.volumes, row.mkdir, row.list, row.lookup, row.rmdir, row.mount
        );
    }
    let (first, last) = (&rows[0], &rows[rows.len() - 1]);
    // Twice is for what else the machine does; a cost that grows with the
    // number of volumes would show as ten times.
    let flat = |what: &str, small: Duration, large: Duration, floor: Duration| {
        assert!(
            large < (small * 2).max(floor),
            "{what}: {small:?} each with {} volumes, {large:?} with {}",
            first.volumes,
            last.volumes
        );
    };
    let floor = Duration::from_micros(300);
    flat("mkdir", first.mkdir, last.mkdir, Duration::from_millis(3));
    flat("ls -l", first.list, last.list, floor);
    flat("lookup", first.lookup, last.lookup, floor);
    flat("rmdir", first.rmdir, last.rmdir, Duration::from_millis(5));
    let share = |row: &Row| row.mount / u32::try_from(row.volumes).unwrap();
    flat("mount", share(first), share(last), floor);
}

/// ext4 looks for a free inode in the block group of the directory. Without a journal
/// it passes by all that were just freed there (`recently_deleted`,
/// fs/ext4/ialloc.c): 20,000 of one volume made a new file in any other take
/// milliseconds.
#[test]
fn each_volume_has_inodes_of_its_own_part_of_ext4() {
    const INODES_PER_GROUP: u64 = 2048;
    let mkfs = ["mkfs.ext4", "-q", "-F", "-O", "^has_journal,^flex_bg", "-N"];
    let inodes = (16 * INODES_PER_GROUP).to_string();
    let mkfs: Vec<&str> = mkfs.into_iter().chain([inodes.as_str()]).collect();
    let host = OwnFs::new(&mkfs, 16 * (128 << 20));
    let mount = Mount::builder().parent(host.path()).start();
    let groups: HashSet<u64> = (0..8)
        .map(|number| {
            let name = format!("v{number}");
            fs::write(mount.volume(&name).join("file"), "text").unwrap();
            let file = fs::metadata(mount.host_path(&name).join("file")).unwrap();
            (file.ino() - 1) / INODES_PER_GROUP
        })
        .collect();
    assert!(groups.len() >= 6, "8 volumes in groups {groups:?}");
}
