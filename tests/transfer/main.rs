//! Whole volumes on their way: exports and imports that lose nothing, archives
//! that mean harm, clones.

#[path = "../support/mod.rs"]
mod support;

mod clones;
mod cut;
mod deep;
mod directories;
mod ends;
mod hostile;
mod memory;
mod moved;
mod round_trip;
mod times;
mod too_much;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{Volfs, run};

/// Files of every sort, with everything that can be said of a file.
pub fn fill(dir: &Path) {
    let path = |name: &str| dir.join(name);
    let set = |name: &str, key: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path(name), key, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    fs::create_dir_all(path("a/b/c")).unwrap();
    fs::write(path("a/text"), "text").unwrap();
    fs::write(path("empty"), "").unwrap();
    fs::write(path("a/b/large"), vec![0xa5; 3 << 20]).unwrap();
    for link in ["hard", "a/b/c/hard", "z-hard"] {
        fs::hard_link(path("a/text"), path(link)).unwrap();
    }
    symlink("../a/text", path("a/soft")).unwrap();
    symlink("/etc/passwd", path("absolute")).unwrap();
    symlink("x".repeat(300), path("a/long-target")).unwrap();
    let odd = std::ffi::OsStr::new("line\nfeed ünd %=");
    fs::write(dir.join(odd), "odd").unwrap();
    let bytes: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(vec![0xff, 0xfe]);
    fs::write(dir.join(bytes), "no UTF-8").unwrap();
    fs::write(path(&"n".repeat(255)), "a long name").unwrap();
    let deep = (0..12).fold(dir.to_owned(), |dir, _| dir.join("d".repeat(30)));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f"), "deep").unwrap();

    let sparse = File::create(path("sparse")).unwrap();
    sparse.write_all_at(&[1; 5000], 1 << 20).unwrap();
    sparse.write_all_at(&[2; 4096], 100 << 20).unwrap();
    sparse.set_len((200 << 20) + 17).unwrap();
    let end = File::create(path("a/hole-first")).unwrap();
    end.write_all_at(b"end", 10 << 20).unwrap();
    File::create(path("only-hole"))
        .unwrap()
        .set_len(1 << 30)
        .unwrap();

    run(Command::new("mkfifo").args(["-m", "640"]).arg(path("fifo")));
    std::os::unix::fs::chown(path("a/text"), Some(1234), Some(4321)).unwrap();
    std::os::unix::fs::lchown(path("a/soft"), Some(7), Some(8)).unwrap();
    std::os::unix::fs::chown(path("a/b"), Some(3_000_000_000), Some(5)).unwrap();
    fs::set_permissions(path("a/b/large"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(path("a/b/c"), fs::Permissions::from_mode(0o1000)).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o2751)).unwrap();

    set("a/text", "user.plain", b"value");
    set("a/text", "user.100%=odd", b"a=b\nc\0d");
    set("a/b", "user.dir", &[0; 900]);
    set(
        "a/b/large",
        "security.capability",
        &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    set("empty", "trusted.mine", b"1");
    run(Command::new("setfacl")
        .args(["-m", "u:1234:rw,g:99:r,m::rwx"])
        .arg(path("a/text")));
    run(Command::new("setfacl")
        .args(["-d", "-m", "u:77:rwx,o::-"])
        .arg(path("a/b")));

    // Times last; those of directories change with what is in them.
    for (name, time) in [
        ("a/text", "2001-02-03T04:05:06.123456789Z"),
        ("empty", "1901-12-31T00:00:00.5Z"),
        ("a/b/large", "2199-01-01T00:00:00Z"),
        ("a/soft", "1999-09-09T09:09:09.000000001Z"),
        ("a/b/c", "1970-01-01T00:00:00Z"),
        ("a/b", "2010-10-10T10:10:10.1Z"),
        ("a", "2011-11-11T11:11:11.25Z"),
    ] {
        run(Command::new("touch")
            .args(["-h", "-d", time])
            .arg(path(name)));
    }
}

/// `volfs verify` finds what is charged.
pub fn assert_exact(volfs: &Volfs, name: &str) {
    let answer: Value = serde_json::from_str(&volfs.ok(&["verify", "--json", name])).unwrap();
    assert_eq!(answer[0]["accounted"], answer[0]["found"], "{name}");
    assert_eq!(answer[0]["was_exact"], true, "{name}");
}

/// One volume, as `volfs inspect` has it.
pub fn inspect(volfs: &Volfs, name: &str) -> Value {
    let all: Value = serde_json::from_str(&volfs.ok(&["inspect", "--json", name])).unwrap();
    all[0].clone()
}

/// The volume's own directory in the store.
pub fn data_of(volfs: &Volfs, name: &str) -> PathBuf {
    PathBuf::from(inspect(volfs, name)["path"].as_str().unwrap())
}

/// There is nothing half-made in the store.
pub fn assert_nothing_left(store: &Path) {
    let left: Vec<_> = fs::read_dir(store.join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The arguments of a command, paths among them.
#[macro_export]
macro_rules! args {
    ($($argument:expr),* $(,)?) => {
        [$(std::ffi::OsStr::new(&$argument)),*]
    };
}
