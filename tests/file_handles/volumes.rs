//! Handles of what is about volumes: their directories, the control tree, images,
//! volumes that are renamed, removed and restored; and what a search costs.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::Error;

use crate::support::{Handle, Mount, OwnFs, poll};
use crate::{LOSSES, Loss, Scenario, expected, forget};

fn path_of(opened: &File) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd())).unwrap()
}

fn top(mount: &Mount) -> File {
    File::open(mount.path()).unwrap()
}

#[test]
fn a_volume_is_found_under_its_name_of_now() {
    for kind in ["directory", "disk"] {
        let arguments = ["--default-kind", kind, "--default-size", "16M"];
        let arguments = &arguments[..if kind == "disk" { 4 } else { 2 }];
        let mut mount = Mount::builder().supervised().args(arguments).start();
        for loss in LOSSES {
            let volume = mount.volume("v");
            fs::create_dir(volume.join("dir")).unwrap();
            fs::write(volume.join("dir/file"), "text").unwrap();
            let of = |name: &str| Handle::of(&volume.join(name)).unwrap();
            let (root, dir, file) = (of(""), of("dir"), of("dir/file"));
            fs::rename(&volume, mount.join("renamed")).unwrap();
            loss.happen(&mut mount);
            let at = top(&mount);
            let path = |handle: &Handle| path_of(&handle.open(&at, libc::O_PATH).unwrap());
            assert_eq!(path(&dir), mount.join("renamed/dir"), "{loss:?}");
            assert_eq!(path(&root), mount.join("renamed"));
            let text = file.open(&at, libc::O_RDONLY).unwrap();
            assert_eq!(std::io::read_to_string(text).unwrap(), "text");

            // What is in the trash is not to be had.
            mount.volfs().ok(&["rm", "renamed"]);
            forget();
            for handle in [&root, &dir, &file] {
                let found = handle.open(&at, libc::O_PATH);
                assert_eq!(found.err(), Some(Error::ESTALE), "{loss:?}");
            }
            mount
                .volfs()
                .ok(&["trash", "restore", "renamed", "--as", "back"]);
            forget();
            assert_eq!(path(&dir), mount.join("back/dir"));
            let text = file.open(&at, libc::O_RDONLY).unwrap();
            assert_eq!(std::io::read_to_string(text).unwrap(), "text");
            mount.volfs().ok(&["rm", "--purge", "--wait", "back"]);
            drop(at);
        }
        assert_eq!(crate::complaints(&mount), [""; 0]);
    }
}

/// Its directories are not listed, which is how the kernel finds the names on the
/// way to a directory.
#[test]
fn files_of_the_control_tree_are_found_and_its_directories_are_not() {
    let mount = Mount::new();
    mount.volfs().ok(&["create", "d", "--disk", "--size", "8M"]);
    let files = [".volfs/version", ".volfs/stats.json", ".volfs/disks/d.raw"];
    let handles = files.map(|name| Handle::of(&mount.join(name)).unwrap());
    let dirs = [".volfs", ".volfs/disks"].map(|name| Handle::of(&mount.join(name)).unwrap());
    let at = top(&mount);
    forget();
    for (handle, name) in handles.iter().zip(files) {
        let found = handle.open(&at, libc::O_PATH).unwrap();
        let named = mount.join(name).metadata().unwrap();
        assert_eq!(found.metadata().unwrap().ino(), named.ino());
    }
    let version = handles[0].open(&at, libc::O_RDONLY).unwrap();
    let text = std::io::read_to_string(version).unwrap();
    assert_eq!(text, fs::read_to_string(mount.join(files[0])).unwrap());
    for dir in dirs {
        forget();
        if let Ok(found) = dir.open(&at, libc::O_PATH) {
            // Somebody else has it in use.
            assert!(path_of(&found).starts_with(mount.join(".volfs")));
        }
    }
    mount.volfs().ok(&["rm", "--purge", "--wait", "d"]);
    forget();
    let image = handles[2].open(&at, libc::O_PATH);
    assert_eq!(image.err(), Some(Error::ESTALE));
}

/// What is shown of an image that a guest has written is found as long as the
/// process lives that has shown it.
#[test]
fn an_image_that_a_guest_has_written() {
    let mount = Mount::new();
    mount.volfs().ok(&["create", "d", "--disk", "--size", "8M"]);
    fs::create_dir_all(mount.join("d/a/b")).unwrap();
    fs::write(mount.join("d/a/b/file"), "text").unwrap();
    let image = mount.join(".volfs/disks/d.raw");
    let attach = || File::options().read(true).write(true).open(&image).ok();
    let raw = poll(std::time::Duration::from_secs(10), attach).unwrap();
    let mut block = [0; 512];
    raw.read_exact_at(&mut block, 1024).unwrap();
    raw.write_all_at(&block, 1024).unwrap();
    drop(raw);
    let named = mount.join("d/a/b");
    poll(std::time::Duration::from_secs(10), || named.metadata().ok()).unwrap();
    let (dir, file) = (
        Handle::of(&named).unwrap(),
        Handle::of(&named.join("file")).unwrap(),
    );
    assert!(fs::write(named.join("file"), "more").is_err(), "no view");
    let at = top(&mount);
    forget();
    let text = file.open(&at, libc::O_RDONLY).unwrap();
    assert_eq!(std::io::read_to_string(text).unwrap(), "text");
    assert_eq!(path_of(&dir.open(&at, libc::O_PATH).unwrap()), named);
}

/// Where inodes cannot be had by number alone the volume is searched for them.
fn as_on_the_host_on(store: &Path) {
    let mut mount = Mount::builder().supervised().parent(store).start();
    for loss in [Loss::Forgotten, Loss::Remounted, Loss::Killed] {
        let volume = mount.volume(&format!("v-{loss:?}"));
        let scenario = Scenario::new(&volume);
        loss.happen(&mut mount);
        let found = scenario.outcome(mount.path());
        assert_eq!(found, expected(loss), "{loss:?}");
    }
    assert_eq!(crate::complaints(&mount), [""; 0]);
}

#[test]
fn stores_on_other_file_systems() {
    let btrfs = OwnFs::new(&["mkfs.btrfs", "-q"], 256 << 20);
    as_on_the_host_on(btrfs.path());
    let xfs = OwnFs::new(&["mkfs.xfs", "-q"], 512 << 20);
    as_on_the_host_on(xfs.path());
    as_on_the_host_on(Path::new("/dev/shm"));
}

/// All files of a volume, each by its handle, when neither kernel nor daemon know
/// any: one walk is enough.
#[test]
fn many_files_cost_one_walk() {
    let mut mount = Mount::builder().env("RUST_LOG", "volfs=debug").start();
    let volume = mount.volume("v");
    let mut handles = Vec::new();
    for dir in 0..50 {
        let dir = volume.join(format!("d{dir}"));
        fs::create_dir(&dir).unwrap();
        for file in 0..100 {
            let file = dir.join(format!("f{file}"));
            fs::write(&file, "x").unwrap();
            handles.push((Handle::of(&file).unwrap(), file.metadata().unwrap().ino()));
        }
    }
    mount.remount();
    forget();
    let at = top(&mount);
    let start = std::time::Instant::now();
    for (n, (handle, number)) in handles.iter().enumerate() {
        // Files that the host remembers a name of are found by that.
        if n % 1000 == 0 {
            forget();
        }
        let found = handle.open(&at, libc::O_PATH).unwrap();
        assert_eq!(found.metadata().unwrap().ino(), *number);
    }
    println!("{} files in {:?}", handles.len(), start.elapsed());
    let log = mount.daemon_log();
    assert_eq!(log.matches("was searched for inode").count(), 1, "{log}");
}

/// A directory that is moved while the volume is searched is not missed.
#[test]
fn what_is_moved_meanwhile_is_found() {
    let mut mount = Mount::new();
    let volume = mount.volume("v");
    for side in ["a", "b"] {
        for n in 0..50 {
            fs::create_dir_all(volume.join(format!("{side}/{n}"))).unwrap();
        }
    }
    fs::create_dir(volume.join("a/moving")).unwrap();
    fs::write(volume.join("a/moving/file"), "text").unwrap();
    let handle = Handle::of(&volume.join("a/moving/file")).unwrap();
    mount.remount();
    let at = top(&mount);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| {
            let sides = [volume.join("a/moving"), volume.join("b/moving")];
            let mut moves = 0;
            while !stop.load(Ordering::Relaxed) {
                fs::rename(&sides[moves % 2], &sides[(moves + 1) % 2]).unwrap();
                moves += 1;
            }
            moves
        });
        let found = (0..50).map(|_| {
            forget();
            handle.open(&at, libc::O_RDONLY)
        });
        let missed: Vec<_> = found.filter_map(Result::err).collect();
        stop.store(true, Ordering::Relaxed);
        let moves = moving.join().unwrap();
        println!("{moves} moves");
        assert!(moves > 50);
        assert_eq!(missed, []);
    });
}
