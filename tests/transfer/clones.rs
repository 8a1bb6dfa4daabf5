//! Clones: at once and for nothing where the host's file system can, without
//! the holes elsewhere.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::facts::assert_same;
use crate::support::{Mount, OwnFs, TestDir, Volfs, run};
use crate::{args, assert_exact, assert_nothing_left, data_of, fill, inspect};

/// 1 GiB of volume, on a btrfs of its own.
#[test]
fn a_gibibyte_on_btrfs_takes_no_time_and_no_space() {
    let btrfs = OwnFs::new(&["mkfs.btrfs", "-q", "-m", "single"], 3 << 30);
    let mount = Mount::builder().parent(btrfs.path()).start();
    let volfs = mount.volfs();
    volfs.ok(&["create", "src", "--quota", "2G", "--label", "k=v"]);
    let src = mount.join("src");
    // Not zeros, of which btrfs could make nothing.
    let block: Vec<u8> = (0..16_u32 << 20)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for i in 0..64 {
        fs::write(src.join(format!("f{i}")), &block).unwrap();
    }
    let free = btrfs.free();
    let mut best = Duration::MAX;
    for round in 0..4 {
        let name = format!("copy{round}");
        let start = Instant::now();
        let said: Value =
            serde_json::from_str(&volfs.ok(&args!["clone", "src", name, "--json"])).unwrap();
        best = best.min(start.elapsed());
        assert_eq!(said["shared"], true);
        assert_exact(&volfs, &name);
    }
    let taken = free.saturating_sub(btrfs.free());
    println!("a clone of 1 GiB on btrfs: {best:?}; four of them take {taken} bytes");
    assert!(best < Duration::from_millis(100), "{best:?}");
    assert!(taken < 8 << 20, "{taken} bytes for four clones");
    let copy = inspect(&volfs, "copy0");
    let original = inspect(&volfs, "src");
    for key in ["limits", "labels", "used"] {
        assert_eq!(copy[key], original[key]);
    }
    assert_eq!(copy["used"]["bytes"], 1 << 30);
    // Each is its own from here on.
    fs::write(mount.join("copy0/f0"), "changed").unwrap();
    fs::remove_file(src.join("f1")).unwrap();
    assert_eq!(fs::read(src.join("f0")).unwrap(), block);
    assert_eq!(fs::read(mount.join("copy0/f1")).unwrap(), block);
    assert_exact(&volfs, "copy0");
    // The image of a disk volume as well.
    volfs.ok(&["create", "disk", "--disk", "--size", "128M"]);
    fs::write(mount.join("disk/f"), vec![9; 64 << 20]).unwrap();
    let said: Value =
        serde_json::from_str(&volfs.ok(&["clone", "disk", "disk2", "--json"])).unwrap();
    assert_eq!(said["shared"], true);
    assert_eq!(fs::read(mount.join("disk2/f")).unwrap().len(), 64 << 20);
}

#[test]
fn on_ext4_holes_stay_holes() {
    let ext4 = OwnFs::new(&["mkfs.ext4", "-q"], 512 << 20);
    let mount = Mount::builder().parent(ext4.path()).start();
    let volfs = mount.volfs();
    volfs.ok(&["create", "src", "--quota", "4G"]);
    fill(&mount.join("src"));
    let free = ext4.free();
    let said: Value = serde_json::from_str(&volfs.ok(&["clone", "src", "dst", "--json"])).unwrap();
    assert_eq!(said["shared"], false);
    let (src, dst) = (data_of(&volfs, "src"), data_of(&volfs, "dst"));
    assert_same(&src, &dst);
    assert_same(&mount.join("src"), &mount.join("dst"));
    assert_exact(&volfs, "dst");
    let taken = free - ext4.free();
    // 1.2 GiB by size.
    assert!(inspect(&volfs, "dst")["used"]["bytes"].as_u64().unwrap() > 1 << 30);
    assert!(taken < 8 << 20, "{taken}");
    for file in ["sparse", "only-hole", "a/hole-first"] {
        let blocks = |dir: &std::path::Path| fs::metadata(dir.join(file)).unwrap().blocks();
        assert_eq!(blocks(&src), blocks(&dst), "{file}");
    }
    // An image with what is in it, but not with its holes.
    volfs.ok(&["create", "disk", "--disk", "--size", "1G"]);
    fs::write(mount.join("disk/f"), "in the image").unwrap();
    let free = ext4.free();
    volfs.ok(&["clone", "disk", "disk2"]);
    assert!(free - ext4.free() < 64 << 20);
    assert_eq!(
        fs::read_to_string(mount.join("disk2/f")).unwrap(),
        "in the image"
    );
    fs::write(mount.join("disk2/g"), "its own").unwrap();
    assert!(!mount.join("disk/g").exists());
}

#[test]
fn limits_labels_pins_and_names() {
    let mount = Mount::new();
    let dir = TestDir::new();
    let offline = Volfs::new(&dir.join("store"));
    for volfs in [mount.volfs(), offline] {
        volfs.ok(&["create", "src", "--quota", "1M", "--label", "a=1"]);
        volfs.ok(&["pin", "src"]);
        fs::write(
            match volfs.run(&["path", "--unmounted", "src"]).out.trim_end() {
                path if path.starts_with(mount.path().to_str().unwrap()) => mount.join("src/f"),
                path => std::path::Path::new(path).join("f"),
            },
            vec![1; 100_000],
        )
        .unwrap();
        volfs.ok(&["verify", "--repair"]);
        volfs.ok(&[
            "clone",
            "src",
            "two",
            "--label",
            "b=2",
            "--quota-inodes",
            "50",
        ]);
        let two = inspect(&volfs, "two");
        assert_eq!(two["labels"], json!([["a", "1"], ["b", "2"]]));
        assert_eq!(two["limits"], json!({"bytes": 1 << 20, "inodes": 50}));
        assert_eq!(two["pinned"], false);
        assert_exact(&volfs, "two");
        let said = volfs.fails(1, &["clone", "src", "three", "--quota", "50K"]);
        assert!(said.contains("quota of 50 KiB"), "{said}");
        let said = volfs.fails(1, &["clone", "src", "two"]);
        assert!(said.contains("already exists"), "{said}");
        assert!(
            volfs
                .fails(1, &["clone", "gone", "four"])
                .contains("\"gone\"")
        );
        volfs.fails(2, &["clone", "src", "../x"]);
        // A limit that was lowered below what is used is lowered for the copy.
        volfs.ok(&["set", "src", "--quota", "8K"]);
        volfs.ok(&["clone", "src", "five"]);
        assert_eq!(
            inspect(&volfs, "five")["used"],
            inspect(&volfs, "src")["used"]
        );
        assert_eq!(volfs.names(), ["five", "src", "two"]);
        assert_nothing_left(volfs.store());
    }
    let said = fs::write(mount.join("five/g"), [1; 5000]).unwrap_err();
    assert_eq!(said.raw_os_error(), Some(libc::ENOSPC));
}

/// What the store's directory hands down is not the volume's.
#[test]
fn a_default_acl_of_the_store_is_nobodys_business() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    volfs.ok(&["create", "src"]);
    fill(&data_of(&volfs, "src"));
    volfs.ok(&["verify", "--repair"]);
    volfs.ok(&["create", "disk", "--disk", "--size", "16M"]);
    for below in ["", "tmp", "volumes"] {
        run(Command::new("setfacl")
            .args(["-d", "-m", "u:4242:rwx,g:4242:rwx"])
            .arg(volfs.store().join(below)));
    }
    let archive = dir.join("a.tar");
    volfs.ok(&args!["export", "src", "-o", archive]);
    volfs.ok(&args!["import", "imported", archive]);
    volfs.ok(&["clone", "src", "cloned"]);
    for name in ["imported", "cloned"] {
        assert_same(&data_of(&volfs, "src"), &data_of(&volfs, name));
    }
    volfs.ok(&["create", "new"]);
    volfs.ok(&["create", "new-disk", "--disk", "--size", "16M"]);
    volfs.ok(&["clone", "disk", "cloned-disk"]);
    for name in ["new", "new-disk", "cloned-disk"] {
        let mut path = data_of(&volfs, name);
        if name.ends_with("disk") {
            path.set_file_name("disk.raw");
        }
        let mut list = [0; 1000];
        let len = rustix::fs::listxattr(&path, &mut list).unwrap();
        let list = String::from_utf8_lossy(&list[..len]);
        assert!(!list.contains("posix_acl"), "{name}: {list}");
    }
}

/// Every file of a clone is one that was there at some moment, and the account
/// is what a walk finds, while four writers go on.
#[test]
fn a_volume_in_use_is_cloned() {
    let mount = Mount::new();
    let volfs = mount.volfs();
    volfs.ok(&["create", "busy", "--quota", "64M"]);
    let busy = mount.join("busy");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (busy, stop) = (&busy, &stop);
            scope.spawn(move || {
                for i in 0_u32.. {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        return;
                    }
                    let name = busy.join(format!("w{worker}-{}", i % 40));
                    let new = busy.join(format!("w{worker}.new"));
                    fs::write(&new, vec![b'0' + worker; 10_000]).unwrap();
                    fs::rename(&new, &name).unwrap();
                    if i % 3 == 0 {
                        fs::remove_file(&name).unwrap();
                    }
                }
            });
        }
        for round in 0..6 {
            let name = format!("copy{round}");
            let cloned = volfs.run(&["clone", "busy", &name]);
            assert_eq!(cloned.code, Some(0), "{}", cloned.err);
            assert_exact(&volfs, &name);
            for entry in fs::read_dir(mount.join(&name)).unwrap() {
                let path = entry.unwrap().path();
                let contents = fs::read(&path).unwrap();
                if path.extension().is_none() {
                    assert_eq!(contents.len(), 10_000, "{path:?}");
                }
                assert!(contents.iter().all(|byte| *byte == contents[0]), "{path:?}");
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_exact(&volfs, "busy");
}
