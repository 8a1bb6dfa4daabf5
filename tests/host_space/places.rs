//! The file systems, and stores on them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Mount, OwnFs};

pub const MIB: u64 = 1 << 20;

/// A file system with a mounted store on it.
pub struct Place {
    pub name: &'static str,
    /// The unit in which it allocates.
    pub unit: u64,
    pub mount: Mount,
    // After the mount.
    pub host: OwnFs,
}

/// All of them, one after the other: each is gone when the next is made.
pub fn each(mut check: impl FnMut(&mut Place)) {
    let xfs = ["mkfs.xfs", "-q"];
    let loops: [(&str, u64, &[&str]); 6] = [
        ("ext4", 4096, &["mkfs.ext4", "-q"]),
        (
            "ext4 with clusters",
            65_536,
            &["mkfs.ext4", "-qO", "bigalloc", "-C", "65536"],
        ),
        ("xfs", 4096, &xfs),
        (
            "xfs without reflinks",
            4096,
            &["mkfs.xfs", "-qm", "reflink=0"],
        ),
        (
            "xfs with extents of 1 MiB",
            1 << 20,
            &["mkfs.xfs", "-qm", "reflink=0", "-d", "extszinherit=256"],
        ),
        ("btrfs", 4096, &["mkfs.btrfs", "-qm", "single"]),
    ];
    for (name, unit, mkfs) in loops {
        check(&mut Place::new(name, unit, OwnFs::new(mkfs, 1 << 30)));
    }
    check(&mut Place::new("tmpfs", 4096, OwnFs::tmpfs("size=1g")));
}

impl Place {
    pub fn new(name: &'static str, unit: u64, host: OwnFs) -> Self {
        println!("--- {name}");
        let mount = Mount::builder().parent(host.path()).start();
        Self {
            name,
            unit,
            mount,
            host,
        }
    }

    /// Makes a volume with a limit.
    pub fn limited(&self, name: &str, limit: u64) -> PathBuf {
        let limit = limit.to_string();
        self.mount.volfs().ok(&["create", name, "--quota", &limit]);
        self.mount.join(name)
    }

    /// What a volume is charged.
    pub fn charged(&self, name: &str) -> u64 {
        let list = self.mount.volfs().list();
        let found = list.iter().find(|volume| volume["name"] == name);
        found.unwrap()["used"]["bytes"].as_u64().unwrap()
    }

    /// What is charged is right.
    pub fn verify(&self) {
        self.mount.volfs().ok(&["verify"]);
    }
}

/// Makes files of one byte in `dir` until there is no room; how many.
pub fn fill_with_small_files(dir: &Path) -> u64 {
    (0..)
        .find(|n| match fs::write(dir.join(n.to_string()), "x") {
            Ok(()) => false,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
                true
            }
        })
        .unwrap()
}
