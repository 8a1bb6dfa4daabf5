//! SIGKILL of the serving process: whoever uses the mount sees a pause.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Mount, TestDir, poll, wait_for};

#[test]
fn open_files_and_names_go_on() {
    let mount = Mount::builder().supervised().start();
    let dir = mount.volume("v");
    fs::write(dir.join("f"), "before").unwrap();
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(dir.join("f"))
        .unwrap();
    for round in 0..5 {
        let old = mount.serving_pid().unwrap();
        mount.kill_serving();
        // By name, by an open file, and new ones.
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1 + round);
        fs::write(dir.join(format!("new-{round}")), "x").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("before"), "{text}");
        file.write_all(b"+").unwrap();
        wait_for("another process", || {
            mount.serving_pid().is_some_and(|pid| pid != old)
        });
    }
    assert_eq!(fs::read_to_string(dir.join("f")).unwrap(), "before+++++");
}

#[test]
fn work_goes_on_while_it_is_killed_again_and_again() {
    let mount = Mount::builder().supervised().start();
    let dir = mount.volume("v");
    let stop = AtomicBool::new(false);
    let longest = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (dir, stop, longest) = (dir.join(worker.to_string()), &stop, &longest);
            fs::create_dir(&dir).unwrap();
            scope.spawn(move || {
                let mut n = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    let (path, moved) = (dir.join(format!("{n}")), dir.join(format!("{n}-m")));
                    fs::write(&path, n.to_string()).unwrap();
                    assert_eq!(fs::read_to_string(&path).unwrap(), n.to_string());
                    fs::rename(&path, &moved).unwrap();
                    assert_eq!(
                        fs::metadata(&moved).unwrap().len(),
                        n.to_string().len() as u64
                    );
                    fs::remove_file(&moved).unwrap();
                    let took = start.elapsed().as_micros() as u64;
                    longest.fetch_max(took, Ordering::Relaxed);
                    n += 1;
                }
                assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
            });
        }
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(150));
            mount.kill_serving();
        }
        stop.store(true, Ordering::Relaxed);
    });
    eprintln!("longest: {} us", longest.load(Ordering::Relaxed));
}

/// The kernel refuses an open with EIO that has another way to the contents than
/// those it has already (fs/fuse/iomode.c): through its page cache, or straight to
/// a file of the host, and to which.
#[test]
fn an_open_file_keeps_its_way_when_limits_come_and_go() {
    let mount = Mount::builder().supervised().start();
    let path = mount.volume("v").join("f");
    fs::write(&path, "text").unwrap();
    let rewrite = || {
        File::options()
            .create(true)
            .truncate(true)
            .write(true)
            .open(&path)
    };
    let volfs = mount.volfs();
    for upgrade in [true, false] {
        for limited in [true, false] {
            let what = format!("upgrade {upgrade}, limited {limited}");
            volfs.ok(&["set", "v", "--quota", "none"]);
            let straight = File::open(&path).unwrap();
            volfs.ok(&["set", "v", "--quota", "1G"]);
            // Written through the daemon, though others go straight.
            let mut direct = rewrite().unwrap();
            let closed = releases(&mount);
            drop(straight);
            wait_for("the close", || releases(&mount) > closed);
            if upgrade {
                volfs.ok(&["upgrade"]);
            } else {
                let before = mount.serving_pid();
                mount.kill_serving();
                wait_for("another process", || {
                    mount.serving_pid().is_some_and(|pid| Some(pid) != before)
                });
            }
            if !limited {
                volfs.ok(&["set", "v", "--quota", "none"]);
            }
            let mut another = rewrite().unwrap_or_else(|error| panic!("{what}: {error}"));
            direct.write_all(b"one").unwrap();
            another.write_all(b"another").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "another", "{what}");
        }
    }
}

/// As above: killed while an inode is being closed for the last time, and opened
/// again already.
#[test]
fn an_open_file_keeps_its_way_when_the_one_before_it_is_being_closed() {
    let dir = TestDir::new();
    let go = dir.join("go");
    fs::write(&go, "").unwrap();
    let mount = Mount::builder()
        .supervised()
        .env("VOLFS_PAUSE", &format!("live.close.last={}", go.display()))
        .start();
    let image = |name: &str| {
        mount
            .volfs()
            .ok(&["create", name, "--disk", "--size", "64M"]);
        mount.join(format!(".volfs/disks/{name}.raw"))
    };
    let (path, other) = (image("v"), image("other"));
    let straight = || stats(&mount)["open_files_passthrough"].as_u64().unwrap();
    // What is open later is noted before what is open now.
    let other = File::open(other).unwrap();
    let first = File::open(&path).unwrap();
    assert_eq!(straight(), 2);
    let closed = releases(&mount);
    drop(other);
    wait_for("the close", || releases(&mount) > closed);
    fs::remove_file(&go).unwrap();
    drop(first);
    wait_for("the close begins", || straight() == 0);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| File::open(&path).unwrap());
        // It waits for the close, or should have.
        poll(Duration::from_millis(500), || {
            (straight() == 1).then_some(())
        });
        mount.kill_serving();
        fs::write(&go, "").unwrap();
        let _second = second.join().unwrap();
        File::open(&path).unwrap();
    });
}

/// The counters of the process that serves.
fn stats(mount: &Mount) -> serde_json::Value {
    serde_json::from_str(&mount.volfs().ok(&["stats", "--json"])).unwrap()
}

/// How many closes it has had.
fn releases(mount: &Mount) -> u64 {
    let count = &stats(mount)["operations"]["release"]["count"];
    count.as_u64().unwrap_or(0)
}
