//! The daemon killed under load: afterwards usage is what a walk finds, and
//! what fsync has acknowledged is there.
//!
//! `VOLFS_LONG=1` kills 50 times.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::{Mount, poll, tree, wait_for};

/// What a writer knows to be on disk: the file, and how many bytes of it.
struct Acknowledged {
    path: PathBuf,
    seed: u64,
    len: usize,
}

/// What the file of a seed holds.
fn contents(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (at.wrapping_mul(31) ^ (at >> 8) ^ seed) as u8)
        .collect()
}

/// Makes, extends, cuts, replaces and removes files until the daemon is gone.
fn write_until_killed(dir: &Path, writer: u64, round: u64, kept: &mut Vec<Acknowledged>) {
    fs::create_dir_all(dir).unwrap();
    for n in 0.. {
        let seed = writer << 40 | round << 20 | n;
        let path = dir.join(format!("{round}-{n}"));
        if write_one(dir, &path, seed, n, kept).is_err() {
            return;
        }
    }
}

fn write_one(
    dir: &Path,
    path: &Path,
    seed: u64,
    n: u64,
    kept: &mut Vec<Acknowledged>,
) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .read(true)
        .create_new(true)
        .open(path)?;
    let data = contents(seed, 1 + (seed as usize * 7919) % 40_000);
    let (first, rest) = data.split_at(data.len() / 2);
    file.write_all(first)?;
    if n.is_multiple_of(3) {
        file.sync_all()?;
        kept.push(Acknowledged {
            path: path.to_owned(),
            seed,
            len: first.len(),
        });
    }
    file.write_all(rest)?;
    if n.is_multiple_of(3) {
        file.sync_data()?;
        kept.last_mut().unwrap().len = data.len();
    }
    match n % 7 {
        1 => file.set_len(10)?,
        2 => {
            // A hoard without a name.
            fs::remove_file(path)?;
            file.write_at(&[1], 1 << 20)?;
        }
        4 => fs::rename(path, dir.join("replaced"))?,
        5 => fs::hard_link(path, dir.join(format!("link-{seed}")))?,
        _ => {}
    }
    if n % 21 == 3 {
        // Emptied and removed, so that the volume does not fill up.
        for entry in fs::read_dir(dir)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("link-") {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

fn used(mount: &Mount, volume: &str) -> (u64, u64, bool) {
    let all = mount.volfs().list();
    let found = all.iter().find(|v| v["name"] == volume).unwrap();
    (
        found["used"]["bytes"].as_u64().unwrap(),
        found["used"]["inodes"].as_u64().unwrap(),
        found["used_is_exact"].as_bool().unwrap(),
    )
}

/// Usage once the volume has been counted.
fn counted(mount: &Mount, volume: &str) -> (u64, u64) {
    let exact = poll(Duration::from_secs(60), || {
        let (bytes, inodes, exact) = used(mount, volume);
        exact.then_some((bytes, inodes))
    });
    exact.unwrap_or_else(|| panic!("{volume} is not counted\n{}", mount.daemon_log()))
}

#[test]
fn killed_at_random_moments() {
    let rounds = if std::env::var_os("VOLFS_LONG").is_some() {
        50
    } else {
        10
    };
    let mut mount = Mount::new();
    mount.volfs().ok(&[
        "create",
        "limited",
        "--quota",
        "1G",
        "--quota-inodes",
        "1000000",
    ]);
    mount.volfs().ok(&["create", "free"]);
    let hosts = [mount.host_path("limited"), mount.host_path("free")];
    // Different each time; the sequence of one run is in its output.
    let mut random = Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id());
    let mut kept: Vec<Vec<Acknowledged>> = (0..4).map(|_| Vec::new()).collect();
    for round in 0..rounds {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_micros(30_000 + (random >> 33) % 400_000);
        let limited = mount.join("limited");
        let free = mount.join("free");
        std::thread::scope(|scope| {
            for (writer, kept) in kept.iter_mut().enumerate() {
                let volume = if writer < 3 { &limited } else { &free };
                let dir = volume.join(format!("writer-{writer}"));
                scope.spawn(move || write_until_killed(&dir, writer as u64, round, kept));
            }
            // The moment of the kill is what is random, not a wait for something.
            std::thread::sleep(moment);
            mount.kill();
        });
        mount.start();
        for (volume, host) in ["limited", "free"].iter().zip(&hosts) {
            let usage = counted(&mount, volume);
            assert_eq!(
                usage,
                tree::charged(host),
                "round {round}, killed after {moment:?}: {volume}\n{}",
                mount.daemon_log()
            );
        }
        for it in kept.iter().flatten() {
            check_acknowledged(it, round, moment);
        }
        println!(
            "round {round}: killed after {moment:?}, {} files acknowledged so far",
            kept.iter().map(Vec::len).sum::<usize>()
        );
    }
    assert!(kept.iter().all(|kept| !kept.is_empty()));
    mount.volfs().ok(&["verify"]);
    assert_eq!(mount.daemon_complaints(), "");
}

fn check_acknowledged(it: &Acknowledged, round: u64, moment: Duration) {
    let n = it.seed & 0xf_ffff;
    let mut found = Vec::new();
    match File::open(&it.path) {
        Ok(mut file) => {
            file.read_to_end(&mut found).unwrap();
        }
        // Removed or renamed by its own writer.
        Err(_) if n % 7 == 2 || n % 7 == 4 => return,
        Err(error) => panic!("round {round}: {:?}: {error}", it.path),
    }
    // Cut by its own writer.
    let len = if n % 7 == 1 { it.len.min(10) } else { it.len };
    assert!(
        found.len() >= len && found[..len] == contents(it.seed, len),
        "round {round}, killed after {moment:?}: {:?} has {} bytes, {len} were acknowledged",
        it.path,
        found.len()
    );
}

/// A volume that is counted when the mount starts, for as long as the returned
/// file does not exist.
fn being_counted(mount: &mut Mount) -> PathBuf {
    mount.volfs().ok(&["create", "big", "--quota", "64M"]);
    mount.volfs().ok(&["create", "other", "--quota", "64M"]);
    fs::write(mount.join("big/old"), vec![7; 10_000]).unwrap();
    let host = mount.host_path("big");
    mount.kill();
    // What the account does not know of.
    for dir in 0..20 {
        fs::create_dir(host.join(format!("d{dir}"))).unwrap();
        for file in 0..100 {
            fs::write(host.join(format!("d{dir}/{file}")), "x").unwrap();
        }
    }
    let go = mount.dir().join("go");
    mount.set_env("VOLFS_PAUSE", &format!("count.begun={}", go.display()));
    mount.start();
    go
}

#[test]
fn reads_go_on_while_a_volume_is_counted_and_growth_waits() {
    let mut mount = Mount::new();
    let go = being_counted(&mut mount);
    assert!(
        !used(&mount, "big").2,
        "it is said to be exact before it is counted"
    );
    let big = mount.join("big");
    assert_eq!(fs::read(big.join("old")).unwrap(), vec![7; 10_000]);
    assert_eq!(fs::read_dir(&big).unwrap().count(), 21);
    assert_eq!(fs::read(big.join("d3/14")).unwrap(), b"x");
    rustix::fs::statvfs(&big).unwrap();

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let wait = |what: &'static str, act: &(dyn Fn() + Sync)| {
            act();
            done.store(true, Ordering::SeqCst);
            what
        };
        let new = big.join("new");
        let writer = scope.spawn(move || {
            wait("write", &|| fs::write(&new, vec![1; 5000]).unwrap());
        });
        // Meanwhile another volume takes hundreds of changes.
        let start = Instant::now();
        for n in 0..200 {
            fs::write(mount.join(format!("other/{n}")), vec![2; 5000]).unwrap();
        }
        println!("200 files in the other volume took {:?}", start.elapsed());
        assert!(
            !done.load(Ordering::SeqCst),
            "growth did not wait for the count"
        );
        File::create(&go).unwrap();
        writer.join().unwrap();
    });
    assert_eq!(fs::read(big.join("new")).unwrap(), vec![1; 5000]);
    assert_eq!(
        counted(&mount, "big"),
        tree::charged(&mount.host_path("big"))
    );
    assert_eq!(counted(&mount, "big").1, 1 + 20 + 2000 + 1);
    assert_eq!(mount.daemon_complaints(), "");
}

#[test]
fn the_progress_of_a_count_is_shown() {
    let mut mount = Mount::new();
    let go = being_counted(&mut mount);
    let listing = mount.volfs().ok(&["ls"]);
    let line = listing
        .lines()
        .find(|line| line.starts_with("big"))
        .unwrap();
    assert!(line.contains('~'), "{listing}");
    File::create(&go).unwrap();
    counted(&mount, "big");
    let listing = mount.volfs().ok(&["ls"]);
    assert!(!listing.contains('~'), "{listing}");
}

#[test]
fn a_clean_end_needs_no_count() {
    let mut mount = Mount::new();
    mount.volfs().ok(&["create", "limited", "--quota", "64M"]);
    mount.volfs().ok(&["create", "free"]);
    for round in 0..5 {
        for volume in ["limited", "free"] {
            fs::write(mount.join(format!("{volume}/{round}")), vec![1; 9000]).unwrap();
        }
        mount.stop();
        for volume in ["limited", "free"] {
            let (bytes, inodes, exact) = used(&mount, volume);
            assert!(exact, "{volume} is not exact after a clean end");
            assert_eq!(
                (bytes, inodes),
                ((round + 1) * 12288, round + 1),
                "{volume}"
            );
        }
        mount.start();
        assert!(
            !mount.daemon_log().contains("counted"),
            "{}",
            mount.daemon_log()
        );
    }
}

#[test]
fn a_volume_out_of_the_trash_is_counted_before_it_grows() {
    let mut mount = Mount::new();
    mount.volfs().ok(&["create", "v", "--quota", "64K"]);
    fs::write(mount.join("v/a"), vec![1; 40_000]).unwrap();
    let host = mount.host_path("v");
    mount.kill();
    fs::write(host.join("b"), vec![1; 16_000]).unwrap();
    mount.set_env("VOLFS_PAUSE", "count.begun=/nonexistent");
    mount.start();
    // Goes to the trash uncounted, and comes back.
    mount.volfs().ok(&["rm", "v"]);
    mount.kill();
    mount.unset_env("VOLFS_PAUSE");
    mount.start();
    mount.volfs().ok(&["trash", "restore", "v"]);
    let refused = fs::write(mount.join("v/c"), vec![1; 16_000]).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(counted(&mount, "v"), tree::charged(&mount.host_path("v")));
}

#[test]
fn verify_finds_and_repairs_a_difference_under_use() {
    let mut mount = Mount::new();
    mount.volfs().ok(&["create", "v", "--quota", "10M"]);
    mount.volfs().ok(&["create", "w", "--quota", "10M"]);
    fs::write(mount.join("v/a"), vec![1; 40_000]).unwrap();
    assert!(mount.volfs().ok(&["verify"]).contains("v: ok"));
    // Open, without a name: charged, and found by no walk.
    let mut hoard = File::create(mount.join("v/h")).unwrap();
    hoard.write_all(&[1; 100_000]).unwrap();
    fs::remove_file(mount.join("v/h")).unwrap();
    mount.volfs().ok(&["verify", "v"]);
    // Behind the daemon's back.
    fs::write(mount.host_path("v").join("b"), vec![1; 5000]).unwrap();
    let answer = mount.volfs().run(&["verify", "--json"]);
    assert_eq!(answer.code, Some(1), "{}{}", answer.out, answer.err);
    let told: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(told[0]["accounted"]["bytes"], 40_960 + 102_400);
    assert_eq!(told[0]["found"]["bytes"], 40_960 + 102_400 + 8192);
    assert_eq!(told[1]["accounted"], told[1]["found"]);
    assert_eq!(mount.volfs().run(&["verify", "v"]).code, Some(1));
    // While others write to it.
    let stop = AtomicBool::new(false);
    let wrote = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let path = mount.join("v/busy");
        let (stop, wrote) = (&stop, &wrote);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                fs::write(&path, vec![1; 30_000]).unwrap();
                fs::remove_file(&path).unwrap();
                wrote.fetch_add(1, Ordering::Relaxed);
            }
        });
        wait_for("writes", || wrote.load(Ordering::Relaxed) > 3);
        let told = mount.volfs().run(&["verify", "--repair", "v"]);
        for _ in 0..20 {
            let answer = mount.volfs().run(&["verify", "v"]);
            if answer.code != Some(0) {
                stop.store(true, Ordering::Relaxed);
                panic!(
                    "{}{} after {}{}",
                    answer.out, answer.err, told.out, told.err
                );
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(told.code, Some(0), "{}{}", told.out, told.err);
    });
    drop(hoard);
    wait_for("the hoard is given back", || {
        used(&mount, "v").0 == tree::charged(&mount.host_path("v")).0
    });
    mount.stop();
    mount.volfs().ok(&["verify"]);
    fs::write(mount.host_path("w").join("b"), vec![1; 5000]).unwrap();
    assert_eq!(mount.volfs().run(&["verify", "w"]).code, Some(1));
    mount.volfs().ok(&["verify", "w", "--repair"]);
    mount.volfs().ok(&["verify"]);
    assert_eq!(used(&mount, "w"), (8192, 1, true));
    mount.volfs().fails(1, &["verify", "no-such"]);
}
