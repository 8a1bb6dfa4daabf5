//! Directories are charged their sizes in the copy, which are the copy's own.

use std::fs;
use std::path::Path;

use crate::support::{TestDir, Volfs, tree};
use crate::{args, assert_exact, assert_nothing_left, data_of, inspect};

fn long(n: usize) -> String {
    format!("{n:0>200}")
}

/// A volume with many names of few files, in its root, too.
fn many_names(volfs: &Volfs) {
    volfs.ok(&["create", "src", "--quota", "1M"]);
    let data = data_of(volfs, "src");
    fs::create_dir_all(data.join("a/b")).unwrap();
    fs::write(data.join("file"), "x").unwrap();
    for dir in ["", "a", "a/b"] {
        for n in 0..60 {
            fs::hard_link(data.join("file"), data.join(dir).join(long(n))).unwrap();
        }
    }
    // One that was large, and is not in the copy.
    fs::create_dir(data.join("emptied")).unwrap();
    for n in 0..60 {
        fs::hard_link(data.join("file"), data.join("emptied").join(long(n))).unwrap();
    }
    for n in 0..60 {
        fs::remove_file(data.join("emptied").join(long(n))).unwrap();
    }
    volfs.ok(&["verify", "--repair", "src"]);
}

fn is_exact(volfs: &Volfs, name: &str) {
    let used = &inspect(volfs, name)["used"];
    let used = (
        used["bytes"].as_u64().unwrap(),
        used["inodes"].as_u64().unwrap(),
    );
    assert_eq!(used, tree::charged(&data_of(volfs, name)), "{name}");
    assert_exact(volfs, name);
}

#[test]
fn copies_are_charged_their_own() {
    let dir = TestDir::new();
    let store = dir.mkdir("store");
    let volfs = Volfs::new(&store);
    many_names(&volfs);
    let archive = dir.join("archive.tar");
    volfs.ok(&["clone", "src", "clone"]);
    volfs.ok(&args!["export", "src", "-o", archive]);
    volfs.ok(&args!["import", "import", archive]);
    // One directory at a time, and not in order: that of the first entry is
    // filled again at the end.
    let other = dir.join("other.tar");
    let data = data_of(&volfs, "src");
    let mut names: Vec<String> = (0..60)
        .flat_map(|n| ["a/", "a/b/", ""].map(|dir| format!("./{dir}{}", long(n))))
        .collect();
    names.insert(0, "./emptied".to_owned());
    tar(&other, &data, &names);
    volfs.ok(&args!["import", "mixed", other]);
    for name in ["src", "clone", "import", "mixed"] {
        is_exact(&volfs, name);
    }
    assert!(
        inspect(&volfs, "src")["used"]["bytes"].as_u64()
            > inspect(&volfs, "clone")["used"]["bytes"].as_u64()
    );
    assert_nothing_left(&store);
}

fn tar(archive: &Path, data: &Path, names: &[String]) {
    crate::run(
        std::process::Command::new("tar")
            .args(["--no-recursion", "-cf"])
            .arg(archive)
            .arg("-C")
            .arg(data)
            .args(names),
    );
}

#[test]
fn names_count_towards_the_limit() {
    let dir = TestDir::new();
    let store = dir.mkdir("store");
    let volfs = Volfs::new(&store);
    many_names(&volfs);
    let archive = dir.join("archive.tar");
    volfs.ok(&args!["export", "src", "-o", archive]);
    for limit in ["32K", "16K"] {
        volfs.fails(1, &args!["import", "import", archive, "--quota", limit]);
        volfs.fails(1, &["clone", "src", "clone", "--quota", limit]);
    }
    assert_eq!(volfs.names(), ["src"]);
    assert_nothing_left(&store);
}
