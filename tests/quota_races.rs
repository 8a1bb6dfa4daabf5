//! Sixteen processes against one limit on a real mount: never a byte or an
//! inode above it at any sampled moment, and when they have ended usage is
//! what a walk finds.
//!
//! `VOLFS_LONG=1` races for 10 s instead of 3.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::{Mount, poll, tree};

const RACERS: u64 = 16;
const LIMIT_BYTES: u64 = 2 << 20;
const LIMIT_INODES: u64 = 120;

fn duration() -> Duration {
    let long = std::env::var_os("VOLFS_LONG").is_some();
    Duration::from_secs(if long { 10 } else { 3 })
}

/// What a racer may be told, in a race over the same names.
fn is_expected(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSPC | libc::ENOENT | libc::EEXIST | libc::ENOTEMPTY)
    )
}

struct Racer {
    dir: PathBuf,
    random: u64,
    open: Vec<File>,
    /// What was tried last, by its number in `act`.
    kind: u64,
    refused: u64,
    done: u64,
}

impl Racer {
    fn below(&mut self, n: u64) -> u64 {
        // xorshift64* (Vigna 2016).
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }

    /// Names that all racers use.
    fn path(&mut self) -> PathBuf {
        let name = format!("f{}", self.below(24));
        self.dir.join(name)
    }

    fn act(&mut self) -> std::io::Result<()> {
        let path = self.path();
        let (offset, len) = (self.below(200_000), 1 + self.below(60_000) as usize);
        self.kind = self.below(14);
        match self.kind {
            0..4 => {
                let file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(path)?;
                file.write_at(&vec![1; len], offset)?;
                if self.open.len() < 4 {
                    self.open.push(file);
                }
            }
            4 => {
                let mut file = OpenOptions::new().append(true).create(true).open(path)?;
                file.write_all(&vec![2; len])?;
            }
            5 => OpenOptions::new().write(true).open(path)?.set_len(offset)?,
            6 => drop(File::create(path)?),
            7 => fs::remove_file(path)?,
            8 => {
                let other = self.path();
                fs::rename(path, other)?;
            }
            9 => {
                let name = format!("d{}", self.below(8));
                let dir = self.dir.join(name);
                if self.below(2) == 0 {
                    fs::create_dir(dir)?;
                } else {
                    fs::remove_dir(dir)?;
                }
            }
            10 => {
                let name = format!("own-{}-{}", std::process::id(), self.below(4));
                let path = self.dir.join(name);
                // Open without a name, until it is closed below.
                let file = File::create_new(&path)?;
                let wrote = file.write_at(&vec![3; len], 0);
                fs::remove_file(&path)?;
                self.open.push(file);
                wrote?;
            }
            11 => {
                let other = self.path();
                fs::hard_link(path, other)?;
            }
            12 => {
                if let Some(file) = self.open.last() {
                    let mode = nix::fcntl::FallocateFlags::empty();
                    nix::fcntl::fallocate(file, mode, offset as i64, len as i64)?;
                }
            }
            _ => {
                if !self.open.is_empty() {
                    self.open.swap_remove(0);
                }
            }
        }
        Ok(())
    }
}

#[test]
#[ignore = "the races start it, as a process of its own"]
fn racer() {
    let seed: u64 = std::env::var("VOLFS_RACER_SEED").unwrap().parse().unwrap();
    let mut racer = Racer {
        dir: std::env::var_os("VOLFS_RACER_DIR").unwrap().into(),
        random: seed,
        open: Vec::new(),
        kind: 0,
        refused: 0,
        done: 0,
    };
    let time: u64 = std::env::var("VOLFS_RACER_MS").unwrap().parse().unwrap();
    let end = Instant::now() + Duration::from_millis(time);
    while Instant::now() < end {
        match racer.act() {
            Ok(()) => racer.done += 1,
            Err(error) if is_expected(&error) => racer.refused += 1,
            Err(error) => panic!(
                "seed {seed}, act {} after {} acts: {error}",
                racer.kind, racer.done
            ),
        }
    }
    println!("racer: {} done, {} refused", racer.done, racer.refused);
}

/// Processes that end with the test.
struct Racers(Vec<Child>);

impl Drop for Racers {
    fn drop(&mut self) {
        for racer in &mut self.0 {
            let _ = racer.kill();
            let _ = racer.wait();
        }
    }
}

fn start_racers(dir: &Path, time: Duration) -> Racers {
    let first = u64::from(std::process::id()) << 16;
    println!("seeds from {}", first + 1);
    let racers = (1..=RACERS)
        .map(|n| {
            Command::new(std::env::current_exe().unwrap())
                .args(["racer", "--exact", "--ignored", "--nocapture"])
                .env("VOLFS_RACER_DIR", dir)
                .env("VOLFS_RACER_SEED", (first + n).to_string())
                .env("VOLFS_RACER_MS", time.as_millis().to_string())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    Racers(racers)
}

fn end_racers(mut racers: Racers) {
    let (mut done, mut refused) = (0, 0);
    for racer in std::mem::take(&mut racers.0) {
        let out = racer.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "a racer failed: {said}");
        let line = said
            .lines()
            .find_map(|line| line.split_once("racer: "))
            .unwrap()
            .1;
        let mut figures = line.split(' ').filter_map(|word| word.parse::<u64>().ok());
        done += figures.next().unwrap();
        refused += figures.next().unwrap();
    }
    println!("{done} acts done, {refused} refused");
    assert!(
        done > 500 && refused > 50,
        "{done} done, {refused} refused: no race"
    );
}

fn figure(path: &Path, name: &str) -> u64 {
    let mut buffer = [0; 64];
    let len = rustix::fs::getxattr(path, name, &mut buffer).unwrap();
    std::str::from_utf8(&buffer[..len])
        .unwrap()
        .parse()
        .unwrap()
}

fn usage(volume: &Path) -> (u64, u64) {
    (
        figure(volume, "volfs.used.bytes"),
        figure(volume, "volfs.used.inodes"),
    )
}

fn racing(racers: &mut Racers) -> bool {
    racers
        .0
        .iter_mut()
        .any(|racer| racer.try_wait().unwrap().is_none())
}

/// Usage is a walk's when the last closes have arrived.
fn check_settled(mount: &Mount, volume: &Path) {
    let host = mount.host_path("v");
    let equal = poll(Duration::from_secs(10), || {
        (usage(volume) == tree::charged(&host)).then_some(())
    });
    assert!(
        equal.is_some(),
        "usage is {:?}, a walk finds {:?}",
        usage(volume),
        tree::charged(&host)
    );
    mount.volfs().ok(&["verify", "v"]);
    assert_eq!(mount.daemon_complaints(), "");
}

fn limited(bytes: u64, inodes: u64) -> (Mount, PathBuf) {
    let mount = Mount::new();
    let (bytes, inodes) = (bytes.to_string(), inodes.to_string());
    mount
        .volfs()
        .ok(&["create", "v", "--quota", &bytes, "--quota-inodes", &inodes]);
    let volume = mount.join("v");
    (mount, volume)
}

#[test]
fn sixteen_processes_never_exceed_a_limit() {
    let (mount, volume) = limited(LIMIT_BYTES, LIMIT_INODES);
    let mut racers = start_racers(&volume, duration());
    let (mut samples, mut most) = (0_u64, (0, 0));
    while racing(&mut racers) {
        for _ in 0..50 {
            let (bytes, inodes) = usage(&volume);
            assert!(bytes <= LIMIT_BYTES, "{bytes} bytes of {LIMIT_BYTES}");
            assert!(inodes <= LIMIT_INODES, "{inodes} inodes of {LIMIT_INODES}");
            most = (most.0.max(bytes), most.1.max(inodes));
            samples += 1;
        }
    }
    println!(
        "{samples} samples, at most {most:?} of {:?}",
        (LIMIT_BYTES, LIMIT_INODES)
    );
    end_racers(racers);
    assert!(
        most.0 > LIMIT_BYTES * 9 / 10,
        "the limit was never near: {most:?}"
    );
    check_settled(&mount, &volume);
}

/// Above a limit that was lowered, usage may only fall.
#[test]
fn sixteen_processes_while_the_limit_moves() {
    let (mount, volume) = limited(LIMIT_BYTES, 10_000);
    let mut racers = start_racers(&volume, duration());
    let (mut moves, mut above) = (0_u64, 0_u64);
    let (mut bytes, mut last) = (LIMIT_BYTES, 0);
    while racing(&mut racers) {
        let to = [
            LIMIT_BYTES,
            LIMIT_BYTES / 2,
            LIMIT_BYTES / 4,
            LIMIT_BYTES * 2,
        ][moves as usize % 4];
        let text = to.to_string();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&volume, "volfs.quota.bytes", text.as_bytes(), flags).unwrap();
        let (now, _) = usage(&volume);
        assert!(
            now <= to.max(bytes).max(last),
            "{now} bytes; the limit went from {bytes} to {to}"
        );
        // What was granted under the old limit may still be on its way: a
        // verification waits for it. It must find no difference either.
        mount.volfs().ok(&["verify", "v"]);
        bytes = to;
        last = usage(&volume).0;
        for _ in 0..200 {
            let (now, _) = usage(&volume);
            assert!(
                now <= to.max(last),
                "grew from {last} to {now} above a limit of {to}"
            );
            above += u64::from(now > to);
            last = now;
        }
        moves += 1;
    }
    println!("the limit was moved {moves} times; {above} samples above a lowered one");
    end_racers(racers);
    assert!(above > 0, "usage was never above a lowered limit");
    check_settled(&mount, &volume);
}
