//! What a tree is charged, found by walking it on the host.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes and inodes below `root` by the rule: a regular file its size rounded
/// up to 4 KiB, a directory its size on the host likewise, but at least 4 KiB,
/// everything with an inode one, hard links once. Of the root only what its
/// size has beyond 4 KiB.
pub fn charged(root: &Path) -> (u64, u64) {
    let of_dir = |meta: &std::fs::Metadata| meta.len().div_ceil(4096).max(1) * 4096;
    let (mut bytes, mut inodes) = (of_dir(&root.metadata().unwrap()) - 4096, 0);
    let mut seen = HashSet::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if !meta.is_dir() && !seen.insert(meta.ino()) {
                continue;
            }
            inodes += 1;
            if meta.is_dir() {
                bytes += of_dir(&meta);
                left.push(entry.path());
            } else if meta.is_file() {
                bytes += meta.len().div_ceil(4096) * 4096;
            }
        }
    }
    (bytes, inodes)
}
