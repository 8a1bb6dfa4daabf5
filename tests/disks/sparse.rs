//! Files of an image that a guest has written, with holes and extended attributes:
//! as the kernel shows them when it mounts the same image, at a cost that does not
//! depend on how large they claim to be.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::unistd::Whence;

use crate::support::{Mount, TestDir, output, run};
use crate::{attach, create, eventually, image, last_error, names};

/// Gives the image at `raw` to a volume, as a guest does.
fn give(mount: &Mount, raw: &Path) {
    let target = eventually("attach", || attach(mount, "db"));
    target.write_all_at(&fs::read(raw).unwrap(), 0).unwrap();
    drop(target);
    eventually("detached", || File::open(image(mount, "db")));
}

/// An image that the kernel mounts for as long as `with` takes.
fn mounted<T>(raw: &Path, options: &str, with: impl FnOnce(&Path) -> T) -> T {
    let dir = TestDir::new();
    let at = dir.mkdir("at");
    run(Command::new("mount")
        .args(["-o", options])
        .arg(raw)
        .arg(&at));
    let result = with(&at);
    run(Command::new("umount").arg(&at));
    result
}

const END: u64 = 1 << 40;

fn fill(dir: &Path, end: u64) {
    fs::write(dir.join("ok"), "ok").unwrap();
    let mut file = File::create(dir.join("hole")).unwrap();
    file.write_all(b"begin").unwrap();
    file.write_all_at(b"middle", end / 3).unwrap();
    file.write_all_at(b"end", end).unwrap();
    // Many runs, so that they are in a tree or behind several levels.
    let file = File::create(dir.join("many")).unwrap();
    for number in 0..700_u64 {
        file.write_all_at(&[number as u8; 100], number * 20_000)
            .unwrap();
    }
    let file = File::create(dir.join("reserved")).unwrap();
    let none = nix::fcntl::FallocateFlags::empty();
    if nix::fcntl::fallocate(&file, none, 0, 1 << 20).is_ok() {
        file.write_all_at(b"written", 1 << 19).unwrap();
    }
    File::create(dir.join("all hole"))
        .unwrap()
        .set_len(end)
        .unwrap();
    fs::write(dir.join("empty"), "").unwrap();
    fs::create_dir(dir.join("dir")).unwrap();
    for (name, size) in [("user.small", 5), ("user.large", 900)] {
        for path in ["ok", "dir"] {
            rustix::fs::setxattr(
                dir.join(path),
                name,
                &vec![b'x'; size],
                rustix::fs::XattrFlags::empty(),
            )
            .unwrap();
        }
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(dir.join("ok"), "trusted.secret", b"guest", flags).unwrap();
}

/// What a file is, read where it has data.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    size: u64,
    blocks: u64,
    /// How many runs of data there are, where they are and what is in them.
    data: (usize, u32),
    attributes: BTreeMap<String, (usize, u32)>,
}

fn shape(path: &Path) -> Shape {
    let found = fs::metadata(path).unwrap();
    let mut list = vec![0; 4096];
    let len = rustix::fs::listxattr(path, &mut list).unwrap();
    let all = String::from_utf8(list[..len].to_vec()).unwrap();
    let users = all
        .split_terminator('\0')
        .filter(|it| it.starts_with("user."));
    let attributes = users.map(|name| {
        let mut value = vec![0; 4096];
        let len = rustix::fs::getxattr(path, name, &mut value).unwrap();
        (name.to_owned(), (len, crc(&value[..len])))
    });
    let attributes = attributes.collect();
    let mut shape = Shape {
        size: found.len(),
        blocks: found.blocks(),
        data: (0, 0),
        attributes,
    };
    if !found.is_file() {
        return shape;
    }
    let file = File::open(path).unwrap();
    let seek = |at: u64, whence| {
        let found = nix::unistd::lseek(&file, at.cast_signed(), whence);
        found.ok().map(i64::cast_unsigned)
    };
    let mut runs = Vec::new();
    let mut at = 0;
    while let Some(begin) = seek(at, Whence::SeekData) {
        at = seek(begin, Whence::SeekHole).unwrap();
        runs.push((begin, at));
    }
    assert_eq!(seek(found.len(), Whence::SeekData), None);
    for (begin, end) in runs {
        let mut bytes = vec![0; (end - begin) as usize];
        file.read_exact_at(&mut bytes, begin).unwrap();
        let run = format!("{} {begin} {end} {}", shape.data.1, crc(&bytes));
        shape.data = (shape.data.0 + 1, crc(run.as_bytes()));
    }
    shape
}

fn crc(bytes: &[u8]) -> u32 {
    let mix = |sum: u32, byte: &u8| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811c_9dc5, mix)
}

fn shapes(dir: &Path) -> BTreeMap<String, Shape> {
    let names = ["ok", "hole", "many", "reserved", "all hole", "empty", "dir"];
    let shape = |name: &str| (name.to_owned(), shape(&dir.join(name)));
    names.into_iter().map(shape).collect()
}

#[test]
fn files_are_as_the_kernel_shows_them() {
    let dir = TestDir::new();
    let raw = dir.join("raw");
    let mount = Mount::new();
    let seen = create(&mount, "db", "32M");
    // As a tree of extents, and as ext3 has it, which ends at 16 GiB there.
    for (features, block, end) in [
        ("^metadata_csum,^64bit", "4096", END),
        ("metadata_csum,64bit,^dir_index", "4096", END),
        ("^extent,^64bit,^flex_bg", "4096", END),
        ("^extent,^64bit,^flex_bg", "1024", 10 << 30),
        ("^has_journal,metadata_csum", "2048", END),
    ] {
        let _ = fs::remove_file(&raw);
        File::create(&raw).unwrap().set_len(32 << 20).unwrap();
        let mkfs = ["-q", "-F", "-b", block, "-O", features];
        run(Command::new("mkfs.ext4").args(mkfs).arg(&raw));
        mounted(&raw, "loop", |at| fill(at, end));
        give(&mount, &raw);
        let wanted = mounted(&raw, "loop,ro", shapes);
        let start = Instant::now();
        let found = shapes(&seen);
        assert_eq!(found, wanted, "{features}");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5), "{features}: {took:?}");
        let file = File::open(seen.join("hole")).unwrap();
        let mut end_of_it = [1; 10];
        assert_eq!(file.read_at(&mut end_of_it, end - 7).unwrap(), 10);
        assert_eq!(&end_of_it, b"\0\0\0\0\0\0\0end", "{features}");
        // Listed first, with what the kernel keeps of it.
        mount.volfs().ok(&["ls"]);
        let listed = names(&seen).unwrap();
        assert!(listed.contains(&"hole".into()));
        let secret = rustix::fs::getxattr(seen.join("ok"), "trusted.secret", &mut [0; 10]);
        assert_eq!(secret, Err(rustix::io::Errno::NODATA), "is the guest's");
    }
    assert_eq!(mount.daemon_complaints(), "");
}

/// What debugfs says.
fn debugfs(raw: &Path, request: &str) -> String {
    let out = output(Command::new("debugfs").args(["-w", "-R", request]).arg(raw));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn what_cannot_be_read_costs_nothing_else() {
    let dir = TestDir::new();
    let raw = dir.join("raw");
    let mount = Mount::new();
    let seen = create(&mount, "db", "32M");
    let make = |features: &str| {
        let _ = fs::remove_file(&raw);
        File::create(&raw).unwrap().set_len(32 << 20).unwrap();
        let mkfs = ["-q", "-F", "-b", "4096", "-O", features];
        run(Command::new("mkfs.ext4").args(mkfs).arg(&raw));
        mounted(&raw, "loop", |at| fill(at, END));
    };
    let read_end = || {
        let file = File::open(seen.join("hole"))?;
        file.read_at(&mut [0; 3], END)
    };
    // A tree that is of no depth, in one file.
    make("^metadata_csum,^64bit");
    debugfs(&raw, "set_inode_field hole block[1] 0x00090004");
    give(&mount, &raw);
    for _ in 0..2 {
        let errno = read_end().unwrap_err().raw_os_error();
        assert_eq!(errno, Some(libc::EUCLEAN));
        let why = last_error(&mount);
        assert!(why.contains("volfs disk check db"), "{why:?}");
        assert_eq!(fs::read_to_string(seen.join("ok")).unwrap(), "ok");
    }
    // What has to be counted: the guest was killed, and its journal tells of files.
    make("metadata_csum,64bit");
    mounted(&raw, "loop", |at| {
        File::create(at.join("new")).unwrap().sync_all().unwrap();
        give(&mount, &raw);
    });
    let start = Instant::now();
    for _ in 0..2 {
        let errno = read_end().unwrap_err().raw_os_error();
        assert_eq!(errno, Some(libc::EFBIG));
        assert_eq!(fs::read_to_string(seen.join("ok")).unwrap(), "ok");
    }
    let begin = File::open(seen.join("hole")).unwrap();
    let mut bytes = [0; 5];
    begin.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"begin");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
}
