//! Which access times change by reading, with `noatime` and without: as on a
//! directory of the host that is mounted so.

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use support::{Mount, TestDir, run};

/// A directory of the host, mounted as it is said.
struct Oracle {
    path: PathBuf,
    // Last, so that it is removed after it is unmounted.
    _dir: TestDir,
}

impl Oracle {
    fn new(options: &str) -> Self {
        let dir = TestDir::new();
        let path = dir.mkdir("bound");
        run(Command::new("mount").arg("--bind").arg(&path).arg(&path));
        let oracle = Self { path, _dir: dir };
        let remount = format!("remount,bind,{options}");
        run(Command::new("mount")
            .args(["-o", &remount])
            .arg(&oracle.path));
        oracle
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).status();
    }
}

// Not an empty file: the kernel does not ask the daemon to read that.
const NAMES: [&str; 7] = ["", "file", "mapped", "dir", "link", "program", "touched"];

/// Says of each name whether its access time has changed by use.
fn changes(top: &Path) -> Vec<String> {
    let at = |name: &str| top.join(name);
    fs::write(at("file"), [7; 9000]).unwrap();
    fs::write(at("mapped"), [7; 9000]).unwrap();
    fs::write(at("touched"), "text").unwrap();
    // By another process: what this one has open for writing may be so in a child
    // that another test is just starting.
    run(Command::new("cp").arg("/bin/true").arg(at("program")));
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("dir/inside"), "").unwrap();
    symlink("file", at("link")).unwrap();
    // Older than the other times, so that "relatime" has reason to change it.
    let old = TimeSpec::new(1_000_000_000, 0);
    for name in NAMES {
        let path = at(name);
        let flag = UtimensatFlags::NoFollowSymlink;
        utimensat(
            nix::fcntl::AT_FDCWD,
            &path,
            &old,
            &TimeSpec::UTIME_OMIT,
            flag,
        )
        .unwrap();
    }
    read(&at("file"), 0);
    read(&at("touched"), libc::O_NOATIME);
    let mapped = fs::File::open(at("mapped")).unwrap();
    let map = support::map::Map::new(&mapped, 9000, support::map::Sharing::Private, false);
    assert_eq!(map.unwrap().read(8192, 1), [7]);
    drop(mapped);
    assert_eq!(fs::read_dir(at("dir")).unwrap().count(), 1);
    assert!(fs::read_dir(top).unwrap().count() >= NAMES.len() - 1);
    assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("file"));
    run(&mut Command::new(at("program")));
    let changed = |name: &&str| {
        let stat = at(name).symlink_metadata().unwrap();
        let is = if stat.atime() == 1_000_000_000 {
            "is as it was"
        } else {
            "has changed"
        };
        format!("{name:?} {is}")
    };
    NAMES.iter().map(changed).collect()
}

fn read(path: &Path, flags: i32) {
    let mut file = fs::File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .unwrap();
    file.read_to_end(&mut Vec::new()).unwrap();
}

const KINDS: [&[&str]; 4] = [
    &[],
    &["--no-passthrough"],
    &["--default-quota", "64M"],
    &["--default-kind", "disk", "--default-size", "64M"],
];

#[test]
fn with_noatime_none_changes() {
    let oracle = Oracle::new("noatime");
    let expected = changes(&oracle.path);
    assert!(expected.iter().all(|it| it.ends_with("is as it was")));
    for kind in KINDS {
        let arguments = [kind, &["-o", "noatime"]].concat();
        let mut mount = Mount::builder().supervised().args(&arguments).start();
        assert_eq!(changes(&mount.volume("v")), expected, "{kind:?}");
        mount.kill_serving();
        assert_eq!(changes(&mount.volume("w")), expected, "{kind:?} killed");
        mount.remount();
        assert_eq!(changes(&mount.volume("x")), expected, "{kind:?} again");
    }
}

#[test]
fn without_it_they_change_as_on_the_host() {
    let oracle = Oracle::new("relatime");
    let expected = changes(&oracle.path);
    assert!(expected.contains(&r#""file" has changed"#.to_owned()));
    for kind in KINDS {
        let mount = Mount::builder().args(kind).start();
        assert_eq!(changes(&mount.volume("v")), expected, "{kind:?}");
    }
}
