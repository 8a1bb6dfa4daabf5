//! Files that are removed one by one, as 'rm -rf' and file managers do, from a volume
//! that keeps them.

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::XattrFlags;
use support::{Mount, Volfs, run, tree};

/// What there is to see of a regular file, but for its inode and the change of it.
fn seen(path: &Path) -> String {
    let meta = path.symlink_metadata().unwrap();
    let mut value = [0; 64];
    let attribute = rustix::fs::getxattr(path, "user.k", &mut value);
    let attribute = attribute.ok().map(|len| value[..len].to_vec());
    format!(
        "{:o} {}:{} {} {}.{} {attribute:?} {:?}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec(),
        fs::read(path).unwrap(),
    )
}

fn fill(volume: &Path) {
    let deep = volume.join("dir/sub");
    fs::create_dir_all(&deep).unwrap();
    let mut bytes: Vec<u8> = (0..300_000_u32).map(|n| (n / 7) as u8).collect();
    fs::write(volume.join("f"), &bytes).unwrap();
    bytes.truncate(5000);
    fs::write(deep.join("a file"), &bytes).unwrap();
    let holes = File::create(volume.join("dir/holes")).unwrap();
    holes.write_all_at(b"begin", 0).unwrap();
    holes.write_all_at(b"middle", 1 << 20).unwrap();
    holes.set_len(3 << 20).unwrap();
    fs::write(volume.join("dir/empty"), "").unwrap();
    for (n, name) in FILES.iter().enumerate() {
        let path = volume.join(name);
        rustix::fs::setxattr(&path, "user.k", name.as_bytes(), XattrFlags::empty()).unwrap();
        chown(&path, Some(1000 + n as u32), Some(7)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640 + n as u32)).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let at =
            std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000 + n as u64, 123_456_789);
        file.set_modified(at).unwrap();
    }
    symlink("f", volume.join("link")).unwrap();
}

const FILES: [&str; 4] = ["f", "dir/sub/a file", "dir/holes", "dir/empty"];

fn kept(volfs: &Volfs) -> Vec<serde_json::Value> {
    serde_json::from_str(&volfs.ok(&["trash", "ls", "--files", "v", "--json"])).unwrap()
}

fn paths(volfs: &Volfs) -> Vec<String> {
    let kept = kept(volfs);
    let paths = kept
        .iter()
        .map(|file| file["path"].as_str().unwrap().to_owned());
    paths.collect()
}

/// The account says what a walk of the volume finds.
fn check_usage(mount: &Mount) {
    support::wait_for("usage is what is there", || {
        let v = mount
            .volfs()
            .list()
            .into_iter()
            .find(|v| v["name"] == "v")
            .unwrap();
        let used = (v["used"]["bytes"].as_u64(), v["used"]["inodes"].as_u64());
        let (bytes, inodes) = tree::charged(&mount.host_path("v"));
        used == (Some(bytes), Some(inodes))
    });
}

fn rm_rf(what: &Path) {
    run(Command::new("rm").arg("-rf").arg(what));
}

fn check(create: &[&str], mount: &[&str]) {
    let mut mount = Mount::builder().args(mount).start();
    let volfs = mount.volfs();
    volfs.ok(&[&["create", "v"], create].concat());
    let volume = mount.join("v");
    volfs.ok(&["set", "v", "--trash-files", "64M"]);
    fill(&volume);
    let before = FILES.map(|name| seen(&volume.join(name)));
    for name in ["f", "dir", "link"] {
        rm_rf(&volume.join(name));
    }
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 0);
    check_usage(&mount);
    assert_eq!(kept(&volfs).len(), 4);
    let holes = kept(&volfs)
        .into_iter()
        .find(|it| it["path"] == "dir/holes")
        .unwrap();
    assert_eq!(
        (holes["size"].as_u64(), holes["uid"].as_u64()),
        (Some(3 << 20), Some(0))
    );
    assert!(holes["allocated"].as_u64().unwrap() < 1 << 20);
    // An archive and a clone have what is in the volume.
    volfs.ok(&["clone", "v", "copy"]);
    assert_eq!(fs::read_dir(mount.join("copy")).unwrap().count(), 0);

    for (n, (name, before)) in FILES.iter().zip(&before).enumerate() {
        match n {
            1 => mount.remount(),
            2 => {
                mount.kill();
                mount.start();
            }
            3 => mount.stop(),
            _ => {}
        }
        let from = format!("v:{name}");
        assert_eq!(volfs.ok(&["trash", "restore", &from]), format!("{from}\n"));
        if n == 3 {
            mount.start();
        }
        assert_eq!(seen(&volume.join(name)), *before, "{name}");
        assert!(
            volfs
                .fails(1, &["trash", "restore", &from])
                .contains("no removed file")
        );
    }
    let blocks = volume.join("dir/holes").metadata().unwrap().blocks();
    assert!(blocks < 1024, "{blocks} blocks");
    assert!(paths(&volfs).is_empty());
    check_usage(&mount);
    let verified = volfs.run(&["verify", "v"]);
    assert_eq!(verified.code, Some(0));
}

#[test]
fn files_come_back_by_passthrough() {
    check(&[], &[]);
}

#[test]
fn files_come_back_through_the_daemon() {
    check(&[], &["--no-passthrough"]);
}

#[test]
fn files_come_back_under_a_limit() {
    check(&["--quota", "10M"], &[]);
}

#[test]
fn rm_rf_of_the_volume_itself() {
    let mount = Mount::new();
    let volfs = mount.volfs();
    let volume = mount.volume("v");
    volfs.ok(&["set", "v", "--trash-files", "64M"]);
    fill(&volume);
    let before = seen(&volume.join("dir/sub/a file"));
    rm_rf(&volume);
    assert!(volfs.names().is_empty());
    volfs.ok(&["trash", "restore", "v"]);
    volfs.ok(&["trash", "restore", "v:/dir/sub/a file"]);
    assert_eq!(seen(&volume.join("dir/sub/a file")), before);
    // Without files to restore it is gone, as ever.
    volfs.ok(&["trash", "empty", "--files", "v"]);
    volfs.ok(&["set", "v", "--trash-files", "none"]);
    rm_rf(&volume);
    assert_eq!(volfs.ok(&["trash", "ls", "--json"]).trim(), "[]");
}

#[test]
fn the_oldest_give_way() {
    let mut mount = Mount::new();
    let volfs = mount.volfs();
    let volume = mount.volume("v");
    volfs.ok(&["set", "v", "--trash-files", "1M"]);
    let write = |name: &str, len: usize| fs::write(volume.join(name), vec![1; len]).unwrap();
    let remove = |name: &str| fs::remove_file(volume.join(name)).unwrap();
    for n in 0..20 {
        write(&format!("f{n}"), 100 << 10);
    }
    // What is larger than all that may be kept costs nothing that is.
    write("large", 2 << 20);
    let bound = |most: u64| {
        let sum = kept(&volfs)
            .iter()
            .map(|it| it["allocated"].as_u64().unwrap())
            .sum::<u64>();
        assert!(sum <= most, "{sum}");
        let removed = mount_dir(&mount.host_path("v"));
        let blocks: u64 = fs::read_dir(removed)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| !entry.file_name().to_str().unwrap().contains("."))
            .map(|entry| entry.metadata().unwrap().blocks() * 512)
            .sum();
        assert!(blocks <= most + 4096, "{blocks}");
    };
    for n in 0..20 {
        remove(&format!("f{n}"));
        bound(1 << 20);
    }
    remove("large");
    let newest: Vec<_> = (10..20).rev().map(|n| format!("f{n}")).collect();
    assert_eq!(paths(&volfs), newest);
    // What was taken by command makes room.
    volfs.ok(&["trash", "restore", "v:f15"]);
    write("g", 100 << 10);
    remove("g");
    assert_eq!(paths(&volfs).len(), 10);
    assert!(paths(&volfs).contains(&"f10".to_owned()));
    volfs.ok(&["set", "v", "--trash-files", "250k"]);
    assert_eq!(paths(&volfs), ["g", "f19"]);
    bound(250 << 10);
    mount.remount();
    write("h", 100 << 10);
    remove("h");
    assert_eq!(paths(&volfs), ["h", "g"]);
    assert_eq!(
        volfs.ok(&["trash", "empty", "--files", "v"]),
        "2 files deleted\n"
    );
    assert!(paths(&volfs).is_empty());
    volfs.ok(&["set", "v", "--trash-files", "none"]);
    write("i", 1);
    remove("i");
    assert!(paths(&volfs).is_empty());
}

fn mount_dir(data: &Path) -> std::path::PathBuf {
    data.with_file_name("removed")
}

/// A name that is not the last, a rename over a file and a file that is emptied are
/// no removals of a file.
#[test]
fn only_the_last_name_counts() {
    let mount = Mount::new();
    let volfs = mount.volfs();
    let volume = mount.volume("v");
    volfs.ok(&["set", "v", "--trash-files", "1M"]);
    fs::write(volume.join("a"), "linked").unwrap();
    fs::hard_link(volume.join("a"), volume.join("b")).unwrap();
    fs::remove_file(volume.join("a")).unwrap();
    assert!(paths(&volfs).is_empty());
    fs::write(volume.join("c"), "over").unwrap();
    fs::write(volume.join("d"), "under").unwrap();
    fs::rename(volume.join("c"), volume.join("d")).unwrap();
    File::create(volume.join("d")).unwrap();
    assert!(paths(&volfs).is_empty());
    fs::remove_file(volume.join("b")).unwrap();
    assert_eq!(paths(&volfs), ["b"]);
    // Nothing is replaced.
    fs::write(volume.join("b"), "new").unwrap();
    let said = volfs.fails(1, &["trash", "restore", "v:b"]);
    assert!(said.contains("File exists"), "{said}");
    volfs.ok(&["trash", "restore", "v:b", "--as", "made/anew/b"]);
    assert_eq!(fs::read(volume.join("made/anew/b")).unwrap(), b"linked");
    assert_eq!(fs::read(volume.join("b")).unwrap(), b"new");
    // Of two with one path, the last.
    for text in ["first", "second"] {
        fs::write(volume.join("e"), text).unwrap();
        fs::remove_file(volume.join("e")).unwrap();
    }
    volfs.ok(&["trash", "restore", "v:e"]);
    assert_eq!(fs::read(volume.join("e")).unwrap(), b"second");
}

/// One that is open when it is removed goes on as without a name, and is kept as it
/// is when it is closed.
#[test]
fn open_files() {
    for create in [&["create", "v"][..], &["create", "v", "--quota", "10M"]] {
        let mount = Mount::new();
        let volfs = mount.volfs();
        volfs.ok(create);
        volfs.ok(&["set", "v", "--trash-files", "1M"]);
        let path = mount.join("v/f");
        let mut open = OpenOptions::new();
        let open = open.read(true).write(true).create(true);
        let mut file = open.open(&path).unwrap();
        file.write_all(b"before").unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        file.write_all(b" and after").unwrap();
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        let mut text = String::new();
        File::open(&own).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "before and after");
        assert!(fs::hard_link(&own, mount.join("v/g")).is_err());
        drop(file);
        check_usage(&mount);
        volfs.ok(&["trash", "restore", "v:f"]);
        assert_eq!(fs::read(&path).unwrap(), b"before and after");
        // It grows beyond what may be kept while nobody sees it.
        let mut file = File::create(mount.join("v/g")).unwrap();
        fs::remove_file(mount.join("v/g")).unwrap();
        file.write_all(&vec![1; 2 << 20]).unwrap();
        drop(file);
        check_usage(&mount);
        support::wait_for("it gives way", || paths(&volfs).is_empty());
    }
}

#[test]
fn a_limit_holds_for_what_comes_back() {
    let mut mount = Mount::new();
    let volfs = mount.volfs();
    volfs.ok(&["create", "v", "--quota", "1M"]);
    volfs.ok(&["set", "v", "--trash-files", "10M"]);
    let volume = mount.join("v");
    fs::write(volume.join("f"), vec![1; 700 << 10]).unwrap();
    fs::remove_file(volume.join("f")).unwrap();
    // Removal makes room.
    fs::write(volume.join("g"), vec![2; 700 << 10]).unwrap();
    for _ in 0..2 {
        let said = volfs.fails(1, &["trash", "restore", "v:f"]);
        assert!(said.contains("no space"), "{said}");
        assert_eq!(paths(&volfs), ["f"]);
        mount.stop();
        let said = volfs.fails(1, &["trash", "restore", "v:f"]);
        assert!(said.contains("no space"), "{said}");
        mount.start();
        let names: Vec<_> = fs::read_dir(&volume).unwrap().collect();
        assert_eq!(names.len(), 1);
        check_usage(&mount);
    }
    volfs.ok(&["set", "v", "--quota", "2M"]);
    volfs.ok(&["trash", "restore", "v:f"]);
    assert_eq!(fs::read(volume.join("f")).unwrap(), vec![1; 700 << 10]);
}

#[test]
fn a_catalogue_made_anew_keeps_the_setting() {
    let mut mount = Mount::new();
    let volfs = mount.volfs();
    let volume = mount.volume("v");
    volfs.ok(&["set", "v", "--trash-files", "1M"]);
    fs::write(volume.join("f"), "kept").unwrap();
    fs::remove_file(volume.join("f")).unwrap();
    mount.stop();
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(mount.store().join(format!("meta.db{suffix}")));
    }
    volfs.ok(&["doctor", "--rebuild-catalogue"]);
    assert!(
        volfs
            .ok(&["inspect", "v"])
            .contains("files are kept, up to 1 MiB")
    );
    mount.start();
    assert_eq!(paths(&volfs), ["f"]);
    fs::write(volume.join("g"), "too").unwrap();
    fs::remove_file(volume.join("g")).unwrap();
    assert_eq!(paths(&volfs), ["g", "f"]);
    volfs.ok(&["rm", "v"]);
    let id = mount.store().join("trash");
    let home = fs::read_dir(&id).unwrap().next().unwrap().unwrap().path();
    assert!(home.join("removed").exists());
    volfs.ok(&["trash", "empty", "--yes", "--wait"]);
    assert!(!home.exists());
}
