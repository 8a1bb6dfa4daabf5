//! Threads that do everything at once to the same few names, as fsstress does, while the serving
//! process is killed: there is no model of what comes out of the races. What must hold is that no
//! call fails in a way in which it does not fail on the host's own file system, that the volume and
//! its directory in the store have the same names afterwards, that usage is exact, and that all of
//! it can be removed.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{
    self as sys, AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, XattrFlags,
};
use rustix::io::{Errno, Result};

use crate::killing::{StopOnPanic, killing, kills};
use crate::support::random::Random;
use crate::support::{Mount, TestDir, facts, run, wait_for};

const THREADS: u64 = 4;

/// Steps of each thread on the host: enough to meet each failure that can be met.
const HOST_STEPS: usize = 6000;

struct Stress {
    dir: PathBuf,
    random: Random,
    open: Vec<File>,
}

impl Stress {
    fn new(dir: &Path, seed: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            random: Random::new(seed),
            open: Vec::new(),
        }
    }

    /// One of few paths, at most three deep, so that threads meet.
    fn path(&mut self) -> PathBuf {
        let mut path = self.dir.clone();
        for _ in 0..self.random.below(3) {
            path.push(format!("d{}", self.random.below(3)));
        }
        path.push(if self.random.below(3) == 0 {
            format!("d{}", self.random.below(3))
        } else {
            format!("f{}", self.random.below(8))
        });
        path
    }

    fn open(&mut self, flags: OFlags) -> Result<File> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(sys::open(self.path(), flags, Mode::from_raw_mode(0o644))?.into())
    }

    fn offset(&mut self) -> u64 {
        self.random.below(200_000) as u64
    }

    /// A call that may fail, and says so.
    fn step(&mut self) -> (&'static str, Result<()>) {
        match self.random.below(29) {
            0..3 => (
                "create",
                self.open(OFlags::CREATE | OFlags::RDWR)
                    .map(|file| self.keep(file)),
            ),
            3 => (
                "create new",
                self.open(OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY)
                    .map(drop),
            ),
            4 => (
                "truncating open",
                self.open(OFlags::TRUNC | OFlags::RDWR).map(drop),
            ),
            5 | 6 => ("mkdir", sys::mkdir(self.path(), Mode::from_raw_mode(0o755))),
            7 => (
                "mkfifo",
                sys::mknodat(
                    CWD,
                    self.path(),
                    FileType::Fifo,
                    Mode::from_raw_mode(0o600),
                    0,
                ),
            ),
            8 => ("symlink", sys::symlink("f0", self.path())),
            9 => (
                "link",
                sys::linkat(CWD, self.path(), CWD, self.path(), AtFlags::empty()),
            ),
            10 | 11 => ("rename", sys::renameat(CWD, self.path(), CWD, self.path())),
            12 => (
                "exchange",
                sys::renameat_with(CWD, self.path(), CWD, self.path(), RenameFlags::EXCHANGE),
            ),
            13 => (
                "rename to new",
                sys::renameat_with(CWD, self.path(), CWD, self.path(), RenameFlags::NOREPLACE),
            ),
            14 | 15 => ("unlink", sys::unlink(self.path())),
            16 => ("rmdir", sys::rmdir(self.path())),
            17 => (
                "truncate",
                self.open(OFlags::WRONLY)
                    .and_then(|file| sys::ftruncate(&file, self.offset())),
            ),
            18 => (
                "chmod",
                sys::chmod(
                    self.path(),
                    Mode::from_raw_mode(0o600 + self.random.below(64) as u32),
                ),
            ),
            19 => ("setxattr", {
                let value = self.random.bytes(40);
                sys::setxattr(self.path(), "user.stress", &value, XattrFlags::empty())
            }),
            20 => (
                "getxattr",
                sys::getxattr(self.path(), "user.stress", &mut [0; 64][..]).map(drop),
            ),
            21 => ("list", self.list()),
            22 => ("stat", sys::lstat(self.path()).map(drop)),
            23 => ("readlink", sys::readlink(self.path(), Vec::new()).map(drop)),
            _ => self.on_open(),
        }
    }

    /// Something with a file that this thread has open, whatever has become of its name.
    fn on_open(&mut self) -> (&'static str, Result<()>) {
        if self.open.is_empty() {
            return ("open", self.open(OFlags::RDWR).map(|file| self.keep(file)));
        }
        let (offset, chosen) = (self.offset(), self.random.below(self.open.len()));
        let action = self.random.below(8);
        let len = 1 + self.random.below(25_000);
        let bytes = self.random.bytes(len);
        let file = &self.open[chosen];
        let io = |result: std::io::Result<()>| {
            result.map_err(|error| {
                Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))
            })
        };
        match action {
            0..2 => ("write", io(file.write_all_at(&bytes, offset))),
            2 => (
                "read",
                io(file.read_at(&mut vec![0; 8192], offset).map(drop)),
            ),
            3 => ("fsync", io(file.sync_all())),
            4 => (
                "allocate",
                sys::fallocate(file.as_fd(), FallocateFlags::empty(), offset, 8192),
            ),
            5 => ("punch", {
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                sys::fallocate(file.as_fd(), hole, offset, 20_000)
            }),
            6 => ("copy", {
                let (mut from, mut to) = (0, offset);
                sys::copy_file_range(file, Some(&mut from), &self.open[0], Some(&mut to), 4096)
                    .map(drop)
            }),
            _ => ("close", {
                self.open.swap_remove(chosen);
                Ok(())
            }),
        }
    }

    fn list(&mut self) -> Result<()> {
        let dir = sys::open(
            self.path(),
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        for entry in sys::Dir::read_from(&dir)? {
            entry?;
        }
        Ok(())
    }

    fn keep(&mut self, file: File) {
        if self.open.len() < 6 && file.metadata().is_ok_and(|meta| meta.is_file()) {
            self.open.push(file);
        }
    }
}

type Failures = HashSet<(&'static str, Errno)>;

/// What the kernel itself says of a path, whatever the file system.
const OF_PATHS: [Errno; 3] = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP];

/// Runs the threads until `enough`, which is told the steps of one; returns how calls failed.
fn stress(dir: &Path, seed: u64, enough: impl Fn(usize) -> bool + Sync) -> Failures {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let mut stress = Stress::new(dir, seed.wrapping_mul(number + 1));
                let enough = &enough;
                scope.spawn(move || {
                    let mut failures = Failures::new();
                    for step in 0.. {
                        if enough(step) {
                            break;
                        }
                        if let (call, Err(errno)) = stress.step() {
                            failures.insert((call, errno));
                        }
                    }
                    failures
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

/// How calls may fail: as some do on the host's file system, in the same races. Which call meets which
/// is a matter of luck.
fn failures_of_the_host(seed: u64) -> HashSet<Errno> {
    let dir = TestDir::new();
    let met = (0..3).flat_map(|round| {
        stress(dir.path(), seed.wrapping_add(round), |step| {
            step >= HOST_STEPS
        })
    });
    met.map(|(_, errno)| errno).chain(OF_PATHS).collect()
}

fn stress_a_volume(what: &str, arguments: &[&str], create: &[&str], own: &[Errno]) {
    let seed = Random::seed();
    println!("{what}: seed {seed}");
    let of_the_host = failures_of_the_host(seed);
    let mount = Mount::builder().supervised().args(arguments).start();
    mount.volfs().ok(&[&["create", "v"], create].concat());
    let dir = mount.join("v");
    let (stop, steps) = (AtomicBool::new(false), AtomicUsize::new(0));
    let failures = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let _stop = StopOnPanic(&stop);
            stress(&dir, seed, |_| {
                steps.fetch_add(1, Ordering::Relaxed);
                stop.load(Ordering::Relaxed)
            })
        });
        killing(what, &mount, kills(6), &stop);
        load.join().unwrap()
    });
    println!(
        "{what}: {} calls, {} kinds of failure",
        steps.into_inner(),
        failures.len()
    );
    let strange: Vec<_> = failures
        .iter()
        .filter(|(_, errno)| !of_the_host.contains(errno) && !own.contains(errno))
        .collect();
    assert!(
        strange.is_empty(),
        "{what}: not so on the host: {strange:?}\n{}",
        mount.daemon_log()
    );
    if create.is_empty() || create[0] != "--disk" {
        let host = mount.host_path("v");
        let names = |dir: &Path| facts::of(dir).into_keys().collect::<Vec<_>>();
        assert_eq!(names(&dir), names(&host), "{what}");
        wait_for("the volume is counted", || {
            mount.volfs().list()[0]["used_is_exact"] == true
        });
        run(mount
            .volfs()
            .command(&["verify", "v"])
            .env("RUST_BACKTRACE", "0"));
    }
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "{what}");
    if create.is_empty() || create[0] != "--disk" {
        assert_eq!(fs::metadata(&dir).unwrap().nlink(), 2, "{what}");
        wait_for("nothing is charged any more", || {
            mount.volfs().list()[0]["used"]["inodes"] == 0
        });
    }
}

#[test]
fn stress_with_passthrough() {
    stress_a_volume("passthrough", &[], &[], &[]);
}

#[test]
fn stress_through_the_daemon() {
    stress_a_volume("through the daemon", &["--no-passthrough"], &[], &[]);
}

#[test]
fn stress_under_a_limit() {
    // Written over in docs/quotas.md: what was removed is emptied, so that whoever opens it just
    // then is told that it is stale.
    let own = [Errno::NOSPC, Errno::STALE];
    stress_a_volume(
        "under a limit",
        &[],
        &["--quota", "2M", "--quota-inodes", "60"],
        &own,
    );
}

#[test]
fn stress_on_a_disk_volume() {
    stress_a_volume(
        "disk volume",
        &[],
        &["--disk", "--size", "16M"],
        &[Errno::NOSPC],
    );
}
