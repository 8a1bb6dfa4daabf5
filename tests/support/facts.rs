//! Everything there is to know of the files of a tree, to compare it with
//! another.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What is known of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    mode: u32,
    owner: (u32, u32),
    size: u64,
    mtime: (i64, i64),
    rdev: u64,
    /// The first name of the same inode.
    same_as: PathBuf,
    target: Option<PathBuf>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    contents: u32,
    /// Where data is, and how much, in pages.
    data: Vec<(u64, u64)>,
}

/// All files below `root`, and `root` itself, by their paths.
pub fn of(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut all = BTreeMap::new();
    let mut firsts = HashMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let full = root.join(&path);
        let meta = full.symlink_metadata().unwrap();
        all.insert(path.clone(), meta.clone());
        if meta.is_dir() {
            for entry in fs::read_dir(&full).unwrap() {
                left.push(path.join(entry.unwrap().file_name()));
            }
        }
    }
    all.into_iter()
        .map(|(path, meta)| {
            let full = root.join(&path);
            let same_as = firsts.entry(meta.ino()).or_insert(path.clone()).clone();
            let is_dir = meta.is_dir();
            let sum_of_file = if meta.is_file() {
                let data = data(&full);
                let sum = sum(&full, &data);
                (data, sum)
            } else {
                (Vec::new(), 0)
            };
            let facts = Facts {
                mode: meta.mode(),
                owner: (meta.uid(), meta.gid()),
                // What a directory takes is the file system's business.
                size: if is_dir { 0 } else { meta.size() },
                mtime: (meta.mtime(), meta.mtime_nsec()),
                rdev: if meta.file_type().is_char_device() || meta.file_type().is_block_device() {
                    meta.rdev()
                } else {
                    0
                },
                same_as,
                target: fs::read_link(&full).ok(),
                xattrs: xattrs(&full),
                contents: sum_of_file.1,
                data: sum_of_file.0,
            };
            (path, facts)
        })
        .collect()
}

/// Whether two trees are the same in everything.
///
/// # Panics
/// With the first file that differs.
pub fn assert_same(a: &Path, b: &Path) {
    let (left, right) = (of(a), of(b));
    for (path, facts) in &left {
        assert_eq!(
            Some(facts),
            right.get(path),
            "{path:?} in {a:?} and in {b:?}"
        );
    }
    assert_eq!(
        left.keys().collect::<Vec<_>>(),
        right.keys().collect::<Vec<_>>()
    );
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0; 65536];
    let len = rustix::fs::llistxattr(path, &mut list).unwrap();
    let mut found: Vec<_> = list[..len]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65536];
            let len =
                rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value).unwrap();
            (name.to_vec(), value[..len].to_vec())
        })
        .collect();
    found.sort();
    found
}

/// A checksum of what is no hole.
fn sum(path: &Path, data: &[(u64, u64)]) -> u32 {
    let file = File::open(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let mut buffer = vec![0; 1 << 20];
    let mut sum = 0;
    for &(offset, len) in data {
        let mut at = offset;
        while at < offset + len {
            let want = (offset + len - at).min(1 << 20) as usize;
            file.read_exact_at(&mut buffer[..want], at).unwrap();
            sum = crc32c::crc32c_append(sum, &buffer[..want]);
            at += want as u64;
        }
    }
    sum
}

/// `SEEK_DATA` and `SEEK_HOLE`.
pub fn data(path: &Path) -> Vec<(u64, u64)> {
    use rustix::fs::{SeekFrom, seek};
    let file = File::open(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let end = file.metadata().unwrap().len();
    let mut found = Vec::new();
    let mut at = 0;
    while at < end {
        let Ok(data) = seek(&file, SeekFrom::Data(at)) else {
            break;
        };
        let hole = seek(&file, SeekFrom::Hole(data)).unwrap();
        found.push((data, hole - data));
        at = hole;
    }
    found
}
