//! Stores on a disk that is full: what makes room works, whoever keeps the disk
//! full meanwhile, and it is said that the disk is full.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Mount, OwnFs, Volfs, wait_for};

const MIB: usize = 1 << 20;

/// Small file systems of every kind.
fn each_host(mut check: impl FnMut(&str, OwnFs)) {
    let loops: [(&str, u64, &[&str]); 4] = [
        ("ext4", 200, &["mkfs.ext4", "-qFm0"]),
        (
            "ext4 with clusters",
            200,
            &["mkfs.ext4", "-qFm0", "-O", "bigalloc", "-C", "65536"],
        ),
        ("xfs", 320, &["mkfs.xfs", "-q"]),
        ("btrfs", 1024, &["mkfs.btrfs", "-q"]),
    ];
    for (name, mib, mkfs) in loops {
        println!("--- {name}");
        check(name, OwnFs::new(mkfs, mib << 20));
    }
    println!("--- tmpfs");
    check("tmpfs", OwnFs::tmpfs("size=128m"));
}

/// Takes whatever is free, until it is told to stop.
fn greedy(path: &Path, stop: &AtomicBool) {
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    let bytes = vec![0x5a; 65_536];
    while !stop.load(Ordering::Relaxed) {
        for some in [65_536, 4096, 512] {
            let _ = file.write(&bytes[..some]);
        }
    }
}

/// Whatever happens meanwhile.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn allocate(file: &File, bytes: u64) {
    // SAFETY: an open file and plain numbers.
    let done = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes.cast_signed()) };
    assert_eq!(done, 0);
}

fn available(path: &Path) -> u64 {
    let found = nix::sys::statvfs::statvfs(path).unwrap();
    // Below 0 for a moment on some file systems.
    let blocks = found.blocks_available().cast_signed().max(0);
    blocks.cast_unsigned() * found.fragment_size()
}

/// Fills a file system, to the last byte.
fn fill(path: &Path) {
    let file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    for some in [MIB, 65_536, 4096, 512] {
        let bytes = vec![0x5a; some];
        while (&file).write(&bytes).is_ok() {}
    }
    // What is allocated when it is written.
    let _ = file.sync_all();
    for some in [4096, 512] {
        let bytes = vec![0x5a; some];
        while (&file).write(&bytes).is_ok() && file.sync_all().is_ok() {}
    }
}

fn clean_while_full(volfs: &Volfs, mount: &Mount, name: &str) {
    for n in 0..40 {
        let one = format!("small-{n}");
        match n % 4 {
            0 => volfs.ok(&["rm", "--purge", &one]),
            1 => volfs.ok(&["rm", &one]),
            2 => volfs.ok(&["set", &one, "--label", "a=b", "--quota", "1M"]),
            _ => {
                fs::remove_dir(mount.join(&one)).unwrap_or_else(|error| {
                    let why = fs::read_to_string(mount.join(".volfs/last_error"));
                    panic!("{name}, {one}: {error}: {why:?}");
                });
                String::new()
            }
        };
    }
    for n in 0..3 {
        let one = format!("large-{n}");
        volfs.ok(&["rm", "--purge", &one]);
        // So that whoever wants the space has it.
        std::thread::sleep(Duration::from_millis(300));
    }
    fs::remove_file(mount.join("kept/file")).unwrap_or_else(|e| panic!("{name}: {e}"));
    volfs.ok(&["config", "trash.retention", "30d"]);
    volfs.ok(&["trash", "empty", "--wait", "--yes"]);
}

#[test]
fn a_store_that_is_kept_full_can_be_cleaned() {
    each_host(|name, host| {
        let mut mount = Mount::builder().parent(host.path()).start();
        let volfs = mount.volfs();
        let greed = mount.volume("greedy");
        for n in 0..40 {
            mount.volume(&format!("small-{n}"));
        }
        for n in 0..3 {
            let dir = mount.volume(&format!("large-{n}"));
            fs::write(dir.join("file"), vec![1; MIB]).unwrap();
        }
        fs::write(mount.volume("kept").join("file"), vec![1; MIB]).unwrap();
        let large = File::create(greed.join("large")).unwrap();
        let most = available(host.path()).saturating_sub(12 << 20);
        allocate(&large, most);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _stop = StopAtEnd(&stop);
            scope.spawn(|| greedy(&greed.join("f"), &stop));
            let start = Instant::now();
            while available(host.path()) > 768 << 10 || start.elapsed() < Duration::from_secs(1) {
                assert!(start.elapsed() < Duration::from_secs(60), "never full");
                std::thread::sleep(Duration::from_millis(100));
            }
            clean_while_full(&volfs, &mount, name);
        });
        drop(large);
        // Who has kept it full can go as well, also after a new start.
        mount.remount();
        volfs.ok(&["rm", "--purge", "--wait", "greedy"]);
        wait_for("space again", || available(host.path()) > 32 << 20);
        mount.volume("again");
        mount.stop();
    });
}

#[test]
fn a_store_without_a_mount_on_a_full_disk_can_be_cleaned() {
    each_host(|_, host| {
        let store = host.path().join("store");
        let volfs = Volfs::new(&store);
        for n in 0..4 {
            let name = format!("v{n}");
            volfs.ok(&["create", &name]);
            let path = volfs.ok(&["path", "--unmounted", &name]);
            fs::write(Path::new(path.trim_end()).join("file"), vec![1; MIB]).unwrap();
        }
        let filler = host.path().join("filler");
        for n in 0..4 {
            fill(&filler);
            let name = format!("v{n}");
            volfs.ok(&["set", &name, "--label", "a=b"]);
            match n % 2 {
                0 => volfs.ok(&["rm", "--purge", "--wait", &name]),
                _ => volfs.ok(&["rm", &name]),
            };
        }
        fill(&filler);
        volfs.ok(&["trash", "empty", "--wait", "--yes"]);
        assert_eq!(volfs.names(), [""; 0]);
    });
}

#[test]
fn a_full_disk_is_told_as_that() {
    let host = OwnFs::new(&["mkfs.ext4", "-qFm0"], 64 << 20);
    let mount = Mount::builder().parent(host.path()).start();
    let volfs = mount.volfs();
    volfs.ok(&["create", "a"]);
    volfs.ok(&["create", "b", "--quota", "40M"]);
    volfs.ok(&["create", "c", "--quota", "1M"]);
    let reason = || fs::read_to_string(mount.join(".volfs/last_error")).unwrap();
    let fill = |name: &str| {
        let file = File::create(mount.join(name).join("f")).unwrap();
        let bytes = vec![1; 65_536];
        let mut at = 0;
        let error = loop {
            match file.write_at(&bytes, at) {
                Ok(written) => at += written as u64,
                Err(error) => break error,
            }
        };
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        at
    };
    // Its own limit.
    assert_eq!(fill("c"), 1 << 20);
    assert!(reason().starts_with("volume \"c\" cannot hold that: it has 1048576 of 1048576 bytes"));
    let large = File::create(mount.join("a/large")).unwrap();
    let left = available(host.path());
    allocate(&large, left - (12 << 20));
    let written = fill("b");
    assert!(written < 16 << 20, "{written}");
    let share = written * 100 / (40 << 20);
    let said = reason();
    println!("{said}");
    assert!(said.starts_with("the store's disk is full: "), "{said}");
    assert!(
        said.contains(&format!("volume \"b\" is at {share} % of its own limit")),
        "{said}"
    );
    let events = volfs.ok(&["events"]);
    let told = format!("the store's disk is full; volume b is at {share}% of its own limit");
    assert_eq!(events.matches(&told).count(), 1, "{events}");
    assert!(mount.daemon_log().contains(&told));
    let metrics = volfs.ok(&["metrics"]);
    let figure = |name: &str| -> u64 {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(figure("volfs_store_full_refusals_total") >= 1);
    assert!(figure("volfs_store_available_bytes") < 1 << 20);
    assert!(figure("volfs_store_size_bytes") > 32 << 20);
}
