//! Trees that are deeper than a process may have descriptors, and than a path
//! may be long.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use rustix::fs::CWD;
use volfs::transfer::{ExportOptions, export};

use crate::support::{TestDir, Volfs};
use crate::{args, assert_exact, data_of, inspect};

const DEPTH: u64 = 5000;
const LIMIT: &str = "--nofile=256";

/// Makes directories in each other, some with a file before and after the next.
fn make_deep(top: &Path, depth: u64) {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY;
    let mut dir = open(top, flags, Mode::empty()).unwrap();
    for level in 0..depth {
        for name in ["a", "z"] {
            let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
            if level % 10 == 0 {
                openat(&dir, name, flags, Mode::S_IRWXU).unwrap();
            }
        }
        mkdirat(&dir, "m", Mode::S_IRWXU).unwrap();
        dir = openat(&dir, "m", flags, Mode::empty()).unwrap();
    }
}

/// The command with few descriptors.
fn limited(volfs: &Volfs, arguments: &[impl AsRef<std::ffi::OsStr>]) {
    let mut command = Command::new("prlimit");
    command
        .arg(LIMIT)
        .arg(env!("CARGO_BIN_EXE_volfs"))
        .args(arguments)
        .env("VOLFS_STORE", volfs.store())
        .stdin(Stdio::null());
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
}

#[test]
fn copies_of_a_tree_that_is_deeper_than_descriptors_go() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    volfs.ok(&["create", "src"]);
    make_deep(&data_of(&volfs, "src"), DEPTH);
    limited(&volfs, &["verify", "--repair"]);
    let used = inspect(&volfs, "src")["used"].clone();
    assert_eq!(used["inodes"], DEPTH + DEPTH / 5);
    let archive = dir.join("a.tar");
    limited(&volfs, &args!["export", "src", "-o", archive]);
    limited(&volfs, &["clone", "src", "cloned"]);
    limited(&volfs, &args!["import", "imported", archive]);
    for name in ["cloned", "imported"] {
        assert_eq!(inspect(&volfs, name)["used"], used);
        assert_exact(&volfs, name);
        let again = dir.join(name);
        volfs.ok(&args!["export", name, "-o", again]);
        let (first, second) = (entries(&archive), entries(&again));
        assert!(first == second, "{name} is another tree");
    }
    for name in ["src", "cloned", "imported"] {
        limited(&volfs, &["rm", "--purge", "--wait", name]);
    }
}

/// The archive but for what says of which volume it is.
fn entries(archive: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(archive).unwrap();
    // One header, and one block of what it says.
    bytes.drain(..1024);
    bytes
}

/// An error of a file far below says where that is, in a line or two.
#[test]
fn long_paths_are_shown_in_short() {
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    volfs.ok(&["create", "src"]);
    make_deep(&data_of(&volfs, "src"), 1000);
    volfs.ok(&["verify", "--repair"]);
    let said = volfs.fails(1, &["clone", "src", "small", "--quota-inodes", "900"]);
    assert!(said.len() < 1000, "{} bytes: {said}", said.len());
    assert!(said.contains('…') && said.contains("quota"), "{said}");
}

#[test]
fn the_library_removes_a_tree_that_is_deeper_than_descriptors_go() {
    const CHILD: &str = "VOLFS_TEST_REMOVE_IN";
    if let Some(store) = std::env::var_os(CHILD) {
        let volumes = volfs::open(&store).unwrap();
        let volume = volfs::Volume::get(&volumes, "v").unwrap();
        volume.fs().unwrap().remove_dir("m").unwrap();
        return;
    }
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    volfs.ok(&["create", "v", "--quota", "1G"]);
    let data: OwnedFd = open(&data_of(&volfs, "v"), OFlag::O_RDONLY, Mode::empty()).unwrap();
    make_deep(&data_of(&volfs, "v"), DEPTH);
    volfs.ok(&["verify", "--repair"]);
    let out = Command::new("prlimit")
        .arg(LIMIT)
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "deep::the_library_removes_a_tree_that_is_deeper_than_descriptors_go",
        ])
        .env(CHILD, volfs.store())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{said}");
    let left = nix::sys::stat::fstatat(&data, "m", nix::fcntl::AtFlags::empty());
    assert_eq!(left.map(drop), Err(nix::errno::Errno::ENOENT));
    assert_eq!(inspect(&volfs, "v")["used"]["inodes"], 2);
    assert_exact(&volfs, "v");
}

/// Somebody moves directories about, and puts links out of the volume in their
/// place: a copy has what is in the volume, and nothing else.
#[test]
fn directories_that_are_swapped_for_links_meanwhile() {
    const LEVELS: usize = 150;
    let dir = TestDir::new();
    let volfs = Volfs::new(&dir.join("store"));
    volfs.ok(&["create", "src"]);
    let outside = dir.mkdir("outside");
    std::fs::write(outside.join("secret"), "secret").unwrap();
    let src = data_of(&volfs, "src");
    let tree = src.join("d/".repeat(LEVELS));
    std::fs::create_dir_all(&tree).unwrap();
    let links: Vec<_> = [5, 70, 140]
        .map(|level| {
            let path = src.join("d/".repeat(level));
            std::fs::write(path.join("f"), "inside").unwrap();
            let link = src.join(format!("link-{level}"));
            std::os::unix::fs::symlink(&outside, &link).unwrap();
            (path.join("d"), link)
        })
        .into();
    let stop = AtomicBool::new(false);
    let mut swaps = AtomicU64::new(0);
    let mut vanished = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (path, link) in links.iter().rev() {
                    for _ in 0..2 {
                        let exchange = rustix::fs::RenameFlags::EXCHANGE;
                        rustix::fs::renameat_with(CWD, path, CWD, link, exchange).unwrap();
                        swaps.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        let stop = StopAtEnd(&stop);
        let volumes = volfs::open(volfs.store()).unwrap();
        let options = ExportOptions {
            compress: false,
            archive: "a.tar".into(),
            itself: Vec::new(),
        };
        let name = "src".parse().unwrap();
        for _ in 0..300 {
            let mut archive = Vec::new();
            let exported = export(&*volumes, &name, &options, &mut archive, &()).unwrap();
            vanished += exported.vanished.len();
            let has = |word: &[u8]| archive.windows(word.len()).any(|it| it == word);
            assert!(!has(b"secret"), "something from outside");
        }
        drop(stop);
    });
    println!("{vanished} vanished, {swaps:?} swaps");
    assert!(*swaps.get_mut() > 1000);
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
