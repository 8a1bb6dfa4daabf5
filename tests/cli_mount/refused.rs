//! Mounts that cannot be: the reason on the terminal, exit code 1, nothing
//! mounted, nothing left running.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Place;
use super::support::{TestDir, Volfs, proc};

/// The reason for which a mount on `mountpoint` is refused, in text and JSON
/// and in the foreground alike.
fn reason(volfs: &Volfs, mountpoint: &str) -> String {
    let said = volfs.fails(1, &["mount", mountpoint]);
    let foreground = volfs.fails(1, &["mount", "-f", mountpoint]);
    assert_eq!(said.lines().last(), foreground.lines().last());
    let json = volfs.fails(1, &["mount", "--json", mountpoint]);
    let value: Value = serde_json::from_str(&json).unwrap();
    let message = value["error"]["message"].as_str().unwrap();
    assert_eq!(said, format!("volfs: {message}\n"));
    said
}

#[test]
fn a_mountpoint_that_is_not_fit() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    volfs.ok(&["create", "a"]);
    fs::write(dir.join("file"), "").unwrap();
    fs::write(dir.mkdir("full").join("f"), "").unwrap();
    for (mountpoint, part) in [
        ("missing", "does not exist"),
        ("file", "not a directory"),
        ("full", "not empty"),
    ] {
        let path = dir.join(mountpoint);
        let said = reason(&volfs, path.to_str().unwrap());
        assert!(said.contains(part), "{said}");
        assert!(said.contains(path.to_str().unwrap()), "{said}");
    }
    assert_eq!(volfs.names(), ["a"], "the store is free again");
    let said = volfs.fails(2, &["mount", ""]);
    assert!(said.contains("an empty text is no path"), "{said}");
}

#[test]
fn a_mountpoint_that_is_mounted_already() {
    let place = Place::new();
    place.mount(&[]);
    let said = reason(&place.volfs, place.at());
    assert!(said.contains("is already mounted on"), "{said}");
    assert!(
        said.contains(&format!("volfs umount {}", place.at())),
        "{said}"
    );
    let other = Volfs::new(&place.dir.join("other"));
    assert!(reason(&other, place.at()).contains("is already mounted on"));
    let (_, source) = proc::mount_on(Path::new("/proc")).unwrap();
    let said = reason(&other, "/proc");
    assert!(said.contains(&source), "{source} in: {said}");
    assert!(place.is_mounted());
}

#[test]
fn a_store_that_another_daemon_has() {
    let place = Place::new();
    let pid = place.mount(&[]);
    let second = place.dir.mkdir("second");
    let said = reason(&place.volfs, second.to_str().unwrap());
    assert!(said.contains("is in use by"), "{said}");
    assert!(said.contains(&format!("by process {pid}")), "{said}");
    assert!(
        said.contains(&format!("volfs umount {}", place.at())),
        "{said}"
    );
    assert!(proc::mount_on(&second).is_none());
}

#[test]
fn a_store_that_is_none() {
    let place = Place::new();
    let foreign = place.dir.mkdir("foreign");
    fs::write(foreign.join("letter.txt"), "dear").unwrap();
    let said = reason(&Volfs::new(&foreign), place.at());
    assert!(said.contains("letter.txt"), "{said}");
    assert_eq!(
        fs::read_dir(&foreign).unwrap().count(),
        1,
        "no log in there"
    );
    let damaged = Volfs::new(&place.dir.join("damaged"));
    damaged.ok(&["create", "a"]);
    fs::write(damaged.store().join("meta.db"), "no database by any means").unwrap();
    let said = reason(&damaged, place.at());
    assert!(said.contains("--rebuild-catalogue"), "{said}");
    assert!(!place.is_mounted());
}
