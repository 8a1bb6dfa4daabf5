//! Symbolic links in the path of an overlay's layer: its options have the path
//! as whoever mounted it said it.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::readlinkat;

/// As many as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// File systems that answer by themselves. Any other may be waiting for us.
const LOCAL: [&str; 13] = [
    "bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "ramfs", "rootfs", "squashfs",
    "tmpfs", "xfs", "zfs",
];

/// Whether files of this type of file system can be looked at.
pub(super) fn answers_by_itself(fs_type: &str) -> bool {
    LOCAL.contains(&fs_type)
}

/// `path` below `root` with its links followed, as far as `may_look` at what
/// is there; `plain` are paths that are known to be no links.
pub(super) fn follow(
    root: impl AsFd,
    path: &Path,
    plain: &mut HashSet<PathBuf>,
    may_look: impl Fn(&Path) -> bool,
) -> PathBuf {
    let mut done = PathBuf::from("/");
    let mut rest = path.to_owned();
    let mut links = 0;
    loop {
        let mut parts = rest.components();
        let Some(part) = parts.next() else {
            return done;
        };
        let after = parts.as_path().to_owned();
        match part {
            Component::RootDir => done = PathBuf::from("/"),
            // What is before it is no link.
            Component::ParentDir => drop(done.pop()),
            Component::Normal(name) => {
                done.push(name);
                if !plain.contains(&done) {
                    if !may_look(&done) {
                        return done.join(after);
                    }
                    let below = done.strip_prefix("/").unwrap_or(&done);
                    match readlinkat(root.as_fd(), below) {
                        Ok(target) if links < MOST_LINKS => {
                            links += 1;
                            done.pop();
                            rest = Path::new(&target).join(after);
                            continue;
                        }
                        _ => drop(plain.insert(done.clone())),
                    }
                }
            }
            Component::CurDir | Component::Prefix(_) => {}
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_every_kind() {
        let dir = tempfile::tempdir().unwrap();
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, dir.path().join(name)).unwrap();
        };
        std::fs::create_dir_all(dir.path().join("real/dir")).unwrap();
        link("/real", "absolute");
        link("../real/./dir", "real/relative");
        link("absolute/relative", "twice");
        link("/mnt/vol/a", "into");
        link("loop", "loop");
        let root = std::fs::File::open(dir.path()).unwrap();
        let mut plain = HashSet::new();
        let mut of = |path: &str| {
            let may_look = |path: &Path| !path.starts_with("/mnt/vol");
            follow(&root, Path::new(path), &mut plain, may_look)
        };
        for (path, wanted) in [
            ("/real/dir/x", "/real/dir/x"),
            ("/absolute/dir", "/real/dir"),
            ("/twice/x", "/real/dir/x"),
            ("/into/low", "/mnt/vol/a/low"),
            ("/real/../into/b", "/mnt/vol/a/b"),
            ("/loop/x", "/loop/x"),
            ("/", "/"),
        ] {
            assert_eq!(of(path), Path::new(wanted), "{path}");
        }
        assert!(answers_by_itself("ext4") && !answers_by_itself("fuse.volfs"));
    }
}
