//! One file of every type, for cases that go through all of them.

use rustix::fs::{FileType, makedev};

use crate::dir::Dir;

/// The names that [`make_all`] makes.
pub const ALL_KINDS: &[&str] = &[
    "reg", "dir", "fifo", "socket", "char", "block", "symlink", "dangling", "dirlink",
];

/// Makes one file of every type.
pub fn make_all(d: &Dir) {
    d.file("reg", b"content");
    d.subdir("dir", 0o755);
    d.mknod("fifo", FileType::Fifo, 0o640, 0).unwrap();
    d.mknod("socket", FileType::Socket, 0o600, 0).unwrap();
    d.mknod("char", FileType::CharacterDevice, 0o666, makedev(1, 3))
        .unwrap();
    d.mknod("block", FileType::BlockDevice, 0o660, makedev(7, 300))
        .unwrap();
    d.symlink("reg", "symlink").unwrap();
    d.symlink("nowhere", "dangling").unwrap();
    d.symlink("dir", "dirlink").unwrap();
}
