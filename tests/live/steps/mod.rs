//! The serving process is killed between each pair of steps of each operation
//! that cannot be done twice. The next one answers, as the first would have,
//! and it was done once.

mod cases;
mod growing;

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use self::cases::{CASES, Case, THROUGH_US, UNLIMITED};
use self::growing::GROWING;
use crate::support::{Mount, tree, wait_for};

/// A mount whose serving process dies where a test says.
struct World {
    mount: Mount,
    arm: PathBuf,
    dir: PathBuf,
    volume: On,
}

/// What the volume is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Directory,
    Limited,
    Disk,
}

impl World {
    fn new(volume: On, arguments: &[&str]) -> Self {
        let mut builder = Mount::builder().supervised().args(arguments);
        let armed = tempfile::tempdir().unwrap().keep();
        let arm = armed.join("armed");
        builder = builder.env("VOLFS_FAILPOINT_FILE", arm.to_str().unwrap());
        let mount = builder.start();
        let kind: &[&str] = match volume {
            On::Directory => &[],
            On::Limited => &["--quota", "64M"],
            On::Disk => &["--disk", "--size", "64M"],
        };
        mount.volfs().ok(&[&["create", "v"], kind].concat());
        let dir = mount.join("v");
        Self {
            mount,
            arm,
            dir,
            volume,
        }
    }

    /// Runs `act`, in which the serving process dies at the first of `points`,
    /// a line each, the next one at the second, and so on.
    fn dying<T>(&self, points: &str, act: impl FnOnce() -> T) -> T {
        let died = || self.mount.daemon_log().matches("has died").count();
        let before = died();
        fs::write(&self.arm, points).unwrap();
        let result = act();
        let left = fs::read_to_string(&self.arm);
        assert!(left.is_err(), "not reached of {points:?}: {left:?}");
        wait_for("another process serves", || {
            died() >= before + points.lines().count() && self.mount.serving_pid().is_some()
        });
        result
    }

    /// Waits until all closes, which are told of later, have arrived.
    fn wait_for_closes(&self) {
        wait_for("closes arrive", || {
            let text = fs::read_to_string(self.mount.join(".volfs/stats.json")).unwrap();
            let stats: serde_json::Value = serde_json::from_str(&text).unwrap();
            stats["open_files"] == 0
        });
    }

    /// The account is what a walk finds, and nothing has to be counted.
    fn check_usage(&self, what: &str) {
        if self.volume == On::Disk {
            // Its own file system keeps it.
            return;
        }
        let (bytes, inodes) = tree::charged(&self.mount.host_path("v"));
        let usage = || {
            let list = self.mount.volfs().list();
            let v = list.iter().find(|v| v["name"] == "v").unwrap().clone();
            (v["used"]["bytes"].as_u64(), v["used"]["inodes"].as_u64())
        };
        assert_eq!(usage(), (Some(bytes), Some(inodes)), "{what}");
        let log = self.mount.daemon_log();
        assert!(!log.contains("counted"), "{what}: {log}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.arm.parent().unwrap());
    }
}

/// Requests that come to the same when they are done twice: of one that is done
/// nothing is kept.
const DONE_TWICE: &[&str] = &[
    "setattr",
    "write",
    "fallocate",
    "copy_file_range",
    "release",
];

/// Where the processes die that serve one request: one of them at each point;
/// two, of which the second had only a reply to send again; and two, of which the
/// second had not looked yet at what the first has left.
fn deaths(case: &Case) -> Vec<String> {
    let end = format!("live.end {}", case.op);
    let reply = format!("live.reply {}", case.op);
    let again = format!("live.again {}", case.op);
    let points = case.points.iter().map(|&point| point.to_owned());
    let once: Vec<String> = points.chain([end, reply.clone()]).collect();
    let twice = once.iter().map(|first| format!("{first}\n{reply}"));
    let unseen = format!("{reply}\n{again}");
    let unseen = (!DONE_TWICE.contains(&case.op)).then_some(unseen);
    let twice: Vec<String> = twice.chain(unseen).collect();
    [once, twice].concat()
}

fn run(world: &World, cases: &[Case]) {
    for case in cases {
        for (n, points) in deaths(case).iter().enumerate() {
            let what = format!("{} killed at {points:?}", case.name);
            eprintln!("{what}");
            let dir = world.dir.join(format!("{}-{n}", case.name));
            fs::create_dir(&dir).unwrap();
            (case.prepare)(world, &dir);
            world.wait_for_closes();
            world.dying(points, || (case.act)(world, &dir));
            (case.check)(world, &dir);
            world.wait_for_closes();
            world.check_usage(&what);
        }
    }
    assert_eq!(
        world.mount.daemon_complaints().matches("panicked").count(),
        0
    );
}

#[test]
fn of_a_volume_that_the_kernel_writes_itself() {
    let world = World::new(On::Directory, &[]);
    run(&world, CASES);
    run(&world, GROWING);
    run(&world, UNLIMITED);
}

#[test]
fn of_a_volume_with_a_quota() {
    let world = World::new(On::Limited, &[]);
    run(&world, CASES);
    run(&world, GROWING);
    run(&world, THROUGH_US);
}

/// A file is there or kept, at every step, and its charge is given back once.
fn keeping(volume: On, arguments: &[&str]) {
    const KEEP: &[&str] = &[
        "live.remove.intent",
        "live.remove.noted",
        "live.remove.kept",
        "live.remove.host",
    ];
    let world = World::new(volume, arguments);
    let volfs = world.mount.volfs();
    volfs.ok(&["set", "v", "--trash-files", "16M"]);
    let removes = |case: &&Case| case.op == "unlink" && !case.name.contains("two names");
    for case in CASES.iter().filter(removes) {
        let before = kept(&world).len();
        let case = Case {
            name: case.name,
            op: case.op,
            points: KEEP,
            prepare: case.prepare,
            act: case.act,
            check: case.check,
        };
        let rounds = deaths(&case).len();
        run(&world, &[case]);
        assert_eq!(kept(&world).len(), before + rounds);
    }
    let verified = volfs.ok(&["verify", "v"]);
    assert!(!verified.contains("differs"), "{verified}");
}

fn kept(world: &World) -> Vec<serde_json::Value> {
    let listed = world
        .mount
        .volfs()
        .ok(&["trash", "ls", "--files", "v", "--json"]);
    serde_json::from_str(&listed).unwrap()
}

#[test]
fn of_a_volume_that_keeps_removed_files() {
    keeping(On::Directory, &[]);
}

#[test]
fn of_a_limited_one_that_keeps_removed_files() {
    keeping(On::Limited, &[]);
}

#[test]
fn of_one_that_keeps_files_through_the_daemon() {
    keeping(On::Directory, &["--no-passthrough"]);
}

#[test]
fn of_a_disk_volume() {
    run(&World::new(On::Disk, &[]), CASES);
}

#[test]
fn of_a_volume_through_the_daemon() {
    let world = World::new(On::Directory, &["--no-passthrough"]);
    run(&world, CASES);
    run(&world, UNLIMITED);
    run(&world, THROUGH_US);
}

/// A volume is made, renamed and removed by one request each.
#[test]
fn of_volumes_themselves() {
    let world = World::new(On::Directory, &[]);
    let root = world.mount.path();
    let made = |what: &str| {
        assert_eq!(world.mount.volfs().names(), ["v"], "{what}");
        let trash = world.mount.volfs().ok(&["trash", "ls", "--json"]);
        let trash: serde_json::Value = serde_json::from_str(&trash).unwrap();
        let trash = trash.as_array().unwrap();
        // A directory that no row tells of is kept, as after any crash.
        let orphan = |entry: &serde_json::Value| entry["orphan"] == true;
        assert!(trash.iter().all(orphan), "{what}: {trash:?}");
        assert!(trash.len() <= usize::from(what.contains("create.renamed")));
        world
            .mount
            .volfs()
            .ok(&["trash", "empty", "--wait", "--yes"]);
    };
    for point in [
        "create.built",
        "create.renamed",
        "create.committed",
        "live.end mkdir",
        "live.reply mkdir",
    ] {
        let what = format!("mkdir killed at {point}");
        let dir = root.join("new");
        world.dying(point, || fs::create_dir(&dir).unwrap());
        fs::write(dir.join("f"), "x").unwrap();
        let again = fs::create_dir(&dir).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists, "{what}");
        fs::remove_file(dir.join("f")).unwrap();
        fs::remove_dir(&dir).unwrap();
        made(&what);
    }
    for point in [
        "rename.committed",
        "rename.manifest",
        "live.end rename",
        "live.reply rename",
    ] {
        let what = format!("rename killed at {point}");
        world.dying(point, || {
            fs::rename(root.join("v"), root.join("w")).unwrap()
        });
        assert_eq!(world.mount.volfs().names(), ["w"], "{what}");
        fs::rename(root.join("w"), root.join("v")).unwrap();
        fs::create_dir(root.join("x")).unwrap();
        fs::write(root.join("x/of-x"), "").unwrap();
        let exchange = || {
            let (v, x) = (root.join("v"), root.join("x"));
            renameat2(AT_FDCWD, &v, AT_FDCWD, &x, RenameFlags::RENAME_EXCHANGE).unwrap();
        };
        world.dying(point, exchange);
        assert!(root.join("v/of-x").exists(), "{what}");
        exchange();
        fs::remove_file(root.join("x/of-x")).unwrap();
        fs::remove_dir(root.join("x")).unwrap();
        made(&what);
    }
    for point in [
        "remove.committed",
        "remove.moved",
        "live.end rmdir",
        "live.reply rmdir",
    ] {
        let what = format!("rmdir killed at {point}");
        fs::create_dir(root.join("old")).unwrap();
        world.dying(point, || fs::remove_dir(root.join("old")).unwrap());
        made(&what);
    }
}
