//! A store on a file system that another process serves (FUSE), and volumes
//! whose place in the store is another file system, or away: nothing is lost
//! in silence, what is removed gives its room back, and the other volumes are
//! there.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::map::{Map, Sharing};
use support::{Mount, TestDir, Volfs, poll, proc, run, wait_for};

/// A FUSE file system that shows a directory, served by a child of the test.
struct Lower {
    path: PathBuf,
    server: Child,
    // Last, so that it is removed after it is unmounted.
    _dir: TestDir,
}

impl Lower {
    /// Served by `program`, which stays in the foreground and is given the
    /// directory that it shows and the mountpoint.
    fn new(program: &[&str]) -> Self {
        let dir = TestDir::new();
        let (shown, path) = (dir.mkdir("shown"), dir.mkdir("lower"));
        let server = Command::new(program[0])
            .args(&program[1..])
            .args([&shown, &path])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program[0]));
        wait_for("it is mounted", || proc::mount_on(&path).is_some());
        Self {
            path,
            server,
            _dir: dir,
        }
    }

    fn bindfs() -> Self {
        Self::new(&["bindfs", "-f"])
    }

    fn mergerfs() -> Self {
        Self::new(&["mergerfs", "-f", "-o", "cache.files=off"])
    }

    fn mount(&self) -> Mount {
        Mount::builder().store(&self.path.join("store")).start()
    }

    /// Kills who serves it.
    fn die(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

impl Drop for Lower {
    fn drop(&mut self) {
        let unmounted = || nix::mount::umount(&self.path).is_ok().then_some(());
        if poll(Duration::from_secs(10), unmounted).is_none() {
            let _ = nix::mount::umount2(&self.path, nix::mount::MntFlags::MNT_DETACH);
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn stats(mount: &Mount) -> Value {
    let text = fs::read_to_string(mount.join(".volfs/stats.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The check of this name that `volfs doctor` makes.
fn check(volfs: &Volfs, name: &str) -> Value {
    let text = volfs.ok(&["doctor", "--json"]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    let mut checks = answer["checks"].as_array().unwrap().iter();
    let found = checks.find(|it| it["check"] == name);
    found
        .unwrap_or_else(|| panic!("no {name:?} in {text}"))
        .clone()
}

fn used(volfs: &Volfs, name: &str) -> (u64, u64, bool) {
    let all = volfs.list();
    let volume = all.iter().find(|it| it["name"] == name).unwrap();
    (
        volume["used"]["bytes"].as_u64().unwrap(),
        volume["used"]["inodes"].as_u64().unwrap(),
        volume["used_is_exact"].as_bool().unwrap(),
    )
}

#[test]
fn the_kernel_is_given_no_files_of_it() {
    for lower in [Lower::bindfs(), Lower::mergerfs()] {
        let mount = lower.mount();
        let volume = mount.volume("v");
        let file = File::create(volume.join("f")).unwrap();
        let stats = stats(&mount);
        assert_eq!(stats["open_files"], 1);
        assert_eq!(stats["open_files_passthrough"], 0);
        assert_eq!(stats["passthrough"], false);
        drop(file);
        let check = check(&mount.volfs(), "daemon: passthrough");
        assert_eq!(check["state"], "degraded");
        let why = check["means"].as_str().unwrap();
        assert!(why.contains("(FUSE)"), "{why}");
        let volfs = mount.volfs();
        drop(mount);
        drop(volfs);
    }
}

#[test]
fn its_death_is_told_to_who_syncs() {
    let mut lower = Lower::bindfs();
    let mount = lower.mount();
    let volume = mount.volume("v");
    mount.volfs().ok(&["create", "limited", "--quota", "1M"]);
    let open = |path: PathBuf| {
        let mut file = File::options();
        file.read(true).write(true).create(true);
        file.open(path).unwrap()
    };
    let mut files: Vec<File> = [volume.join("f"), volume.join("g"), mount.join("limited/f")]
        .into_iter()
        .map(open)
        .collect();
    for file in &mut files {
        file.write_all(&[1; 8192]).unwrap();
    }
    let map = Map::new(&files[0], 8192, Sharing::Shared, true).unwrap();
    map.write(0, b"told");
    lower.die();
    for file in &mut files {
        let lost = |result: std::io::Result<()>| {
            assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
        };
        lost(file.sync_all());
        lost(file.write_all(&[2; 8192]));
        lost(file.sync_data());
    }
    drop(map);
    // What the volumes are called is known without it.
    let mut names: Vec<_> = fs::read_dir(mount.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["limited", "v"]);
    let said = mount.volfs().fails(1, &["verify"]);
    assert!(said.contains("Transport endpoint"), "{said}");
}

/// Every way of losing a last name, several times over what the limit lets in.
#[test]
fn what_is_removed_gives_its_room_back() {
    const BIG: usize = 300_000;
    for lower in [Lower::bindfs(), Lower::mergerfs()] {
        let mount = lower.mount();
        let volfs = mount.volfs();
        volfs.ok(&["create", "v", "--quota", "1M"]);
        let volume = mount.join("v");
        let write = |name: &str| fs::write(volume.join(name), vec![1; BIG]).unwrap();
        for _ in 0..5 {
            write("f");
            fs::remove_file(volume.join("f")).unwrap();
            assert_eq!(used(&volfs, "v"), (0, 0, true));
        }
        for _ in 0..5 {
            write("a");
            write("b");
            fs::rename(volume.join("a"), volume.join("b")).unwrap();
            fs::remove_file(volume.join("b")).unwrap();
        }
        for _ in 0..5 {
            fs::create_dir(volume.join("dir")).unwrap();
            write("dir/f");
            fs::remove_dir_all(volume.join("dir")).unwrap();
        }
        assert_eq!(used(&volfs, "v"), (0, 0, true));
        for round in 0..5 {
            write("open");
            let path = volume.join("open");
            let mut file = File::options().append(true).open(&path).unwrap();
            fs::remove_file(&path).unwrap();
            file.write_all(&vec![1; BIG]).unwrap();
            assert!(used(&volfs, "v").0 >= 2 * BIG as u64, "round {round}");
            drop(file);
            wait_for("the close is counted", || used(&volfs, "v") == (0, 0, true));
        }
        write("one");
        fs::hard_link(volume.join("one"), volume.join("two")).unwrap();
        fs::remove_file(volume.join("one")).unwrap();
        let charged = (BIG as u64).next_multiple_of(4096);
        assert_eq!(used(&volfs, "v"), (charged, 1, true));
        fs::remove_file(volume.join("two")).unwrap();
        assert_eq!(used(&volfs, "v"), (0, 0, true));
        assert!(volfs.ok(&["verify", "v"]).contains("v: ok"));
    }
}

/// Something is mounted on the place of a volume.
struct MountedOver<'a>(&'a Path);

impl<'a> MountedOver<'a> {
    fn new(place: &'a Path) -> Self {
        run(Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(place));
        Self(place)
    }
}

impl Drop for MountedOver<'_> {
    fn drop(&mut self) {
        run(Command::new("umount").arg(self.0));
    }
}

fn listed(mount: &Mount) -> Vec<String> {
    let entries = fs::read_dir(mount.path()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_volume_that_is_elsewhere_hides_no_others() {
    let mut mount = Mount::new();
    let volfs = mount.volfs();
    for name in ["away", "here"] {
        mount.volume(name);
    }
    fs::write(mount.join("here/f"), "x").unwrap();
    let place = mount.host_path("away");
    mount.stop();
    let over = MountedOver::new(&place);
    for mounted in [false, true] {
        if mounted {
            mount.start();
            // As `ls` does, which takes the attributes with the names.
            let said = run(Command::new("ls").arg("-l").arg(mount.path()));
            assert!(
                said.contains("d---------") && said.contains("here"),
                "{said}"
            );
            assert_eq!(listed(&mount), ["away", "here"]);
            assert_eq!(fs::read_to_string(mount.join("here/f")).unwrap(), "x");
            let mut entries = fs::read_dir(mount.join("away")).unwrap();
            assert!(entries.next().is_some_and(|entry| entry.is_err()));
            let told = fs::read_to_string(mount.join(".volfs/last_error")).unwrap();
            assert!(told.contains("on another file system"), "{told}");
        }
        let said = volfs.fails(1, &["verify"]);
        assert!(
            said.contains("the files of volume \"away\" are not in the store")
                && said.contains("put the volume's own directory back")
                && said.contains("on another file system"),
            "{said}"
        );
        let said = volfs.fails(1, &["rm", "away"]);
        assert!(
            said.contains("mount") || said.contains("another file"),
            "{said}"
        );
    }
    drop(over);
    // It is back without a word to the kernel.
    fs::write(mount.join("away/f"), "back").unwrap();
    assert_eq!(
        fs::metadata(mount.join("away")).unwrap().mode() & 0o777,
        0o755
    );
    volfs.ok(&["verify"]);
}

#[test]
fn a_place_that_is_a_link_is_not_followed() {
    let mut mount = Mount::new();
    let volfs = mount.volfs();
    for name in ["away", "here"] {
        mount.volume(name);
    }
    let place = mount.host_path("away");
    mount.stop();
    let other = mount.dir().mkdir("other");
    fs::rename(&place, other.join("data")).unwrap();
    std::os::unix::fs::symlink(other.join("data"), &place).unwrap();
    let said = volfs.fails(1, &["verify"]);
    assert!(said.contains("not a directory"), "{said}");
    mount.start();
    assert_eq!(listed(&mount), ["away", "here"]);
    let said = volfs.fails(1, &["verify"]);
    assert!(said.contains("not a directory"), "{said}");
    let said = volfs.fails(1, &["rm", "away"]);
    assert!(said.contains("not a directory"), "{said}");
}
